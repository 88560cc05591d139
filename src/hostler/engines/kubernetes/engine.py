"""The Kubernetes engine: an instance is a pod, a container a container of it (pods.py).

The API's list of the house's pods is the only record of what runs; each one's annotation carries what another control
must know of it. Each pod's agent brings its artifacts (agent_links.py), and holds its containers back until `start`.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import math
from collections.abc import Collection
from pathlib import Path
from typing import TypeVar

import msgspec
from lightkube.models.meta_v1 import OwnerReference

from hostler import contract
from hostler.artifacts.storage import Storage
from hostler.engines import autopsy, images
from hostler.engines.engine import Autopsy, ContainerLaunch, InstanceLaunch, InstanceReport, Size
from hostler.engines.images import Server
from hostler.engines.kubernetes import facts, pods, sizes
from hostler.engines.kubernetes.agent_links import AgentLinks
from hostler.engines.kubernetes.answers import Pod
from hostler.engines.kubernetes.api import Api
from hostler.engines.kubernetes.budgets import Budgets
from hostler.engines.kubernetes.calls import Calls
from hostler.engines.kubernetes.logs import PodLogs
from hostler.engines.kubernetes.own_pod import OwnPod
from hostler.engines.kubernetes.pods import Cell, Note
from hostler.engines.kubernetes.record import Record
from hostler.engines.log_files import LogFiles
from hostler.errors import EngineAway, EngineError, ImageMissing
from hostler.servers.frameworks import canned
from hostler.settings import Settings
from hostler.wire.agent_messages import ContainerRoom

T = TypeVar("T")

logger = logging.getLogger("hostler.engine")

_RETRY = 1.0  # seconds until a server that was away is asked again
_LOOK = 0.2  # seconds between two looks for the end of a pod
_OVERDUE = 15.0  # seconds after its grace in which a pod of a lost node may yet go by itself

_OUTSIDE = (
    "The command that [images] names for {image} is a program of one machine, and a cluster runs images alone. Leave"
    " its line out, and the image itself runs."
)
_CANNED = "Answers without a model (canned_answers) are given by processes: they need another engine than kubernetes."


class KubernetesEngine:
    """Engine over the API of a cluster. `house`: whose the pods are. `logs`: files for their output. `own`: this
    control's pod, if it runs in one.
    """

    def __init__(
        self, api: Api, settings: Settings, house: str, agents: AgentLinks, logs: LogFiles, own: OwnPod | None = None
    ) -> None:
        self._api, self._agents, self._own = api, agents, own
        self._settings, self._house = settings, house
        table = settings.kubernetes
        self._launches: dict[str, InstanceLaunch] = {}  # prepared here, by id
        self._creates: dict[str, asyncio.Task[None]] = {}  # under way or done, by id
        self._owner: OwnerReference | None = None  # as last seen
        self._output = PodLogs(api, logs, table, self._runs)
        self._record = Record(api, house, table.namespace, self._found)
        self._calls = Calls(api, house, table, own)
        self._budgets = Budgets(api, house, table)

    @property
    def pooled(self) -> int:
        """See Engine: each instance has its own."""
        return 0

    def size(self, type: str) -> Size:
        """See Engine: what its models may use."""
        size = sizes.of(type, self._settings)
        return Size(int(size.memory * sizes.USABLE), max(1, math.ceil(size.cpu)))

    # --- the life of an instance ----------------------------------------------------------------------------------

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        """See Engine.

        1. What runs already, also if an earlier control started it, stays as it was decided.
        2. Else decide what each container runs, and have its agent be admitted.
        3. Create the pod, if it is not there, and wait for its agent.

        A server that is away is waited for: that is for the caller to end.
        """
        await self._until_synced()
        report = self._record.report(self._name(launch.id))
        if report is not None and _is_placed(report):  # 1.
            return self._agents.storages(launch.id)
        containers = tuple(  # 2.
            msgspec.structs.replace(each, server=_server(each, self._settings)) for each in launch.containers
        )
        launch = self._launches[launch.id] = msgspec.structs.replace(launch, containers=containers)
        storages = self._expect(pods.note(launch), launch.isolated)
        await self._output.open(launch)
        if launch.id not in self._creates:  # 3.
            self._creates[launch.id] = asyncio.create_task(self._create(launch), name=f"pod of {launch.id}")
        await self._until_linked(launch.id)
        return storages

    async def start(self, id: str) -> InstanceReport:
        """See Engine. Raises ImageMissing, if an image cannot be had."""
        if id not in self._launches:
            await self._record.synced()
            if self._record.report(self._name(id)) is None:
                raise EngineError(f"the instance {id} is not prepared")
        self._agents.go(id)

        def placed() -> InstanceReport | None:
            self._record.check(self._name(id))
            report = self._record.report(self._name(id))
            return report if report is not None and _is_placed(report) else None

        return await self._record.until(self._name(id), placed)

    async def stop(self, id: str, grace: float) -> None:
        """See Engine. On a lost machine nothing can be ended: such a pod is only forgotten, once it is overdue.

        1. A create that is under way ends first: what the server was asked for is made.
        2. The pod is deleted, and again whenever it is overdue, until it is gone.
        3. Its agent is admitted no more, and its output followed no more.
        """
        self._launches.pop(id, None)
        if (create := self._creates.pop(id, None)) is not None:  # 1.
            await asyncio.gather(create, return_exceptions=True)
        name, seconds = self._name(id), max(1, math.ceil(grace))
        loop = asyncio.get_running_loop()
        overdue = loop.time() + seconds + _OVERDUE
        there = await self._calls.delete(name, seconds)  # 2.
        while there:
            try:
                async with asyncio.timeout_at(overdue):
                    await self._record.until(name, lambda: name not in self._record.objects or None)
                there = await self._calls.is_there(name)  # perhaps the watch has not seen it yet
                await asyncio.sleep(_LOOK if there else 0)
            except TimeoutError:
                overdue = loop.time() + _OVERDUE
                pod = self._record.objects.get(name)
                there = await self._calls.delete(name, 0 if pod is not None and facts.is_lost(pod) else seconds)
        self._agents.forget(id)  # 3.
        self._record.forget(name)
        await self._output.end(id)

    async def kill(self, id: str, position: int) -> None:
        """See Engine: a container of a pod can be killed from within alone."""
        await self._record.synced()
        report = self._record.report(self._name(id))
        if report is not None and report.containers[position].address and report.containers[position].exit is None:
            raise EngineError("a container of a pod cannot be killed from outside")

    # --- what runs ------------------------------------------------------------------------------------------------

    async def list(self) -> list[InstanceReport]:
        """See Engine. Those whose agent brings their artifacts are there, too, without addresses."""
        await self._record.synced()
        if self._own is not None:
            await self._own.check()
        return [report for name in self._record.objects if (report := self._record.report(name)) is not None]

    async def changed(self) -> None:
        """See Engine."""
        await self._record.changed()

    async def memory(self, id: str, position: int) -> int:
        """See Engine: hostler's own servers say it themselves; of others it cannot be known."""
        return 0

    async def processor_time(self, id: str, position: int) -> float:
        """See Engine: it cannot be known."""
        return 0.0

    async def logs(self, id: str, position: int, tail: int) -> str:
        """See Engine."""
        with contextlib.suppress(EngineError):  # it was never started, or the server is away, or its pod is gone
            return await self._calls.output(self._name(id), position, tail)
        return await self._output.tail(id, position, tail)

    async def autopsy(self, id: str, position: int, tail: int) -> Autopsy:
        """See Engine."""
        pod = self._record.objects.get(self._name(id))
        note = facts.note(pod) if pod else None
        if note is None or position >= len(note.containers):
            return Autopsy()
        log, looked = await asyncio.gather(self.logs(id, position, tail), self._agents.look(id, position))
        text = autopsy.presentable(log, Path(contract.BASE_DIR))
        found = Autopsy(text, failure=looked.failure, limit=note.memory)
        return autopsy.with_ports(found, looked.listening, position, len(note.containers), {contract.AGENT_PORT})

    async def serving(self, ids: Collection[str]) -> None:
        """See Engine: their pods are ready, and a drain takes one of a variant at a time."""
        self._agents.serving(ids)
        if self._owner is not None:
            self._budgets.follow(self._record.objects.values(), self._owner)

    # --- the house ------------------------------------------------------------------------------------------------

    async def sweep(self, known: Collection[str]) -> tuple[str, ...]:
        """See Engine. Pods of another house with the same owner, and those that no hostler made, are left alone."""
        await self._record.synced()
        self._owner = await self._calls.owner()
        kept = {self._name(id) for id in (*known, *self._launches)}
        left = [name for name in self._record.objects if name not in kept and self._record.report(name) is not None]
        for name in left:
            await self._calls.delete(name, 1)
        await self._calls.name_others(self._owner)
        return tuple(left)

    async def leave(self, grace: float) -> None:
        """See Engine: pods go with their owner, which is not control."""

    async def close(self) -> None:
        """Ask the server nothing any more; what runs goes on."""
        for task in self._creates.values():
            task.cancel()
        await asyncio.gather(*self._creates.values(), return_exceptions=True)
        self._budgets.close()
        await self._record.close()
        await self._output.close()
        if self._own is not None:
            await self._own.close()
        await self._api.close()

    async def _until_synced(self) -> None:
        while True:
            try:
                await self._record.synced()
                return
            except EngineAway:
                await asyncio.sleep(_RETRY)

    def _name(self, id: str) -> str:
        return pods.name(self._house, id)

    def _expect(self, note: Note, isolated: bool) -> tuple[Storage, ...]:
        """Have an instance's agent be admitted; return its containers' storages."""
        rooms = tuple(ContainerRoom(bool(each.framework), each.multi_model, each.scripts) for each in note.containers)
        return self._agents.expect(note.id, rooms, isolated=isolated)

    def _found(self, pod: Pod, note: Note, report: InstanceReport) -> None:
        """Take note of a pod: its agent is admitted, and the output of what has started is followed."""
        self._expect(note, pod.labels.get(pods.ISOLATED) == "true")
        self._output.take(pod, note, report)

    def _runs(self, name: str, position: int) -> bool:
        report = self._record.report(name)
        return report is not None and report.containers[position].exit is None

    async def _until_linked(self, id: str) -> None:
        """Return once a pod is there and its agent is linked. Raises EngineError."""

        def ended() -> str | None:
            self._record.check(self._name(id))
            pod = self._record.objects.get(self._name(id))
            return facts.end(pod) or "Its pod has ended." if pod and facts.has_ended(pod) else None

        async def linked() -> None:
            await asyncio.shield(self._creates[id])
            await self._agents.until_linked(id)

        links = asyncio.create_task(linked())
        ends = asyncio.create_task(self._record.until(self._name(id), ended))
        try:
            await asyncio.wait([links, ends], return_when=asyncio.FIRST_COMPLETED)
            if ends.done():
                raise EngineError(ends.result())
            links.result()
        finally:
            for task in (links, ends):
                task.cancel()
            await asyncio.gather(links, ends, return_exceptions=True)

    async def _create(self, launch: InstanceLaunch) -> None:
        """Create a pod, if it is not there. A server that is away is asked again. Raises EngineError."""
        while launch.id in self._launches:
            try:
                self._owner = await self._calls.owner()
                control = await _address(self._settings.control_address) if launch.isolated else ""
                cell = Cell(self._house, self._owner.uid, self._settings, self._settings.control_address, control)
                if await self._calls.create(pods.pod(launch, sizes.of(launch.type, self._settings), cell)):
                    return
                pod = self._record.objects.get(self._name(launch.id))
                if pod is None or not facts.is_leaving(pod):
                    return
                await asyncio.sleep(_LOOK)
            except EngineAway as error:
                logger.info("the pod of %s cannot be created just now: %s", launch.id, error)
                await asyncio.sleep(_RETRY)


def _is_placed(report: InstanceReport) -> bool:
    return all(each.address for each in report.containers)


def _server(container: ContainerLaunch, settings: Settings) -> Server:
    """Return what a container runs: an image, always. Raises EngineError."""
    if container.server is not None:
        return container.server
    choice = images.choose(container.image, settings, container.has_artifact)
    if choice.server is None and choice.invalid:
        raise ImageMissing(choice.invalid)
    server = choice.server or Server(reference=choice.reference)
    if server.command:
        raise EngineError(_OUTSIDE.format(image=container.image))
    if server.framework == canned.FRAMEWORK:
        raise EngineError(_CANNED)
    return server


async def _address(control: str) -> str:
    """Return the network address of control's host. Raises EngineAway if it is not known now."""
    host = control.partition(":")[2].rpartition(":")[0]
    try:
        found = await asyncio.get_running_loop().getaddrinfo(host, None)
    except OSError as error:
        raise EngineAway(f"the address of {host} is not known: {error.strerror or error}") from None
    return str(found[0][4][0])
