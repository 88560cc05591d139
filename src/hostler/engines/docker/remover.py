"""The removal of rooms in which a container's root has left what hostler's user must not remove."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Sequence
from pathlib import Path

import aiodocker

from hostler.engines.docker import own
from hostler.engines.docker.answers import Ended, read
from hostler.engines.docker.client import SLOW, ask
from hostler.engines.docker.containers import Body
from hostler.engines.docker.inside import Site
from hostler.engines.house import House
from hostler.errors import EngineAway, EngineError

logger = logging.getLogger("hostler.engine")


class Remover:
    """Removes rooms as root, by a container of hostler's own; it is asked for only where a removal was not whole."""

    def __init__(self, docker: aiodocker.Docker, house: House, site: Site) -> None:
        self._docker = docker
        self._house = house
        self._site = site

    async def remove(self, folder: Path, names: Sequence[str]) -> None:
        """Remove these folders in a folder, if that can be done. Raises EngineAway."""
        try:
            done = await self._run(own.remover_body(self._site, self._house, folder, names))
        except EngineAway:
            raise
        except EngineError as error:
            done, why = False, f": {error}"
        else:
            why = ""
        if not done:
            words = "%s in the data folder's `containers` cannot be removed%s; root can remove it"
            logger.warning(words, ", ".join(names), why)

    async def _run(self, body: Body) -> bool:
        """Run a container, and remove it; return whether it succeeded. Raises EngineError."""
        await own.make_image(self._docker, self._site)
        container = await ask(self._docker.containers.create(body), SLOW)
        try:
            await ask(container.start(), SLOW)
            ended = read(await ask(container.wait(), SLOW), Ended)
        finally:
            await asyncio.shield(ask(container.delete(force=True, v=True), SLOW))
        return ended.status_code == 0
