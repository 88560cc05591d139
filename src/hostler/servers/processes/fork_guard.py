"""Children that the user's code forks. Nothing of ours may go on in them.

They have our loop and its sockets: one that went on would take the requests and the answers of others, and what
signals one of them would signal our loop.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def exit_if_forked() -> Iterator[None]:
    """Run the user's code in here. A process that leaves this, but did not enter it, exits and flushes nothing."""
    here = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != here:
            os._exit(0)


def default_signals_in_children() -> None:
    """From now on SIGTERM ends a forked child. Without this it would set off our loop: they share its signal pipe."""
    here = os.getpid()

    def become() -> None:
        if os.getppid() == here:  # its own children's signals are that child's matter
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _release()

    os.register_at_fork(before=_hold, after_in_parent=_release, after_in_child=become)


def _hold() -> None:
    """No signal may come to a child before it has become one."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _release() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
