"""The way to Docker: connected when the first image is to run, and not before.

Until then nothing of Docker's client is loaded, which takes a quarter of a second and 35 MB of memory.
"""

from __future__ import annotations

import asyncio
import importlib
import importlib.util
from typing import TYPE_CHECKING

from hostler import failures
from hostler.engines import house
from hostler.engines.docker import inside
from hostler.engines.docker.reach import SECONDS, address, reach, silent
from hostler.engines.rooms import Rooms
from hostler.errors import EngineAway, EngineError

if TYPE_CHECKING:
    from hostler.engines.docker.engine import DockerEngine

_OLDEST = (1, 41)  # version of the API: that of Docker 20.10
_CLIENT = "aiodocker"


async def open_docker(rooms: Rooms) -> DockerEngine:
    """Return the engine over the Docker that the settings name. Raises EngineError; EngineAway without that Docker.

    1. Docker takes connections: with the cause if it does not.
    2. Its client is loaded, in a thread.
    3. It answers, and is new enough.
    4. If hostler runs in a container, that has all it needs.
    5. Now that Docker is used, the data folder has a house in it.
    """
    where = address(rooms.settings)
    await reach(where)  # 1.
    if not importlib.util.find_spec(_CLIENT):  # 2.
        raise EngineAway(f"Docker is there, but its client is not installed: {failures.extra('docker')}.")
    await asyncio.to_thread(importlib.import_module, "hostler.engines.docker.engine")
    from hostler.engines.docker.answers import Version, read
    from hostler.engines.docker.client import ask, connect, disconnect
    from hostler.engines.docker.engine import DockerEngine

    docker = connect(where)
    try:
        try:
            version = read(await ask(docker.version(), SECONDS), Version)  # 3.
        except EngineAway:
            raise EngineAway(silent(where, SECONDS)) from None
        if tuple(int(part) for part in version.api.split(".") if part.isdecimal()) < _OLDEST:
            raise EngineError(
                f"Docker at {where} has version {version.api} of its API; the oldest that will do is 1.41."
            )
        site = await inside.look(docker, rooms.settings.data)  # 4.
        own = await asyncio.to_thread(house.open_house, rooms.settings.data)  # 5.
        return DockerEngine(docker, rooms, own, site)
    except BaseException:
        await disconnect(docker)
        raise
