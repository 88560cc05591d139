"""The zones of nodes, for people. Kubernetes before 1.35 says them of the nodes alone, and not of pods.

Each node is asked for once, by its name, one after the other. Nobody waits for it, and where control may not read nodes
there are no zones.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from lightkube.resources.core_v1 import Node

from hostler.engines.kubernetes import pods
from hostler.engines.kubernetes.api import Api, Refused, ask
from hostler.errors import EngineAway

logger = logging.getLogger("hostler.engine")

_RETRY = 1.0  # seconds until a server that was away is asked again


class Zones:
    """`found`: called with the name of a node whose zone was not known before."""

    def __init__(self, api: Api, found: Callable[[str], object]) -> None:
        self._api, self._found = api, found
        self._zones: dict[str, str] = {}  # by node; empty: it has none
        self._unknown: set[str] = set()  # nodes to ask for
        self._allowed = True
        self._asking: asyncio.Task[None] | None = None

    def of(self, node: str) -> str:
        """Return a node's zone; empty: it has none, or it is not known yet, and will be asked for."""
        if node and self._allowed and node not in self._zones:
            self._unknown.add(node)
            if self._asking is None or self._asking.done():
                self._asking = asyncio.create_task(self._ask(), name="zones of nodes")
        return self._zones.get(node, "")

    async def close(self) -> None:
        """Ask no more."""
        if self._asking is not None:
            self._asking.cancel()
            await asyncio.gather(self._asking, return_exceptions=True)

    async def _ask(self) -> None:
        while self._unknown:
            node = next(iter(self._unknown))
            try:
                zone = await self._read(node)
            except EngineAway:
                await asyncio.sleep(_RETRY)
                continue
            except Refused as error:
                if error.code in (401, 403):
                    logger.info("the zones of nodes are not known: %s", error)
                    self._allowed = False
                    return
                zone = ""  # the node is gone
            self._unknown.discard(node)
            self._zones[node] = zone
            if zone:
                self._found(node)

    async def _read(self, node: str) -> str:
        found = await ask(self._api.client.get(Node, node))
        labels: dict[str, str] = (found.metadata and found.metadata.labels) or {}
        return labels.get(pods.ZONE, "")
