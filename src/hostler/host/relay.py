"""The relay: it passes bytes between a unix socket of the machine and a port of the loopback of its own network.

So a command without a network gets calls: the socket is a file, and the relay runs in the command's network namespace.
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading

_PIECE = 65_536  # bytes passed on at a time


def start(listener: socket.socket, port: int) -> None:
    """Relay each connection to 127.0.0.1:`port`, in a thread, until this process ends."""
    serving = _serve(listener, port)
    threading.Thread(target=asyncio.run, args=(serving,), name="relay", daemon=True).start()


async def _serve(listener: socket.socket, port: int) -> None:
    async def connected(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        with contextlib.suppress(OSError):  # nothing listens there yet: the caller finds its connection closed
            async with asyncio.timeout(5):
                other_reader, other_writer = await asyncio.open_connection("127.0.0.1", port, limit=_PIECE)
            await _pass_on(reader, writer, other_reader, other_writer)
        writer.close()

    server = await asyncio.start_unix_server(connected, sock=listener, limit=_PIECE)
    await server.serve_forever()


async def _pass_on(
    reader: asyncio.StreamReader,
    writer: asyncio.StreamWriter,
    other_reader: asyncio.StreamReader,
    other_writer: asyncio.StreamWriter,
) -> None:
    """Pass bytes on in both directions until one side closes; then close the other once it has all of them."""
    pumps = [asyncio.create_task(_pump(reader, other_writer)), asyncio.create_task(_pump(other_reader, writer))]
    await asyncio.wait(pumps, return_when=asyncio.FIRST_COMPLETED)
    for pump in pumps:
        pump.cancel()
    for end in (writer, other_writer):
        end.close()
    await asyncio.gather(*pumps, return_exceptions=True)


async def _pump(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    with contextlib.suppress(OSError):
        while data := await reader.read(_PIECE):
            writer.write(data)
            await writer.drain()
