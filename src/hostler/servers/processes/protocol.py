"""The messages of a spawn: the spec that a server sends to the process, and the report that it gets back.

Later it may send a request to the process's socket: POST LISTEN with a number, so that it listens on that port, too.
"""

from __future__ import annotations

import os
from typing import Annotated, NamedTuple

import msgspec

from hostler.failures import Failure

LISTEN = "/hostler/port/"  # a path, before the number
DRAIN = 60.0  # seconds for the calls in flight of a process that must end; no caller waits longer (§4.3)


class ProcessSpec(msgspec.Struct, frozen=True):
    """A process to run: for a model, its artifact and framework; for a worker, both are empty."""

    folder: str
    framework: str
    socket: str  # path to listen on
    label: str  # names it in the log
    name: str = ""  # of the model


class ProcessFds(NamedTuple):
    """The file descriptors that come with the spec, in this order."""

    report: int  # pipe for the report
    lifeline: int
    page: int  # both of call_notes.py
    bell: int


class LoadReport(msgspec.Struct, frozen=True):
    """The outcome of a load. `status` 200: the process serves and takes `memory` bytes; else the answer's status."""

    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    message: str = ""
    memory: int = 0
    failure: Failure | None = None  # the same as `message`, in data


def send_report(pipe: int, report: LoadReport) -> None:
    """Write the report as a line of JSON, and close the pipe."""
    data = msgspec.json.encode(report) + b"\n"
    while data:
        data = data[os.write(pipe, data) :]
    os.close(pipe)
