"""A load that a container has no memory for is refused, so that the platform unloads something first (507, §5.8).

Only where the server is alone. Elsewhere the platform counts memory itself.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator
from pathlib import Path

from hostler.servers import cgroup
from hostler.servers.runners.runner import LoadFailed

_RESERVE = 0.05  # of the container's memory, for calls


@contextlib.asynccontextmanager
async def limit(folder: Path, replicas: int) -> AsyncIterator[None]:
    """Load, in the body, the model in a folder. Raises LoadFailed (507) if the container has no memory for it.

    That is so if it would leave less than the reserve (it takes at least the size of its files, in each of its
    `replicas`), and if the load fails while the kernel ends a process of the container for its memory.
    """
    await _check(folder, replicas)
    kills = cgroup.kills()
    try:
        yield
    except LoadFailed as error:
        if error.status != 500 or cgroup.kills() == kills:
            raise
        raise LoadFailed(507, f"no memory for the model: {error}", error.ended, failure=error.failure) from None


async def _check(folder: Path, replicas: int) -> None:
    size = await asyncio.get_running_loop().run_in_executor(None, _size, folder)
    left, total = cgroup.memory_left()
    if total and left - size * replicas < total * _RESERVE:
        raise LoadFailed(
            507, f"no memory for the model: its files have {_mib(size)} MiB, of {_mib(total)} MiB {_mib(left)} are left"
        )


def _size(folder: Path) -> int:
    """Return the bytes of all files below a folder, which may be a link."""
    return sum(
        os.stat(os.path.join(path, name)).st_size
        for path, _, names in os.walk(os.path.realpath(folder))
        for name in names
        if os.path.exists(os.path.join(path, name))
    )


def _mib(size: int) -> int:
    return size >> 20
