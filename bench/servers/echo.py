"""The echo server: a container that answers a body with itself, as cheaply as Python can.

With the argument `mark` it adds a full stop, so that a pipeline's answer shows its stages.

The same for all contenders: hostler runs it as a mapped image, nginx forwards to it, pipelines consist of it. Listens
on SAGEMAKER_BIND_TO_PORT.
"""

from __future__ import annotations

import asyncio
import os
import sys

import httptools
import uvloop

MARK = [b"."] if "mark" in sys.argv else []


class Echo(asyncio.Protocol):
    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        self._transport = transport
        self._parser = httptools.HttpRequestParser(self)
        self._parts: list[bytes] = []

    def data_received(self, data: bytes) -> None:
        self._parser.feed_data(data)

    def on_body(self, part: bytes) -> None:
        self._parts.append(part)

    def on_message_complete(self) -> None:
        parts, self._parts = [*self._parts, *MARK], []
        if self._transport.is_closing():
            return
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: %d\r\n\r\n" % sum(map(len, parts))
        self._transport.writelines([head, *parts])


async def main() -> None:
    port = int(os.environ.get("SAGEMAKER_BIND_TO_PORT", "8080"))
    server = await asyncio.get_running_loop().create_server(Echo, "127.0.0.1", port, backlog=4096)
    await server.serve_forever()


uvloop.run(main())
