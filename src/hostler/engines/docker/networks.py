"""The network of all instances: one bridge for each Docker, on which containers cannot reach each other."""

from __future__ import annotations

import asyncio
import re

import aiodocker

from hostler.engines.docker.answers import FoundNetwork, read
from hostler.engines.docker.client import SLOW, DockerRefused, ask

NAME = "hostler"
# Docker's words when a container is started whose network was removed, or while there are two of its name.
GONE = re.compile(r"network \S+ (?:not found|is ambiguous .*)")
_LABEL = "hostler.network"
_NO_NEIGHBOURS = {"com.docker.network.bridge.enable_icc": "false"}


class Network:
    """Found by its label, or made. Docker may make two of the same name for hostlers that ask for it at once: one goes.

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
        """Return the id of the one that is used, or was created first, and remove the others; empty: there is none.

        Of two of the same name Docker (20.10) starts a container in neither, also where it is named by its id.
        """
        listed = await ask(self._docker.networks.list(filters={"label": [_LABEL]}))
        found = sorted((read(network, FoundNetwork) for network in listed), key=lambda each: (each.created, each.id))
        kept = found[0].id if found else ""
        for each in found[1:]:
            if not await _remove(self._docker, each.id) and await _remove(self._docker, kept):
                kept = each.id
        return kept

    async def _make(self) -> str:
        document = {
            "Name": NAME,
            "Driver": "bridge",
            "CheckDuplicate": True,
            "Labels": {_LABEL: "1"},
            "Options": _NO_NEIGHBOURS,
        }
        try:
            await ask(self._docker.networks.create(document), SLOW)
        except DockerRefused as error:
            # Another hostler has made it just now, or Docker has at an earlier call whose connection broke.
            if error.status != 409 or not (found := await self._find()):
                raise
            return found
        return await self._find()


async def remove_unused(docker: aiodocker.Docker) -> list[str]:
    """Remove hostler's networks that no container is connected to; return their names. Raises EngineError."""
    removed = []
    for network in await ask(docker.networks.list(filters={"label": [_LABEL]})):
        if await _remove(docker, read(network, FoundNetwork).id):
            removed.append(NAME)
    return removed


async def _remove(docker: aiodocker.Docker, id: str) -> bool:
    """Remove a network that nobody uses; return whether it is gone. Raises EngineError."""
    try:
        await ask((await ask(docker.networks.get(id))).delete(), SLOW)
    except DockerRefused as error:
        if error.status not in (403, 404, 409):
            raise
        return error.status == 404  # another hostler has removed it
    return True
