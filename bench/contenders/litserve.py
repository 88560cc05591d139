"""LitServe, with our LRU in its worker, because it serves one model only."""

from __future__ import annotations

import json
from typing import ClassVar

from contenders.contender import JSON, PEER_CONNECTIONS, SERVERS, Call, Contender, Service, free_port, member


class LitServe(Contender):
    name = "LitServe"
    settings = (
        "1 API process, 1 inference process, asyncio by uvloop, the fast queue, no access log; JSON; the LRU is ours"
    )
    environment = "litserve"
    unsupported: ClassVar = {"pipeline": "cannot chain models but by code within one of them"}
    connections = PEER_CONNECTIONS
    start_within = 120.0

    def start(self, service: Service) -> None:
        self.port = free_port()
        self.run(self.python(), SERVERS / "litserve_app.py", str(self.port), **self.served(service))
        self.wait(lambda: self.answers("/health"))

    def call(self, target: int, row: str) -> Call:
        return Call("/predict", json.dumps({"model": str(target), "row": row}).encode(), {"Content-Type": JSON})

    def echo(self, body: bytes) -> Call:
        return Call("/predict", json.dumps({"body": body.decode()}).encode(), {"Content-Type": JSON})

    def echoed(self, answer: bytes) -> bytes:
        return str(member(answer, "body")).encode()
