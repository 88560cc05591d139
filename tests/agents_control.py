"""Control of agents_host.py: its engine starts an agent beside each instance; hosting gets the agents' storages."""

from __future__ import annotations

import asyncio
import os
import signal
from pathlib import Path
from typing import Any

import agents
import hostler.control.main as control
from agents_host import ADDRESS, NAMESPACE
from certificates import CertificateAuthority
from hostler import contract
from hostler.artifacts.storage import Storage
from hostler.engines.both import Both
from hostler.engines.engine import InstanceLaunch
from hostler.wire.agent_messages import ContainerRoom


class WithAgents(Both):
    """The usual engine, with storages at agents."""

    def __init__(self, *arguments: Any, **named: Any) -> None:
        super().__init__(*arguments, **named)
        self._cell: agents.Cell | None = None
        self._agents: dict[str, agents.Agent] = {}
        self._kept: dict[str, asyncio.Task[None]] = {}

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        """See Engine."""
        await super().prepare(launch)
        settings = self._rooms.settings
        if self._cell is None:
            folder = settings.data / "agents"
            folder.mkdir(exist_ok=True)
            address, issued = os.environ[ADDRESS], None
            if os.environ[NAMESPACE]:  # to another machine no agent sends its token unencrypted
                issued = CertificateAuthority().issue(folder / "certificates", address)
            self._cell = agents.Cell(folder, control._source(settings), address, issued)
            await self._cell.open()
        prefix = ("ip", "netns", "exec", os.environ[NAMESPACE]) if os.environ[NAMESPACE] else ()
        certificates = str(self._cell.certificates.folder) if self._cell.certificates else ""
        agent = agents.Agent(self._cell.folder / launch.id, self._cell.address, launch.id, prefix, certificates)
        self._agents[launch.id] = agent
        self._kept[launch.id] = asyncio.create_task(_keep(agent))
        for position, room in self._rooms.of(launch.id).items():
            if room.environment:
                room.environment[contract.ENV_ARTIFACTS] = str(agent.folder / f"a{position}")
        return await self._cell.linked(agent, *(ContainerRoom(True, each.multi_model) for each in launch.containers))

    async def stop(self, id: str, grace: float) -> None:
        """See Engine."""
        await super().stop(id, grace)
        await self._end(id)

    async def close(self) -> None:
        """End the agents, too."""
        for id in [*self._agents]:
            await self._end(id)
        await super().close()

    async def _end(self, id: str) -> None:
        if agent := self._agents.pop(id, None):
            self._kept.pop(id).cancel()
            await agent.end(signal.SIGTERM)


async def _keep(agent: agents.Agent) -> None:
    """Start an agent, and again whenever it ends. Its pid is in a file beside its folder."""
    while True:
        await agent.start()
        pid = Path(f"{agent.folder}.pid")
        await asyncio.to_thread(pid.write_text, str(agent.pid))
        await agent.ended()


if __name__ == "__main__":
    control.Both = WithAgents  # type: ignore[misc]
    control.main()
