"""The end of a container in Docker, whoever else is ending it."""

from __future__ import annotations

import asyncio
import contextlib

import aiodocker
from aiodocker.containers import DockerContainer

from hostler.engines.docker import facts
from hostler.engines.docker.answers import Summary
from hostler.engines.docker.client import SLOW, DockerAway, DockerRefused, ask
from hostler.engines.docker.logs import Followers

LAST_OUTPUT = 2.0  # seconds until what a container has written is in its log
_AGAIN = 0.1  # seconds until a container is asked for again that is being removed
_TIMES = 200


class Ending:
    """Ends containers once their output is in their logs, and removes them."""

    def __init__(self, docker: aiodocker.Docker, followers: Followers) -> None:
        self._docker = docker
        self._followers = followers

    async def end(self, summary: Summary, grace: float) -> None:
        """Send SIGTERM, after `grace` seconds SIGKILL; read the last output; remove it. Raises EngineError."""
        container = self._docker.containers.container(summary.id)
        try:
            if summary.state == "running":
                await _end(container, grace)
        except DockerRefused as error:
            if error.status not in (404, 409):  # it is gone, or has ended
                raise
        if (note := facts.note(summary.labels)) is not None:
            await self._followers.catch_up(note.log, LAST_OUTPUT)
        await remove(self._docker, summary.id)


async def remove(docker: aiodocker.Docker, id: str) -> None:
    """Remove a container with its volumes, at once, or wait until others have removed it. Raises EngineError."""
    container = docker.containers.container(id)
    for _ in range(_TIMES):
        try:
            await ask(container.delete(force=True, v=True), SLOW)
            return
        except DockerRefused as error:
            if error.status == 404:
                return
            if error.status != 409:  # it is being removed
                raise
        await asyncio.sleep(_AGAIN)
    raise DockerAway("Docker does not remove a container that has ended")


async def _end(container: DockerContainer, grace: float) -> None:
    if grace > 0:
        await ask(container.kill(signal="SIGTERM"), SLOW)
        with contextlib.suppress(DockerAway):  # that is its grace
            await ask(container.wait(), grace)
            return
    await ask(container.kill(signal="SIGKILL"), SLOW)
    await ask(container.wait(), SLOW)
