"""What a server sends to a process that it spawns, and what it gets back before the process serves."""

from __future__ import annotations

import os
from typing import Annotated

import msgspec

from hostler.failures import Failure

DRAIN = 60.0  # seconds for the calls in flight when the process must end; no caller waits longer (§4.3)


class Order(msgspec.Struct, frozen=True):
    """What the process is for: a model's artifact and framework, or neither for a worker."""

    folder: str
    framework: str
    socket: str  # path to listen on


class Report(msgspec.Struct, frozen=True):
    """What became of the load. `status` 200: it serves, and holds `memory` bytes; else the answer to the load."""

    status: Annotated[int, msgspec.Meta(ge=200, le=599)]
    message: str = ""
    memory: int = 0
    failure: Failure | None = None  # the same as `message`, in data


def send_report(pipe: int, report: Report) -> None:
    """Write the report, and close its pipe."""
    data = msgspec.json.encode(report) + b"\n"
    while data:
        data = data[os.write(pipe, data) :]
    os.close(pipe)
