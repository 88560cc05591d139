"""The agent's page, which Kubernetes asks: /started (may the containers start?) and /serving (is it in a route?).

Gateways keep a connection to it open, on which they send nothing: its silence means that the machine is gone.
"""

from __future__ import annotations

import math

from hostler.agent.memory import Memory
from hostler.wire.everywhere import listen_everywhere
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_request import Request
from hostler.wire.http_server import Server, serve

_LIMITS = ConnectionLimits(body=0, idle_time=math.inf, connections=2_000, connections_of_one=64)  # strangers come, too


async def open_page(memory: Memory, port: int) -> Server:
    """Answer on all addresses of this machine. Raises OSError."""

    def handle(request: Request) -> None:
        answers = {"/started": memory.now.started, "/serving": memory.now.serving}
        yes = answers.get(request.path)
        status = 404 if yes is None else 200 if yes else 503
        request.answer(status, b"" if yes is None else b"yes\n" if yes else b"no\n", "text/plain")

    return await serve(handle, sock=listen_everywhere(port), limits=_LIMITS)
