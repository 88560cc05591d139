"""Ways for a process to end with another process, however that one ends.

The lifeline is a pipe whose write end only the host has: it closes when the host ends.
"""

from __future__ import annotations

import ctypes
import os
import signal
import threading

from hostler.processes.tree import end_descendants

_PR_SET_PDEATHSIG = 1


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
