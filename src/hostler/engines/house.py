"""The house: by its id a data folder knows its own containers in Docker, and pods in a cluster, among those of others.

It is in the file `house` of the data folder from the first use of either on. A copy of a data folder gets a house of
its own: the original and the copy never touch each other's. It sends no requests.
"""

from __future__ import annotations

import hashlib
import os
import re
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hostler.engines.own_container import own_container
from hostler.errors import EngineError

LABEL = "hostler.house"  # of all containers and networks that hostler makes
DATA_LABEL = "hostler.data"  # path of the data folder, as its hostler sees it
PLACE_LABEL = "hostler.place"  # where that path means something

FILE = "house"
_ID = re.compile(r"[0-9a-f]{12}")


class _Note(msgspec.Struct, frozen=True):
    """The file's content. A folder with another path, or a file with another inode, is a copy."""

    id: str
    path: str
    inode: int


@dataclass(frozen=True)
class House:
    """`place`: the machine, or the container, in which the hostler runs that has this data folder."""

    id: str
    data: Path
    place: str

    @property
    def labels(self) -> Mapping[str, str]:
        """The labels of everything that it makes in Docker."""
        return {LABEL: self.id, DATA_LABEL: str(self.data), PLACE_LABEL: self.place}


def exists(data: Path) -> bool:
    """Return whether Docker or a cluster was ever used with this data folder."""
    return (data / FILE).exists()


def open_house(data: Path) -> House:
    """Return the house of a data folder, made if there is none yet, or if the folder is a copy. Raises EngineError.

    Only the hostler that has locked the data folder may call it.
    """
    data = data.resolve()
    try:
        id = read_id(data) or _make(data)
    except OSError as error:
        raise EngineError(f"{data / FILE} cannot be used: {error.strerror or error}") from None
    return House(id, data, place())


def read_id(data: Path) -> str:
    """Return the id of a data folder's house; empty if there is none, or it is another folder's. Raises OSError."""
    try:
        with open(data / FILE, "rb") as file:
            inode = os.fstat(file.fileno()).st_ino
            note = msgspec.json.decode(file.read(), type=_Note)
    except (FileNotFoundError, NotADirectoryError, msgspec.MsgspecError):
        return ""
    return note.id if _ID.fullmatch(note.id) and (note.path, note.inode) == (str(data), inode) else ""


def _make(data: Path) -> str:
    """Write a new house. The file is complete as soon as it is there, and stays, before anything has its id."""
    id, new = os.urandom(6).hex(), data / f"{FILE}.new"
    with open(new, "wb") as file:
        os.fchmod(file.fileno(), 0o600)
        file.write(msgspec.json.encode(_Note(id, str(data), os.fstat(file.fileno()).st_ino)))
        file.flush()
        os.fsync(file.fileno())
    new.replace(data / FILE)
    folder = os.open(data, os.O_RDONLY)
    try:
        os.fsync(folder)
    finally:
        os.close(folder)
    return id


def place(mounts: Path = Path("/proc/self/mountinfo"), machine: Path = Path("/etc/machine-id")) -> str:
    """Return a name of where this process's paths mean something: its container, or else its machine."""
    if container := own_container(mounts):
        return f"container {container[:12]}"
    try:
        name = machine.read_text().strip() or socket.gethostname()
    except OSError:
        name = socket.gethostname()
    # The machine's id is not for others to see; a hash of it names the machine as well.
    return f"machine {hashlib.sha256(name.encode()).hexdigest()[:12]}"
