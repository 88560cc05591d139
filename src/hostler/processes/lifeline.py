"""The lifeline: a pipe whose write end only the host holds. When the host is gone, however it went, it closes."""

from __future__ import annotations

import os
import threading

from hostler.processes.tree import end_descendants


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
