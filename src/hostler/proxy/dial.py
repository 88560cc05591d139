"""Connects to a host: to its addresses in turn, each a little after the one before it, until one answers (RFC 8305)."""

from __future__ import annotations

import asyncio
import os
import socket
from typing import Any

_NEXT = 0.25  # seconds after which the next address is tried, too


async def dial(host: str, port: int) -> socket.socket:
    """Return a connected socket. Raises OSError: that of the last address that failed."""
    addresses = await asyncio.get_running_loop().getaddrinfo(host, port, type=socket.SOCK_STREAM)
    pending: set[asyncio.Task[socket.socket]] = set()
    found: list[socket.socket] = []
    error: OSError | None = None
    try:
        while (addresses or pending) and not found:
            if addresses:
                family, _, protocol, _, address = addresses.pop(0)
                pending.add(asyncio.create_task(_connected(family, protocol, address)))
            wait = _NEXT if addresses else None
            done, pending = await asyncio.wait(pending, timeout=wait, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                failure = task.exception()
                if failure is None:
                    found.append(task.result())
                elif isinstance(failure, OSError):
                    error = failure
                else:
                    raise failure
    finally:
        for task in pending:
            task.cancel()
        for late in found[1:]:
            late.close()
    if not found:
        raise error or OSError(0, "it has no address")
    return found[0]


async def _connected(family: int, protocol: int, address: Any) -> socket.socket:
    sock = socket.socket(family, socket.SOCK_STREAM, protocol)
    sock.setblocking(False)
    try:
        await asyncio.get_running_loop().sock_connect(sock, address)
    except OSError as error:
        sock.close()
        raise OSError(error.errno, os.strerror(error.errno or 0)) from None  # asyncio writes the address instead
    except BaseException:
        sock.close()
        raise
    return sock
