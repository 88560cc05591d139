"""Start a program as a child of this process, in its own session, with only the named file descriptors."""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Mapping, Sequence


def spawn(argv: Sequence[str], environment: Mapping[str, str], *, output: int = 2, keep: Iterable[int] = ()) -> int:
    """Start `argv` (its first word is looked up in our PATH) and return its pid. Raises OSError.

    stdin is empty, stdout and stderr go to the file descriptor `output`; those in `keep` stay open under their numbers.
    In a session of its own, it does not get the terminal's Ctrl-C, which is for the host alone.
    """
    actions: list[tuple[int, ...] | tuple[int, int, str, int, int]] = [
        (os.POSIX_SPAWN_OPEN, 0, "/dev/null", os.O_RDONLY, 0),
        (os.POSIX_SPAWN_DUP2, output, 1),
        (os.POSIX_SPAWN_DUP2, output, 2),
        *((os.POSIX_SPAWN_DUP2, number, number) for number in keep),  # onto itself: that clears close-on-exec
    ]
    return os.posix_spawnp(
        argv[0], [*argv], environment, file_actions=actions, setsid=True,
        setsigmask=(), setsigdef=(signal.SIGPIPE, signal.SIGXFSZ),
    )  # fmt: skip
