"""What Docker and /proc say of a container of a user's image that failed, or that does not come up."""

from __future__ import annotations

import asyncio
import contextlib

import msgspec

from hostler.engines import autopsy
from hostler.engines.docker import proc
from hostler.engines.docker.facts import Fact
from hostler.engines.docker.images import Images
from hostler.engines.docker.record import Record
from hostler.engines.engine import Autopsy
from hostler.errors import EngineError


async def add(found: Autopsy, fact: Fact, record: Record, images: Images) -> Autopsy:
    """Return an autopsy with that; of a Docker that does not answer, without its part.

    1. Of a container that runs: its ports, unless its processes are none of this machine's.
    2. Of one that has ended: its limit, and the machine that its image is for.
    """
    note = fact.note
    if fact.exit is None:  # 1.
        if not await asyncio.to_thread(proc.visible, fact.id, fact.pid):
            return found
        listeners = await asyncio.to_thread(proc.listening, fact.id, fact.pid)
        return autopsy.with_ports(found, listeners, note.position, note.containers)
    limit, platform, machine = 0, "", ""
    with contextlib.suppress(EngineError):  # 2.
        if inspected := await record.inspect(fact.id):
            limit = inspected.host_config.memory
        image = await images.present(note.reference)
        if image and image.platform.split("/")[:2] != image.machine.split("/")[:2]:
            platform, machine = image.platform, image.machine
    return msgspec.structs.replace(found, limit=limit, platform=platform, machine=machine)
