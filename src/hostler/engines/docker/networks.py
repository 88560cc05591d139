"""The network of all instances: one bridge for each Docker, on which containers cannot reach each other."""

from __future__ import annotations

import asyncio
import re

import aiodocker

from hostler.engines.docker.answers import FoundNetwork, read
from hostler.engines.docker.client import SLOW, DockerRefused, ask

NAME = "hostler"
GONE = re.compile(r"network \S+ not found")  # Docker's word when a container is started whose network was removed
_LABEL = "hostler.network"
_NO_NEIGHBOURS = {"com.docker.network.bridge.enable_icc": "false"}


class Network:
    """Found by its label, or made. It is used by its id, because Docker allows two networks of the same name.

    While nothing runs in it, others may remove it: another hostler that ends, too.
    """

    def __init__(self, docker: aiodocker.Docker) -> None:
        self._docker = docker
        self._making = asyncio.Lock()

    async def id(self) -> str:
        """Return its id; made if it is not there. Raises EngineError."""
        async with self._making:
            return await self._find() or await self._make()

    async def _find(self) -> str:
        """Return the id of the first one, by its creation: of two hostlers that made one each, both take the same."""
        listed = await ask(self._docker.networks.list(filters={"label": [_LABEL]}))
        found = [read(network, FoundNetwork) for network in listed]
        return min(found, key=lambda network: (network.created, network.id)).id if found else ""

    async def _make(self) -> str:
        await ask(
            self._docker.networks.create(
                {
                    "Name": NAME,
                    "Driver": "bridge",
                    "CheckDuplicate": True,
                    "Labels": {_LABEL: "1"},
                    "Options": _NO_NEIGHBOURS,
                }
            ),
            SLOW,
        )
        return await self._find()


async def remove_unused(docker: aiodocker.Docker) -> list[str]:
    """Remove hostler's networks that no container is connected to; return their names. Raises EngineError."""
    removed = []
    for network in await ask(docker.networks.list(filters={"label": [_LABEL]})):
        try:
            await ask((await ask(docker.networks.get(read(network, FoundNetwork).id))).delete(), SLOW)
        except DockerRefused as error:  # in use, or another hostler has removed it
            if error.status not in (403, 404, 409):
                raise
        else:
            removed.append(NAME)
    return removed
