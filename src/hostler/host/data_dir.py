"""What must be ours before anything is started: the data folder, the port, a run folder. Refused in one clear line.

It also clears away what an earlier host, killed before it could, left in those places.
"""

from __future__ import annotations

import contextlib
import errno
import fcntl
import ipaddress
import json
import os
import shutil
import socket
import tempfile
import time
from dataclasses import replace
from pathlib import Path
from urllib.parse import urlsplit

from hostler.errors import UserError
from hostler.settings import Settings, restore

_PREFIX = "hostler-"
_LONGEST_PARENT = 24  # sockets of containers lie three levels below the run folder, and 108 bytes is all there is


def lock(data: Path) -> int:
    """Create the data folder (0700) and lock it. Returns the file to keep open; the lock ends with this process.

    Raises UserError when another host has it, or when it cannot be made.
    """
    try:
        data.mkdir(mode=0o700, parents=True, exist_ok=True)
        file = os.open(data / "lock", os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except OSError as error:
        raise UserError(f"the data folder {data} cannot be used: {error.strerror}") from None
    try:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            time.sleep(0.05)  # it may be `running`, below, that has it for a moment
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        holder = os.read(file, 20).decode(errors="replace").strip() or "unknown"
        os.close(file)
        raise UserError(f"the data folder {data} is in use by another hostler (process {holder})") from None
    os.ftruncate(file, 0)
    os.write(file, b"%d\n" % os.getpid())
    return file


def check_reach(host: str, port: int, allow_remote: bool) -> None:
    """Raise UserError for an address that other machines could reach, unless that was allowed in so many words."""
    addresses = {str(info[4][0]) for info in _resolved(host, port)}
    if not allow_remote and not all(ipaddress.ip_address(address).is_loopback for address in addresses):
        raise UserError(
            f"{host} can be reached from other machines, and hostler asks nobody who they are; "
            'set signatures = "verify", or if that is wanted add --allow-remote-access-without-authentication'
        )


def listen(host: str, port: int, patience: float = 0.0) -> socket.socket:
    """Bind the port, once, for all gateways. `patience`: seconds to wait for an earlier host's gateways to let it go.

    Raises UserError when it is taken. SO_REUSEADDR only: with SO_REUSEPORT a second host would share the port.
    """
    family, _, _, _, address = _resolved(host, port)[0]
    deadline = time.monotonic() + patience
    while True:
        listener = socket.socket(family, socket.SOCK_STREAM)
        listener.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            listener.bind(address)
            listener.listen(4096)
        except OSError as error:
            listener.close()
            if error.errno != errno.EADDRINUSE:
                raise UserError(f"hostler cannot listen on {host} port {port}: {error.strerror}") from None
            if time.monotonic() > deadline:
                raise UserError(f"port {port} on {host} is taken; choose another with --port") from None
            time.sleep(0.05)
        else:
            return listener


def left_behind(data: Path) -> bool:
    """Clear away what a host that was killed left: its run folder, its containers' folders. True if there was one."""
    record = data / "run"
    try:
        run = Path(record.read_text())
    except (OSError, UnicodeDecodeError):
        run = None
    if run is not None and run.name.startswith(_PREFIX) and run.is_absolute() and not run.is_symlink():
        shutil.rmtree(run, ignore_errors=True)
    shutil.rmtree(data / "containers", ignore_errors=True)
    record.unlink(missing_ok=True)
    (data / "url").unlink(missing_ok=True)
    return run is not None


def running(data: Path) -> Settings | None:
    """The settings of the hostler that runs on this data folder and is ready, with the host and port that reach it.

    What one that was killed left there is none. Raises UserError for a folder that may not be read.
    """
    try:
        url = urlsplit((data / "url").read_text().strip())
        with open(data / "lock", "rb") as file:
            try:
                fcntl.flock(file, fcntl.LOCK_SH | fcntl.LOCK_NB)
            except BlockingIOError:
                pass  # a host holds it
            else:
                return None
        settings = restore(json.loads((Path((data / "run").read_text()) / "settings.json").read_text()))
        return replace(settings, host=url.hostname, port=url.port) if url.hostname and url.port else None
    except (FileNotFoundError, NotADirectoryError):
        return None
    except OSError as error:
        raise UserError(f"the data folder {data} cannot be read: {error.strerror}") from None
    except (ValueError, KeyError, TypeError):
        raise UserError(f"what runs in {data} is a hostler of another version") from None


def run_folder(data: Path) -> Path:
    """Make a private run folder with a short path, and record it in the data folder."""
    parent = tempfile.gettempdir()
    run = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=parent if len(parent) <= _LONGEST_PARENT else "/tmp"))
    (data / "run").write_text(str(run))
    (run / "c").mkdir()
    # Programs that clean /tmp of what is old leave a locked folder alone. The lock lives as long as this process.
    fcntl.flock(os.open(run, os.O_RDONLY | os.O_CLOEXEC), fcntl.LOCK_SH)
    return run


def leave(data: Path, run: Path) -> None:
    """Remove the run folder and every sign of it."""
    shutil.rmtree(run, ignore_errors=True)
    for name in ("run", "url"):
        with contextlib.suppress(OSError):
            (data / name).unlink(missing_ok=True)


def _resolved(host: str, port: int) -> list[tuple[socket.AddressFamily, socket.SocketKind, int, str, tuple[str, int]]]:
    try:
        return socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)  # type: ignore[return-value]
    except OSError as error:
        raise UserError(f"hostler cannot listen on {host} port {port}: {error.strerror or error}") from None
    except UnicodeError:
        raise UserError(f"hostler cannot listen on {host} port {port}: that is no name of a machine") from None
