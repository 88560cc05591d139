"""`hostler agent`: stands beside the containers of one instance, and does what control asks over its link.

Whatever ends it, another takes over what it brought: the artifacts are in a volume that lives as long as the instance.
"""

from __future__ import annotations

import asyncio
import logging
import signal
import sys
from dataclasses import dataclass
from pathlib import Path

import uvloop

from hostler.agent.memory import Memory
from hostler.agent.page import open_page
from hostler.agent.rooms import Rooms
from hostler.agent.session import Session
from hostler.agent.source import AgentSource
from hostler.errors import UserError
from hostler.wire import agent_messages
from hostler.wire.agent_messages import Down
from hostler.wire.door import VERSION, Knock, Way
from hostler.wire.frames import Frames
from hostler.wire.http_client import ConnectionPool

logger = logging.getLogger("hostler.agent")

_IDLE = 60.0  # seconds that a connection to control's API is kept; its server closes them after 75
_CONNECT = 2.5  # seconds


@dataclass(frozen=True)
class Place:
    """Where an agent stands. `base`: as containers see their folders; empty: by their real paths."""

    instance: str
    way: Way
    folder: Path  # the volume that the instance's containers share
    base: str
    port: int  # of its page


def main(place: Place) -> int:
    """Run until SIGTERM; return the exit code."""
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    uvloop.run(agent(place))
    return 0


async def agent(place: Place) -> None:
    """Serve control, and answer Kubernetes, until SIGTERM or SIGINT. Raises UserError."""
    stop = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        asyncio.get_running_loop().add_signal_handler(number, stop.set)
    memory = Memory(place.folder)
    try:
        page = await open_page(memory, place.port)
    except OSError as error:
        raise UserError(f"port {place.port} cannot be listened on: {error.strerror or error}") from None
    pool = ConnectionPool(idle=_IDLE, connect_timeout=_CONNECT, certificates=place.way.certificates)
    source = AgentSource(pool, place.way.address)
    rooms = Rooms(place.folder, source, place.base)
    linking = asyncio.create_task(_link(place, rooms, source, memory))
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([linking, stopping], return_when=asyncio.FIRST_COMPLETED)
    linking.cancel()
    stopping.cancel()
    await asyncio.wait([linking])
    await rooms.close()
    pool.close()
    await page.close()
    if not linking.cancelled():
        linking.result()  # its fault ends the agent, and another one begins anew


async def _link(place: Place, rooms: Rooms, source: AgentSource, memory: Memory) -> None:
    """Keep the link with control, until cancelled."""
    knock, logged = Knock("agent", place.instance, version=VERSION), ""
    while True:
        try:
            reader, writer = await place.way.knock(knock)
            logged = ""
            frames: Frames[Down] = Frames(reader, writer, agent_messages.Down)
            try:
                await Session(frames, rooms, source, memory).run()
            finally:
                frames.close()
        except OSError as error:
            if logged != (logged := f"no link with control: {error}"):  # once for many attempts
                logger.warning("%s", logged)
        await asyncio.sleep(place.way.pause())
