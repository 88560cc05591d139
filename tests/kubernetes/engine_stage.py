"""The Kubernetes engine over the fake API server, with hands in place of kubelets and agents."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import yaml
from fake_cluster.cluster import Cluster
from fake_cluster.kinds import BUDGET, EVENT, POD
from lightkube import AsyncClient, KubeConfig

from hostler.engines.engine import ContainerLaunch, InstanceLaunch
from hostler.engines.kubernetes import pods
from hostler.engines.kubernetes.agent_links import AgentLinks
from hostler.engines.kubernetes.api import Api
from hostler.engines.kubernetes.engine import KubernetesEngine
from hostler.engines.kubernetes.own_pod import OwnPod
from hostler.engines.log_files import LogFiles
from hostler.settings import Settings
from hostler.wire import agent_messages
from hostler.wire.agent_messages import Go, Listed, ListTargets, Look, Looked
from hostler.wire.door import Knock, Peer
from hostler.wire.frames import Frames

CONTROL, INSTANCES = "hostler", "hostler-instances"
HOUSE = "0123456789ab"
GUARD = 60.0  # seconds
_MANIFESTS = Path(__file__).parents[2] / "deploy" / "manifests" / "hostler.yaml"
_KINDS = ("Namespace", "ServiceAccount", "Role", "RoleBinding", "ClusterRole", "ClusterRoleBinding")


def furnish(cluster: Cluster) -> None:
    """Apply what the chart makes for control: namespaces, accounts and roles, and the owner of pods."""
    documents = [each for each in yaml.safe_load_all(_MANIFESTS.read_text()) if each]
    wanted = [each for each in documents if each["kind"] in _KINDS]
    for kind in _KINDS:
        cluster.apply(*(each for each in wanted if each["kind"] == kind))
    make_owner(cluster)


def make_owner(cluster: Cluster) -> None:
    metadata = {"name": "hostler-instances", "namespace": INSTANCES}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata})


def empty(cluster: Cluster) -> None:
    for kind in (POD, BUDGET, EVENT):
        for each in cluster.list(kind, INSTANCES):
            cluster.delete(kind, INSTANCES, each["metadata"]["name"], grace=0)


def launch(id: str, count: int = 1, **more: Any) -> InstanceLaunch:
    containers = tuple(ContainerLaunch("registry.example/theirs:1", {}, log=f"u/v/{id}/{n}") for n in range(count))
    return InstanceLaunch(id, {"for": "a test"}, containers, type="ml.m5.large", **more)


class Stage:
    """One engine, and the cluster's hands. `own`: name and uid of control's pod."""

    def __init__(
        self,
        cluster: Cluster,
        folder: Path,
        house: str = HOUSE,
        token: str = "",
        own: tuple[str, str] | None = None,
        **settings: Any,
    ) -> None:
        self.cluster, self.house = cluster, house
        self.settings = Settings(data=folder, control_address="tls:localhost:7700", **settings)
        self.links = AgentLinks(self.settings, 1, lambda: None)
        config = KubeConfig.from_dict(cluster.kubeconfig(token or cluster.token(CONTROL, "hostler-control"), INSTANCES))
        self.api = Api(AsyncClient(config))
        self.logs = LogFiles(folder / "logs")
        self.replaced = asyncio.Event()
        pod = OwnPod(self.api, CONTROL, *own, self.replaced.set) if own else None
        self.engine = KubernetesEngine(self.api, self.settings, house, self.links, self.logs, pod)
        self.gone: set[str] = set()  # instances that were told to go
        self._agents: list[asyncio.Task[None]] = []
        self._writers: list[asyncio.StreamWriter] = []  # of the agents' links: a task that never began closes none

    async def close(self) -> None:
        for task in self._agents:
            task.cancel()
        await asyncio.gather(*self._agents, *(_closed(writer) for writer in self._writers), return_exceptions=True)
        await self.engine.close()

    def name(self, id: str) -> str:
        return pods.name(self.house, id)

    def pod(self, id: str) -> Any:
        return self.cluster.get(POD, INSTANCES, self.name(id))

    def pods(self) -> list[str]:
        return [each["metadata"]["name"] for each in self.cluster.list(POD, INSTANCES)]

    async def there(self, id: str) -> None:
        """Wait for the pod of an instance."""
        async with asyncio.timeout(GUARD):
            while self.name(id) not in self.pods():  # noqa: ASYNC110 - the cluster is in another thread
                await asyncio.sleep(0.02)

    def status(self, id: str, *states: dict[str, Any], **status: Any) -> None:
        """Say what a kubelet would: the pod has an address, and its containers these states."""
        statuses = [
            {
                "name": f"c{n}",
                "image": "x",
                "imageID": "",
                "ready": "running" in state,
                "restartCount": 0,
                "state": state,
            }
            for n, state in enumerate(states)
        ]
        more = {"containerStatuses": statuses} if states else {}
        self.cluster.set_status(POD, INSTANCES, self.name(id), {"podIP": "10.1.2.3", **more, **status})

    def schedule(self, id: str, node: str = "node-1") -> None:
        def bind(pod: Any) -> None:
            pod["spec"]["nodeName"] = node

        self.cluster.call(lambda: self.cluster.store.patch(self.pod_now(id), bind))

    def pod_now(self, id: str) -> Any:
        """Return a pod, in the cluster's thread."""
        return self.cluster.store.get(POD, INSTANCES, self.name(id))

    def warn(self, id: str, reason: str, message: str, count: int = 1) -> None:
        """Write a warning, as a kubelet does."""
        pod = self.pod(id)
        self.cluster.apply(
            {
                "apiVersion": "v1", "kind": "Event", "type": "Warning", "reason": reason, "message": message,
                "count": count, "metadata": {"name": f"{self.name(id)}.{reason.lower()}", "namespace": INSTANCES},
                "involvedObject": {"kind": "Pod", "name": self.name(id), "namespace": INSTANCES,
                                   "uid": pod["metadata"]["uid"]},
            }
        )  # fmt: skip

    def remove(self, id: str) -> None:
        self.cluster.delete(POD, INSTANCES, self.name(id), grace=0)

    async def agent(self, id: str, looked: Looked | None = None) -> None:
        """Link an agent that has nothing in place, and starts containers when it is told to."""
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        other_reader, other_writer = await asyncio.open_connection(sock=theirs)
        self._writers += [writer, other_writer]
        serving = self.links.accept(Peer("agent", id), Knock("agent", id), reader, writer)
        answering = self._answer(id, Frames(other_reader, other_writer, agent_messages.Down), looked)
        self._agents += [
            asyncio.create_task(_closing(serving, writer)),
            asyncio.create_task(_closing(answering, other_writer)),
        ]

    async def _answer(self, id: str, frames: Frames[agent_messages.Down], looked: Looked | None) -> None:
        while (message := await frames.receive()) is not None:
            if isinstance(message, ListTargets):
                frames.send(Listed(message.number, ()))
            elif isinstance(message, Look):
                frames.send(Looked(message.number, *((looked.listening, looked.failure) if looked else ())))
            elif isinstance(message, Go):
                self.gone.add(id)

    async def prepared(self, launch: InstanceLaunch) -> None:
        preparing = asyncio.create_task(self.engine.prepare(launch))
        await self.there(launch.id)
        await self.agent(launch.id)
        async with asyncio.timeout(GUARD):
            await preparing

    async def started(self, launch: InstanceLaunch) -> Any:
        """Prepare and start an instance; return what its start reports."""
        await self.prepared(launch)
        starting = asyncio.create_task(self.engine.start(launch.id))
        self.schedule(launch.id)
        self.status(launch.id, *[{"running": {}}] * len(launch.containers), phase="Running")
        async with asyncio.timeout(GUARD):
            return await starting

    async def until_listed(self, true: Any) -> Any:
        """Return the list once it is so."""
        async with asyncio.timeout(GUARD):
            while True:
                with contextlib.suppress(Exception):
                    if true(listed := await self.engine.list()):
                        return listed
                await self.engine.changed()


async def _closing(work: Any, writer: asyncio.StreamWriter) -> None:
    try:
        await work
    finally:
        await _closed(writer)


async def _closed(writer: asyncio.StreamWriter) -> None:
    writer.close()
    with contextlib.suppress(OSError):
        await writer.wait_closed()


@contextlib.asynccontextmanager
async def staged(cluster: Cluster, folder: Path, **more: Any) -> AsyncIterator[Stage]:
    stage = Stage(cluster, folder, **more)
    try:
        yield stage
    finally:
        await stage.close()
