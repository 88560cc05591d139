"""Ways for a process to end with another process, however that one ends.

The lifeline is a pipe whose write end only the host has: it closes when the host ends.
"""

from __future__ import annotations

import asyncio
import ctypes
import os
import signal
import threading
from collections.abc import Callable

from hostler.processes.tree import end_descendants, parents

_PR_SET_PDEATHSIG = 1
_PIDFD_OPEN = 434  # on every architecture. Python has os.pidfd_open only where the system that built it had it
_LOOK = 1.0  # seconds between two looks, where the kernel tells nothing


def exit_with_parent(parent: int) -> None:
    """Have the system kill this process when its parent exits, even if no thread of ours can run.

    `parent` is the parent's pid before the fork; if it has exited since, this process exits now.
    """
    ctypes.CDLL(None).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL, 0, 0, 0)
    if os.getppid() != parent:
        os._exit(1)


def leave_with(fd: int) -> None:
    """End this process and all that descends from it, at once, when the pipe's other end closes.

    A thread blocks on the read, so that a busy event loop cannot delay it. The fd is not inherited by children.
    """
    os.set_inheritable(fd, False)

    def wait() -> None:
        while os.read(fd, 1):
            pass
        end_descendants()
        os._exit(1)

    threading.Thread(target=wait, name="lifeline", daemon=True).start()


def open_pidfd(pid: int) -> int:
    """Return a descriptor that becomes readable when a process ends. Raises OSError."""
    descriptor: int = ctypes.CDLL(None, use_errno=True).syscall(_PIDFD_OPEN, pid, 0)
    if descriptor < 0:
        raise OSError(number := ctypes.get_errno(), os.strerror(number))
    return descriptor


async def ended(pid: int, open_pidfd: Callable[[int], int] = open_pidfd) -> None:
    """Return when a process has ended, whoever's child it is. Before Linux 5.3, and in some sandboxes, it is polled."""
    try:
        descriptor = open_pidfd(pid)
    except ProcessLookupError:
        return
    except OSError:
        while pid in await asyncio.to_thread(parents):  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(_LOOK)
        return
    over = asyncio.Event()
    asyncio.get_running_loop().add_reader(descriptor, over.set)
    try:
        await over.wait()
    finally:
        asyncio.get_running_loop().remove_reader(descriptor)
        os.close(descriptor)
