"""The Kubernetes engine on the fake API server, whose pods are played: the agent is the real one, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import json
import shutil
import socket
from collections.abc import Iterator
from pathlib import Path
from typing import Any

from fake_cluster.cluster import Cluster
from fake_cluster.kinds import POD
from lightkube import AsyncClient, KubeConfig
from stages import Stage

from hostler.agent.memory import Memory
from hostler.agent.rooms import Rooms as AgentRooms
from hostler.agent.session import Session
from hostler.agent.source import AgentSource
from hostler.artifacts.source import EmbeddedSource
from hostler.engines.engine import Engine
from hostler.engines.house import open_house
from hostler.engines.images import Server
from hostler.engines.kubernetes import pods
from hostler.engines.kubernetes.agent_links import AgentLinks
from hostler.engines.kubernetes.api import Api
from hostler.engines.kubernetes.engine import KubernetesEngine
from hostler.engines.log_files import LogFiles
from hostler.wire import agent_messages
from hostler.wire.door import Knock, Peer
from hostler.wire.frames import Frames
from hostler.wire.http_client import ConnectionPool

NAMESPACE = "hostler-instances"
_LOOK = 0.02  # seconds between two looks at the pods


def furnish(cluster: Cluster) -> None:
    """Make what the chart makes beside the pods."""
    where = {"namespace": NAMESPACE}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": NAMESPACE}},
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": "hostler-instance", **where}},
        {"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "hostler-instances", **where}},
    )
    cluster.api.logs = _logs


async def _logs(pod: Any, container: str, query: dict[str, str]) -> bytes:
    begin = "2026-11-30T14:00:00Z " if query.get("timestamps") == "true" else ""
    return f"{begin}a stand-in speaks\n".encode()


class KubernetesStage(Stage):
    """`cluster`: of an API server alone."""

    image = "registry.example/theirs:1"
    server = Server(reference=image)
    address = "tcp:"
    ours = isolates = measures = kills = False
    usable = 0.9

    def __init__(self, data: Path, cluster: Cluster) -> None:
        super().__init__(data)
        self._cluster = cluster
        self._engines: list[KubernetesEngine] = []
        self._links: AgentLinks | None = None
        self._hands: asyncio.Task[None] | None = None
        self._agents: dict[tuple[str, str], asyncio.Task[None]] = {}  # by a pod's name and uid
        self._term = 0

    def engine(self) -> Engine:
        self._term += 1
        settings = self.settings()
        self._links = AgentLinks(settings, self._term, lambda: None)
        api = Api(AsyncClient(KubeConfig.from_dict(self._cluster.kubeconfig("", NAMESPACE))))
        engine = KubernetesEngine(api, settings, open_house(self.data).id, self._links, LogFiles(self.data / "logs"))
        self._engines.append(engine)
        if self._hands is None:
            self._hands = asyncio.create_task(self._play())
        return engine

    def folder(self, id: str) -> Path:
        instance, _, position = id.rpartition(".")
        return self.data / "rooms" / self._name(instance) / f"c{position}"

    def environment(self, id: str) -> str:
        instance, _, position = id.rpartition(".")
        pod = self._cluster.get(POD, NAMESPACE, self._name(instance))
        variables = pod["spec"]["containers"][int(position)]["env"]
        return "".join(f"{each['name']}={each.get('value', '').replace('$$', '$')}\n" for each in variables)

    def sees(self, family: set[int], path: str) -> bool:
        rooms = [*(self.data / "rooms").glob("*/c0")]
        return any(Path(path.replace("/opt/ml", str(room), 1)).exists() for room in rooms)

    async def family(self, id: str) -> set[int]:
        return set()

    async def remove(self, id: str) -> None:
        self._cluster.delete(POD, NAMESPACE, self._name(id.rpartition(".")[0]), grace=0)

    @contextlib.contextmanager
    def away(self) -> Iterator[None]:
        with self._cluster.down():
            yield

    async def close(self) -> None:
        tasks = [*self._agents.values(), *([self._hands] if self._hands else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        self._agents.clear()
        self._hands = None
        for engine in self._engines:
            await engine.close()
        self._engines.clear()
        await super().close()

    def end(self) -> None:
        for pod in self._cluster.list(POD, NAMESPACE):
            self._cluster.delete(POD, NAMESPACE, pod["metadata"]["name"], grace=0)

    # --- the cluster's part ---------------------------------------------------------------------------------------

    def _name(self, instance: str) -> str:
        return pods.name(open_house(self.data).id, instance)

    async def _play(self) -> None:
        """Schedule pods, have their agents link, and start their containers when those say so; end what is deleted."""
        while True:
            there = self._cluster.list(POD, NAMESPACE)
            for name, uid in self._agents.keys() - {_key(pod) for pod in there}:
                await _ended(self._agents.pop((name, uid)))
                shutil.rmtree(self.data / "rooms" / name)  # an emptyDir goes with its pod
            for pod in there:
                name = pod["metadata"]["name"]
                if "deletionTimestamp" in pod["metadata"]:
                    self._cluster.delete(POD, NAMESPACE, name, grace=0)
                elif not pod["spec"].get("nodeName"):
                    self._cluster.call(lambda name=name: self._schedule(name))
                elif _key(pod) not in self._agents:
                    self._agents[_key(pod)] = asyncio.create_task(self._agent(name, pod))
            await asyncio.sleep(_LOOK)

    def _schedule(self, name: str) -> None:
        store = self._cluster.store
        store.patch(store.get(POD, NAMESPACE, name), lambda pod: pod["spec"].update(nodeName="node-1"))

    async def _agent(self, name: str, pod: Any) -> None:
        """Be the agent of a pod, and its kubelet."""
        folder = self.data / "rooms" / name
        folder.mkdir(parents=True, exist_ok=True)
        memory = Memory(folder)
        rooms = AgentRooms(folder, EmbeddedSource(self.data / "s3"))
        starting = asyncio.create_task(self._start(name, pod, memory))
        id = json.loads(pod["metadata"]["annotations"][pods.LAUNCH])["id"]
        try:
            while True:
                await self._link(id, rooms, memory)
                await asyncio.sleep(_LOOK)
        finally:
            await _ended(starting)
            await rooms.close()

    async def _link(self, id: str, rooms: AgentRooms, memory: Memory) -> None:
        ours, theirs = socket.socketpair()
        reader, writer = await asyncio.open_connection(sock=ours)
        other_reader, other_writer = await asyncio.open_connection(sock=theirs)
        assert self._links is not None
        accepting = asyncio.create_task(self._links.accept(Peer("agent", id), Knock("agent", id), reader, writer))
        accepting.add_done_callback(lambda _: writer.close())  # as the door does
        frames: Frames[agent_messages.Down] = Frames(other_reader, other_writer, agent_messages.Down)
        try:
            await Session(frames, rooms, AgentSource(ConnectionPool(), "tcp:nowhere:1"), memory).run()
        finally:
            await _ended(accepting)
            for each in (writer, other_writer):
                each.close()
                with contextlib.suppress(OSError):
                    await each.wait_closed()

    async def _start(self, name: str, pod: Any, memory: Memory) -> None:
        while not memory.now.started:  # noqa: ASYNC110 - a message of control's sets it
            await asyncio.sleep(_LOOK)
        statuses = []
        for container in pod["spec"]["containers"]:
            variables = {each["name"]: each.get("value", "") for each in container["env"]}
            exit = variables.get("STANDIN_EXIT")
            state: Any = {"running": {}} if exit is None else {"terminated": {"exitCode": int(exit), "reason": "Error"}}
            statuses.append({"name": container["name"], "image": "x", "imageID": "", "ready": exit is None,
                             "restartCount": 0, "state": state})  # fmt: skip
        self._cluster.set_status(
            POD, NAMESPACE, name, {"phase": "Running", "podIP": "10.1.2.3", "containerStatuses": statuses}
        )


def _key(pod: Any) -> tuple[str, str]:
    return pod["metadata"]["name"], pod["metadata"]["uid"]


async def _ended(task: asyncio.Task[None]) -> None:
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
