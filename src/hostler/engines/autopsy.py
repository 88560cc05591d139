"""What is left of a container that failed: its log, its program, its own report, its ports; fit to be shown."""

from __future__ import annotations

import os
import shutil
import sys
from collections.abc import Callable, Collection, Iterable, Sequence
from pathlib import Path
from typing import Protocol

import msgspec

from hostler import contract, failures
from hostler.engines import ports
from hostler.engines.engine import Autopsy
from hostler.engines.log_files import OWN_LINE
from hostler.engines.rooms import Room
from hostler.failures import Failure
from hostler.text import hide_folders, printable

_HEAD = 256  # bytes at the begin of a program in which the system looks for an interpreter


class _Listener(Protocol):
    """A socket that listens; `loopback`: for callers within its own network alone."""

    @property
    def port(self) -> int: ...

    @property
    def loopback(self) -> bool: ...


def examine(room: Room, log: str, data: Path) -> Autopsy:
    """Read what a container of this machine has left in its room. Blocks.

    `log`: the end of its output. `data`: the data folder. Lines of hostler's own in the
    output are left out: no container's failure is explained by them.
    """
    command = room.server.command
    hidden = private_folders(data)

    def show(text: str) -> str:
        return presentable(text, room.folder, hidden, command)

    program, interpreter = _program(command)
    return Autopsy(
        log=show("".join(line for line in log.splitlines(keepends=True) if not line.startswith(OWN_LINE))),
        failure=_shown_failure(failures.read(room.folder), show),
        program=program,
        interpreter=interpreter,
    )


def private_folders(data: Path) -> list[str]:
    """Return the folders of this machine that a FailureReason must not show, though a container's log may.

    They are the data and run folders, those of hostler and its libraries, and the home folder. Reads a file.
    """
    try:
        run = [(data / "run").read_text()]  # the host wrote its run folder's path there
    except (OSError, UnicodeDecodeError):
        run = []
    libraries = [sys.prefix] if sys.prefix != sys.base_prefix else []
    return [str(data), *run, str(Path(__file__).parents[2]), os.path.expanduser("~"), *libraries]


def presentable(text: str, folder: Path, private: Iterable[str | Path] = (), named: Collection[str] = ()) -> str:
    """Return a log without empty lines, control characters, and this machine's folders.

    The container's own folder becomes /opt/ml; a path in one of the `private` folders becomes its file name, unless
    people have `named` it themselves; a character that would control a terminal becomes a question mark.
    """
    text = printable(text, "\t\r\n")
    text = "\n".join(filter(str.strip, text.replace(str(folder), contract.BASE_DIR).splitlines()))
    folders = {path for name in private for path in (str(name), os.path.realpath(name))}
    return hide_folders(text, folders, named)


def with_ports(
    found: Autopsy, listeners: Iterable[_Listener], position: int, count: int, others: Collection[int] = ()
) -> Autopsy:
    """Add on which port a container should listen, and on which it does.

    Its neighbours, `count` containers in all, and what has the `others` share its network: those ports are not its own.
    """
    port = ports.port(position)
    theirs = {ports.port(other) for other in range(count) if other != position}.union(others)
    own = [listener for listener in listeners if listener.port not in theirs]
    there = [listener for listener in own if listener.port == port]
    return msgspec.structs.replace(
        found,
        port=port,
        listening=tuple(sorted({listener.port for listener in own})),
        loopback=bool(there) and all(listener.loopback for listener in there),
    )


def _program(command: Sequence[str]) -> tuple[str, str]:
    """Return a command's program, and the interpreter in its first line; empty: none, or no such program here."""
    program = command[0] if command else ""
    try:
        with open(shutil.which(program) or program, "rb") as file:
            first = file.read(_HEAD).partition(b"\n")[0]
    except (OSError, ValueError):
        return program, ""
    words = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
    return program, words[0] if words else ""


def _shown_failure(failure: Failure | None, show: Callable[[str], str]) -> Failure | None:
    """Make a failure fit to be shown, as a log is; None without a failure or without a line of text in its message."""
    message = show(failure.message).partition("\n")[0] if failure else ""
    if failure is None or not message:
        return None
    advice = " ".join(show(failure.advice).splitlines())
    return msgspec.structs.replace(failure, message=message, advice=advice, line=show(failure.line))
