"""A guard against children that the user's code forks: none of our code may run on in them.

They inherit our loop and its sockets: a child that ran on would take the requests and answers of others, and a signal
to it would reach our loop.
"""

from __future__ import annotations

import contextlib
import os
import signal
from collections.abc import Iterator


@contextlib.contextmanager
def exit_if_forked() -> Iterator[None]:
    """Guard the user's code: a process that leaves this context but did not enter it exits, and flushes nothing."""
    pid = os.getpid()
    try:
        yield
    finally:
        if os.getpid() != pid:
            os._exit(0)


def default_signals_in_children() -> None:
    """Have SIGTERM end forked children from now on. Otherwise it would wake our loop: they share its signal pipe."""
    pid = os.getpid()

    def reset() -> None:
        if os.getppid() == pid:  # not in the children of a child
            signal.set_wakeup_fd(-1)
            signal.signal(signal.SIGTERM, signal.SIG_DFL)
        _unblock()

    os.register_at_fork(before=_block, after_in_parent=_unblock, after_in_child=reset)


def _block() -> None:
    """Block SIGTERM until the child has its own handler."""
    signal.pthread_sigmask(signal.SIG_BLOCK, [signal.SIGTERM])


def _unblock() -> None:
    signal.pthread_sigmask(signal.SIG_UNBLOCK, [signal.SIGTERM])
