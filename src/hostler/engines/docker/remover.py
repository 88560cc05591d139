"""The removal of rooms in which a container's root has left what hostler's user must not remove."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence
from pathlib import Path

import aiodocker

from hostler.engines.docker import own
from hostler.engines.docker.client import SLOW, ask
from hostler.engines.docker.house import House
from hostler.engines.docker.inside import Site


class Remover:
    """Removes rooms as root, by a container of hostler's own; it is asked for only where a removal was not whole."""

    def __init__(self, docker: aiodocker.Docker, house: House, site: Site) -> None:
        self._docker = docker
        self._house = house
        self._site = site

    async def remove(self, folder: Path, names: Sequence[str]) -> None:
        """Remove these folders in a folder. Raises EngineError."""
        await own.make_image(self._docker, self._site)
        body = own.remover_body(self._site, self._house, folder, names)
        container = await ask(self._docker.containers.create(body), SLOW)
        try:
            await ask(container.start(), SLOW)
            await ask(container.wait(), SLOW)
        finally:
            await asyncio.shield(ask(container.delete(force=True, v=True), SLOW))
