"""Control of agent_host.py: its engine starts an agent beside each instance, and gives hosting the agent's storages."""

from __future__ import annotations

import os
import signal
import sys
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[2] / "tests"))

from agent_host import NAMESPACE, SUBNET

import agents
import hostler.control.main as control
from hostler import contract
from hostler.artifacts.storage import Storage
from hostler.engines.both import Both
from hostler.engines.engine import InstanceLaunch
from hostler.wire.agent_messages import ContainerRoom


class WithAgents(Both):
    """The usual engine, with storages at agents."""

    _cell: agents.Cell | None = None

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        await super().prepare(launch)
        settings = self._rooms.settings
        folder = settings.data / "agents"
        folder.mkdir(exist_ok=True)
        if self._cell is None:
            self._cell = agents.Cell(folder, control._source(settings), f"{os.environ[SUBNET]}.1")
            await self._cell.open()
            self._agents: dict[str, agents.Agent] = {}
        prefix = ("ip", "netns", "exec", os.environ[NAMESPACE])
        agent = agents.Agent(folder / launch.id, self._cell.address, launch.id, prefix)
        self._agents[launch.id] = agent
        await agent.start()
        for position, room in self._rooms.of(launch.id).items():
            if room.environment:
                room.environment[contract.ENV_ARTIFACTS] = str(agent.folder / f"a{position}")
        return await self._cell.linked(agent, *(ContainerRoom(True, each.multi_model) for each in launch.containers))

    async def stop(self, id: str, grace: float) -> None:
        await super().stop(id, grace)
        if agent := self._agents.pop(id, None):
            await agent.end(signal.SIGTERM)

    async def close(self) -> None:
        for agent in getattr(self, "_agents", {}).values():
            await agent.end(signal.SIGTERM)
        await super().close()


def main() -> Any:
    control.Both = WithAgents  # type: ignore[misc]
    return control.main()


if __name__ == "__main__":
    main()
