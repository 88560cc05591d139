"""The relay: it passes bytes between unix sockets of the machine and ports of the loopback of its own network.

So a command without a network gets calls: a socket is a file, and the relay runs in the command's network namespace.

Run as `python relay.py FOLDER NAME=PORT...`, it serves a socket FOLDER/NAME/s for each port until SIGTERM; the folders
are there. It imports the standard library alone: in a container there may be nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import socket
import sys
import threading

_PIECE = 65_536  # bytes passed on at a time
_BACKLOG = 4096  # connections that wait


def main(folder: str, *ports: str) -> None:
    """Relay sockets in the folder to ports, each given as NAME=PORT. Raises OSError."""
    pairs = [word.partition("=")[::2] for word in ports]
    listeners = [(listen(f"{folder}/{name}/s"), int(port)) for name, port in pairs]

    async def serve() -> None:
        await asyncio.gather(*(_serve(*listener) for listener in listeners))

    asyncio.run(serve())


def listen(path: str) -> socket.socket:
    """Return a socket that listens there, in the place of one that an earlier relay left. Raises OSError.

    Whoever finds the path can connect: the socket gets its name when it listens.
    """
    listener = socket.socket(socket.AF_UNIX)
    try:
        listener.bind(f"{path}~")
        listener.listen(_BACKLOG)
        os.replace(f"{path}~", path)
    except OSError:
        listener.close()
        raise
    return listener


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


if __name__ == "__main__":
    main(*sys.argv[1:])
