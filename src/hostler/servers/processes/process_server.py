"""How a process of a server is called: on its socket by the server, and on a port by gateways, once the server says so.

A port is open to whoever reaches the container, and may have been another process's before: there it takes calls of its
own models alone.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from hostler.contract import PING
from hostler.servers.processes.protocol import LISTEN
from hostler.text import is_count
from hostler.wire.everywhere import listen_everywhere
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_request import Request
from hostler.wire.http_server import Server, serve


class ProcessServer:
    """Serves one process. `handle` answers a request on the socket, `call` one on the port: False if it is no call."""

    def __init__(
        self, handle: Callable[[Request], None], call: Callable[[Request], bool], limits: ConnectionLimits
    ) -> None:
        self._handle = handle
        self._call = call
        self._limits = limits
        self._servers: list[Server] = []
        self._opening: set[asyncio.Task[None]] = set()

    async def start(self, path: str) -> None:
        """Listen on a unix socket. Raises OSError."""
        self._servers.append(await serve(self._on_socket, path=path, limits=self._limits))

    async def close(self, drain: float) -> None:
        """End when the calls in flight have ended, in `drain` seconds at most."""
        await asyncio.gather(*(server.close(drain) for server in self._servers))

    def _on_socket(self, request: Request) -> None:
        port = request.path.removeprefix(LISTEN)
        if port == request.path or not is_count(port):
            self._handle(request)
            return
        opening = asyncio.ensure_future(self._open(request, int(port)))
        self._opening.add(opening)
        opening.add_done_callback(self._opening.discard)

    async def _open(self, request: Request, port: int) -> None:
        """Listen on a port, and answer 200; 409 if that is impossible."""
        try:
            listener = listen_everywhere(port)
            self._servers.append(await serve(self._on_port, sock=listener, limits=self._limits))
        except (OSError, OverflowError) as error:
            request.answer(409, str(error).encode(), "text/plain")
        else:
            request.answer(200)

    def _on_port(self, request: Request) -> None:
        if request.path == PING:
            request.answer(200)
        elif not self._call(request):
            message = "This process does not serve what was requested."
            body = {"code": 404, "type": "ResourceNotFoundException", "message": message}
            request.answer(404, msgspec.json.encode(body))
