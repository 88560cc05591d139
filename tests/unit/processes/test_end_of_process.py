"""Another process's end is noticed, whoever's child it is, also where the kernel has no pidfd."""

from __future__ import annotations

import asyncio
import errno
import os
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator

import pytest

from hostler.processes.lifeline import ended, open_pidfd

GUARD = 120  # seconds
PARENT = "import subprocess, sys; print(subprocess.Popen([sys.executable, '-c', 'input()']).pid)"


def refused(pid: int) -> int:
    raise OSError(errno.ENOSYS, os.strerror(errno.ENOSYS))


ways = pytest.mark.parametrize("opens", [open_pidfd, refused], ids=["told", "polled"])


@pytest.fixture
def grandchild() -> Iterator[int]:
    """The pid of a process that is nobody's child any more; it ends with its stdin."""
    with subprocess.Popen([sys.executable, "-c", PARENT], stdin=subprocess.PIPE, stdout=subprocess.PIPE) as parent:
        assert parent.stdout
        assert parent.stdin
        pid = int(parent.stdout.readline())
        parent.wait(GUARD)
        yield pid


@pytest.fixture
def collected() -> int:
    """The pid of a process that has ended, and is no zombie."""
    with subprocess.Popen([sys.executable, "-c", ""]) as child:
        child.wait(GUARD)
    return child.pid


@ways
async def test_a_grandchilds_end_is_noticed(grandchild: int, opens: Callable[[int], int]) -> None:
    waiting = asyncio.ensure_future(ended(grandchild, opens))
    assert not (await asyncio.wait([waiting], timeout=0.1))[0]
    os.kill(grandchild, signal.SIGKILL)
    await asyncio.wait_for(waiting, GUARD)


@ways
async def test_a_process_that_is_not_there_has_ended(collected: int, opens: Callable[[int], int]) -> None:
    await asyncio.wait_for(ended(collected, opens), GUARD)
