"""The way to a cluster: the engine, and who may come to control's door, as one value."""

from __future__ import annotations

import asyncio
import logging
import os
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from lightkube import AsyncClient
from lightkube.core.exceptions import ConfigError

from hostler.engines.house import open_house
from hostler.engines.kubernetes.agent_links import AgentLinks
from hostler.engines.kubernetes.answers import Pod
from hostler.engines.kubernetes.api import Api
from hostler.engines.kubernetes.engine import KubernetesEngine
from hostler.engines.kubernetes.facts import is_leaving
from hostler.engines.kubernetes.own_pod import OwnPod
from hostler.engines.kubernetes.reflector import Reflector
from hostler.engines.kubernetes.tokens import TokenDoor
from hostler.engines.log_files import LogFiles
from hostler.errors import UserError
from hostler.settings import Settings
from hostler.wire.door import Doorman, StaticTokenDoor

logger = logging.getLogger("hostler.engine")


class GatewayPods:
    """The gateways of a cluster, by the names of their pods: those that run, as of when it was last known."""

    def __init__(self, api: Api, settings: Settings) -> None:
        table = settings.kubernetes
        path = f"/api/v1/namespaces/{table.control_namespace}/pods"
        self._pods = Reflector(api, path, {"labelSelector": table.gateway_selector}, Pod, lambda _: None)
        self._watching = asyncio.create_task(self._pods.run(), name="reflector of gateways")

    def names(self) -> frozenset[str]:
        """Return them."""
        return frozenset(
            name for name, pod in self._pods.objects.items() if pod.status.phase == "Running" and not is_leaving(pod)
        )

    async def close(self) -> None:
        """Watch no more."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)


@dataclass(frozen=True)
class Cluster:
    """`doorman`: judges gateways and agents."""

    engine: KubernetesEngine
    agents: AgentLinks
    doorman: Doorman
    gateways: GatewayPods

    async def close(self) -> None:
        """Ask the cluster nothing any more; what runs goes on."""
        await self.gateways.close()
        await self.engine.close()


async def open_cluster(
    settings: Settings, logs: LogFiles, term: int, changed: Callable[[], None], replaced: Callable[[], None]
) -> Cluster:
    """Return the cluster in which this process runs, or that KUBECONFIG names. Raises UserError, EngineError.

    `term`: this control's. `changed`: called when an agent is linked, or is linked no more. `replaced`: called when
    another control is in the place of this one, whose pod HOSTLER_POD and HOSTLER_POD_UID name.
    """
    if not settings.control_address:
        raise UserError("engine = kubernetes needs control_address, by which the agents of instances find control")
    try:
        client = AsyncClient()
    except ConfigError as error:
        raise UserError(f"engine = kubernetes finds no cluster, neither around it nor by KUBECONFIG: {error}") from None
    house = await asyncio.to_thread(open_house, settings.data)
    api, agents = Api(client), AgentLinks(settings, term, changed)
    name, uid = os.environ.get("HOSTLER_POD"), os.environ.get("HOSTLER_POD_UID")
    own = OwnPod(api, settings.kubernetes.control_namespace, name, uid, replaced) if name and uid else None
    engine = KubernetesEngine(api, settings, house.id, agents, logs, own)
    tokens = settings.link_tokens
    doorman = StaticTokenDoor(Path(tokens)) if tokens else TokenDoor(api, house.id, settings.kubernetes)
    return Cluster(engine, agents, doorman, GatewayPods(api, settings))
