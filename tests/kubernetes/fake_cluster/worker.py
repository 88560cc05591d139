"""The life of one pod on Docker, from its volumes to its removal, as a kubelet leads it.

1. Its volumes are made, then its sandbox: a container that holds its network.
2. The containers of its beginning run, in order: a sidecar (`restartPolicy: Always`) until it has started, another one
   to its end.
3. Its containers run together. What ends is started again, or not, as its restart policy says.
4. At its end each container gets its preStop, SIGTERM, and SIGKILL when the grace is over; sidecars after the others.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

import aiodocker
import aiohttp

from fake_cluster import events, probes, translation
from fake_cluster.admission import quantity
from fake_cluster.store import Object, copied, now
from fake_cluster.translation import Unready, containers, is_sidecar
from fake_cluster.volumes import Volumes, variables

if TYPE_CHECKING:
    from fake_cluster.kubelet import Kubelet

log = logging.getLogger(__name__)

_DOCKER = (aiodocker.DockerError, aiohttp.ClientError, OSError, TimeoutError)
_BACKOFF, _LONGEST = 10.0, 300.0  # seconds before a container, or a pull, is tried again; doubled each time
_SIDECARS_GRACE = 2.0  # seconds that a sidecar has at least
_WAITING = {"waiting": {"reason": "PodInitializing"}}


@dataclass
class Running:
    """A container of a pod, over all its attempts."""

    spec: Object
    state: Object = field(default_factory=lambda: copied(_WAITING))
    last: Object = field(default_factory=dict)
    restarts: int = 0
    ready: bool = False
    started: asyncio.Event = field(default_factory=asyncio.Event)
    id: str = ""  # in Docker, of the current attempt
    before: str = ""  # of the one before
    image: str = ""
    task: asyncio.Task[None] | None = None

    @property
    def runs(self) -> bool:
        return "running" in self.state

    def status(self) -> Object:
        shown: Object = {
            "name": self.spec["name"],
            "image": self.spec["image"],
            "imageID": self.image,
            "state": self.state,
            "lastState": self.last,
            "ready": self.ready,
            "started": self.runs and self.started.is_set(),
            "restartCount": self.restarts,
        }
        return {**shown, "containerID": f"docker://{self.id}"} if self.id else shown


class PodWorker:
    """One pod. `lead` ends when the pod is gone."""

    def __init__(self, kubelet: Kubelet, node: str, pod: Object) -> None:
        self._kubelet, self.node, self.pod = kubelet, node, pod
        metadata = pod["metadata"]
        self.uid, self.key = metadata["uid"], (metadata["namespace"], metadata["name"])
        folder = kubelet.folder / "pods" / self.uid
        self.volumes = Volumes(
            kubelet.store,
            pod,
            folder,
            kubelet.folder / "claims",
            kubelet.folder / "ca.crt",
            kubelet.token,
            kubelet.disk,
        )
        self._all = {each["name"]: Running(each) for each in containers(pod["spec"])}
        self.sandbox = ""  # its id in Docker
        self.address = ""
        self._phase = "Pending"
        self._reason = self._message = ""
        self._failure = ("", "")  # why the kubelet ends it, as (reason, message); empty: it does not
        self._initialized = False
        self._since = now()
        self._deadline = float("inf")
        self._leaving = asyncio.Event()
        self._ending = False  # nothing is started again
        self._life: asyncio.Task[None] | None = None
        self._volumes_checked = time.monotonic()
        self.task = asyncio.ensure_future(self.lead())

    # --- from outside

    def leave(self, grace: float) -> None:
        """End the pod within `grace` seconds; sooner than said before, never later."""
        self._deadline = min(self._deadline, time.monotonic() + grace)
        self._leaving.set()

    def leave_alone(self) -> None:
        """Start nothing again, and end nothing, until `leave`."""
        self._ending = True

    def container(self, name: str) -> Running:
        return self._all[name]

    def fail(self, reason: str, message: str, grace: float = 1) -> None:
        """End the pod as failed, as a kubelet does that evicts it, or whose machine shuts down: its object stays."""
        self._failure = (reason, message)
        self.publish()
        self.leave(grace)
        events.note(self._kubelet.store, self.pod, reason, message, "kubelet", warning=True)

    def publish(self) -> None:
        """Write the pod's status, unless its node is cut off."""
        if not self._kubelet.is_cut(self.node):
            self._kubelet.store.patch(self.pod, lambda pod: pod["status"].update(self._status()))

    def look_at_volumes(self) -> None:
        """Renew tokens and files, and evict a pod whose volume is larger than it may be."""
        if time.monotonic() - self._volumes_checked < 5 or self._leaving.is_set() or not self.address:
            return
        self._volumes_checked = time.monotonic()
        self.volumes.refresh()
        for volume in self.pod["spec"].get("volumes") or ():
            limit = (volume.get("emptyDir") or {}).get("sizeLimit")
            if limit and self.volumes.used(volume["name"]) > quantity(limit):
                self.fail("Evicted", f'Usage of EmptyDir volume "{volume["name"]}" exceeds the limit "{limit}". ')
                return

    # --- its life

    async def lead(self) -> None:
        self._life = asyncio.ensure_future(self._live())
        leaving = asyncio.ensure_future(self._leaving.wait())
        try:
            await asyncio.wait({self._life, leaving}, return_when=asyncio.FIRST_COMPLETED)
            if self._life.done() and (error := self._life.exception()):
                log.error("pod %s failed in the fake cluster", self.key, exc_info=error)
            await self._leaving.wait()
            await self._end()
        finally:
            for task in (self._life, leaving, *(each.task for each in self._all.values() if each.task)):
                task.cancel()
            await self._remove()

    async def _live(self) -> None:
        await self._prepare()
        spec = self.pod["spec"]
        for container in spec.get("initContainers") or ():
            running = self._all[container["name"]]
            running.task = asyncio.ensure_future(self._supervise(running, sidecar=is_sidecar(container)))
            if is_sidecar(container):
                await running.started.wait()
            else:
                await running.task
                if running.state.get("terminated", {}).get("exitCode") != 0:
                    self._phase = "Failed"
                    self.publish()
                    return
        self._initialized = True
        mains = [self._all[each["name"]] for each in spec["containers"]]
        for running in mains:
            running.task = asyncio.ensure_future(self._supervise(running, sidecar=False))
        self._phase = "Running"
        self.publish()
        await asyncio.gather(*(running.task for running in mains if running.task))
        if not self._leaving.is_set():
            codes = [running.state.get("terminated", {}).get("exitCode") for running in mains]
            await self._end_sidecars(time.monotonic() + spec.get("terminationGracePeriodSeconds", 30))
            self._phase = "Succeeded" if not any(codes) else "Failed"
            self.publish()

    async def _prepare(self) -> None:
        """Make volumes and sandbox; try again for as long as that fails."""
        while True:
            try:
                self.volumes.make()
                await self._make_sandbox()
                break
            except Unready as error:
                events.note(self._kubelet.store, self.pod, "FailedMount", error.message, "kubelet", warning=True)
            except _DOCKER as error:
                events.note(
                    self._kubelet.store, self.pod, "FailedCreatePodSandBox", str(error), "kubelet", warning=True
                )
            self.publish()
            await asyncio.sleep(1)
        self._kubelet.write_hosts(self)
        self.publish()

    async def _make_sandbox(self) -> None:
        kubelet, metadata = self._kubelet, self.pod["metadata"]
        hostname = self.pod["spec"].get("hostname") or metadata["name"][:63]
        search = f"{metadata['namespace']}.svc.cluster.local"
        body = translation.sandbox(kubelet.pause, kubelet.network, hostname, search, self._labels("sandbox"))
        container = await kubelet.docker.containers.create(body, name=self._name("sandbox", 0))
        self.sandbox = container.id
        await container.start()
        shown = await container.show()
        self.address = shown["NetworkSettings"]["Networks"][kubelet.network]["IPAddress"]
        # `$(status.podIP)` of a container's variables.
        self.pod = {**self.pod, "status": {**self.pod["status"], "podIP": self.address, "hostIP": kubelet.gateway}}

    # --- a container

    async def _supervise(self, running: Running, *, sidecar: bool) -> None:
        """Run a container, and again for as long as its policy says so."""
        policy = "Always" if sidecar else self.pod["spec"].get("restartPolicy", "Always")
        initial = running.spec in (self.pod["spec"].get("initContainers") or ())
        wait = 0.0
        while not self._ending:
            began = time.monotonic()
            await self._attempt(running)
            code = running.state.get("terminated", {}).get("exitCode", 0)
            again = policy == "Always" and (sidecar or not initial or code != 0)
            if self._ending or not (again or (policy == "OnFailure" and code != 0)):
                return
            if time.monotonic() - began > 600:
                wait = 0
            running.restarts += 1
            running.last = running.state
            if wait:
                message = f"back-off {wait:g}s restarting failed container={running.spec['name']} pod={self.key[1]}"
                running.state = {"waiting": {"reason": "CrashLoopBackOff", "message": message}}
                events.note(self._kubelet.store, self.pod, "BackOff", f"Back-off restarting failed container {running.spec['name']} in pod {self.key[1]}", "kubelet", warning=True)  # fmt: skip  # noqa: E501
                self.publish()
                await asyncio.sleep(wait * self._kubelet.haste)
            wait = min(_LONGEST, wait * 2 or _BACKOFF)

    async def _attempt(self, running: Running) -> None:
        """Start a container and wait for its end."""
        try:
            container = await self._started(running)
        except Unready as error:  # it was created, and its program cannot be run
            ended = {"exitCode": 128, "reason": error.reason, "message": error.message, "finishedAt": now()}
            running.state = {"terminated": {**ended, "containerID": f"docker://{running.id}"}}
            self.publish()
            return
        probing = asyncio.ensure_future(self._probe(running))
        try:
            ended = await self._ended(container)
        finally:
            probing.cancel()
        running.ready = False
        running.started.clear()
        reason = "OOMKilled" if ended["OOMKilled"] else "Completed" if ended["ExitCode"] == 0 else "Error"
        state = {"exitCode": ended["ExitCode"], "reason": reason, "startedAt": _seconds(ended["StartedAt"])}
        state |= {"finishedAt": _seconds(ended["FinishedAt"]), "containerID": f"docker://{running.id}"}
        running.state = {"terminated": state}
        self.publish()

    async def _started(self, running: Running) -> aiodocker.containers.DockerContainer:
        """Start a container, and try again for as long as what it needs is missing. Raises Unready if it cannot run."""
        wait = _BACKOFF
        while True:
            try:
                image = await self._image(running)
                return await self._create(running, image)
            except Unready as error:
                if error.reason == "StartError":
                    raise
                self._waits(running, error)
            except _DOCKER as error:
                self._waits(running, Unready("CreateContainerError", str(error)))
            if "ImagePull" in running.state["waiting"]["reason"]:
                name = running.spec["image"]
                self._waits(running, Unready("ImagePullBackOff", f'Back-off pulling image "{name}"'), after=1)
                await asyncio.sleep(wait * self._kubelet.haste)
                wait = min(_LONGEST, wait * 2)
            else:
                await asyncio.sleep(1)

    def _waits(self, running: Running, error: Unready, after: float = 0) -> None:
        running.state = {"waiting": {"reason": error.reason, "message": error.message}}
        events.note(
            self._kubelet.store, self.pod, "BackOff" if error.reason == "ImagePullBackOff" else "Failed",
            error.message if error.reason != "ErrImagePull" else f"Failed to pull image: {error.message}",
            "kubelet", warning=True,
        )  # fmt: skip
        self.publish()

    async def _image(self, running: Running) -> Object:
        """Return Docker's image. Raises Unready."""
        name = running.spec["image"]
        if not name or name != name.strip() or "//" in name:
            raise Unready("InvalidImageName", f'Failed to apply default image tag "{name}": couldn\'t parse image name')
        try:
            image: Object = await self._kubelet.docker.images.inspect(self._kubelet.images.get(name, name))
        except aiodocker.DockerError as error:
            if error.status != 404:
                raise
            if running.spec.get("imagePullPolicy") == "Never":
                raise Unready("ErrImageNeverPull", f'Container image "{name}" is not present with pull policy of Never') from None  # fmt: skip  # noqa: E501
            message = f'rpc error: code = NotFound desc = failed to pull and unpack image "{name}": not found'
            raise Unready("ErrImagePull", message) from None
        repository = name.partition("@")[0]
        running.image = f"{repository.rsplit(':', 1)[0] if ':' in repository.rsplit('/', 1)[-1] else repository}@{image['Id']}"  # fmt: skip  # noqa: E501
        return image

    async def _create(self, running: Running, image: Object) -> aiodocker.containers.DockerContainer:
        kubelet, spec = self._kubelet, running.spec
        given = kubelet.service_variables(self.pod) | variables(kubelet.store, self.pod, spec)
        mounts = [translation.mount(source, each) for source, each in self.volumes.sources(spec)]
        if not any(each["Target"] == "/etc/hosts" for each in mounts):
            mounts.append(translation.mount(str(self.volumes.hosts), {"mountPath": "/etc/hosts"}))
        labels = self._labels(spec["name"])
        body = translation.body(self.pod, spec, given, mounts, self.sandbox, image, labels)
        if running.before:
            with contextlib.suppress(*_DOCKER):
                await kubelet.docker.containers.container(running.before).delete(force=True, v=True)
        container = await kubelet.docker.containers.create(body, name=self._name(spec["name"], running.restarts))
        running.before, running.id = running.id, container.id
        try:
            await container.start()
        except aiodocker.DockerError as error:
            raise Unready("StartError", f"failed to create containerd task: {error.message}") from None
        running.state = {"running": {"startedAt": now()}}
        events.note(kubelet.store, self.pod, "Started", f"Started container {spec['name']}", "kubelet")
        if "startupProbe" not in spec:
            running.started.set()
            running.ready = "readinessProbe" not in spec
        self.publish()
        return container

    async def _ended(self, container: aiodocker.containers.DockerContainer) -> Object:
        """Return the state of a container once it has ended; a Docker that is away is waited for."""
        while True:
            with contextlib.suppress(*_DOCKER):
                await container.wait()
            try:
                state: Object = (await container.show())["State"]
                if not state["Running"]:
                    return state
            except aiodocker.DockerError as error:
                if error.status == 404:
                    return {"ExitCode": 137, "OOMKilled": False, "StartedAt": now(), "FinishedAt": now()}
            except _DOCKER:
                pass
            await asyncio.sleep(0.5)

    async def _probe(self, running: Running) -> None:
        spec = running.spec
        if probe := spec.get("startupProbe"):
            await self._until_started(running, probe)
        asked = [asyncio.ensure_future(self._readiness(running, spec["readinessProbe"]))] if "readinessProbe" in spec else []  # fmt: skip  # noqa: E501
        if "livenessProbe" in spec:
            asked.append(asyncio.ensure_future(self._liveness(running, spec["livenessProbe"])))
        try:
            await asyncio.gather(*asked)
        finally:
            for each in asked:
                each.cancel()

    async def _until_started(self, running: Running, probe: Object) -> None:
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        for _ in range(probe["failureThreshold"]):
            if not (why := await probes.succeeds(probe, running.spec, self.address)):
                running.started.set()
                running.ready = "readinessProbe" not in running.spec
                self.publish()
                return
            await asyncio.sleep(probe["periodSeconds"])
        await self._unhealthy(running, "Startup", why)

    async def _readiness(self, running: Running, probe: Object) -> None:
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        failures = 0
        while True:
            why = await probes.succeeds(probe, running.spec, self.address)
            failures = failures + 1 if why else 0
            ready = not why or (running.ready and failures < probe["failureThreshold"])
            if ready != running.ready:
                running.ready = ready
                if why:
                    events.note(self._kubelet.store, self.pod, "Unhealthy", f"Readiness probe failed: {why}", "kubelet", warning=True)  # fmt: skip  # noqa: E501
                self.publish()
            await asyncio.sleep(probe["periodSeconds"])

    async def _liveness(self, running: Running, probe: Object) -> None:
        await asyncio.sleep(probe.get("initialDelaySeconds", 0))
        failures = 0
        while failures < probe["failureThreshold"]:
            why = await probes.succeeds(probe, running.spec, self.address)
            failures = failures + 1 if why else 0
            await asyncio.sleep(probe["periodSeconds"])
        await self._unhealthy(running, "Liveness", why)

    async def _unhealthy(self, running: Running, kind: str, why: str) -> None:
        events.note(self._kubelet.store, self.pod, "Unhealthy", f"{kind} probe failed: {why}", "kubelet", warning=True)
        await self._signal(running.id, "SIGTERM")
        await asyncio.sleep(self.pod["spec"].get("terminationGracePeriodSeconds", 30))
        await self._signal(running.id, "SIGKILL")

    # --- its end

    async def _end(self) -> None:
        """End all containers, sidecars last."""
        self._ending = True
        mains = [self._all[each["name"]] for each in self.pod["spec"]["containers"]]
        begun = [each for each in self._all.values() if each.task and not is_sidecar(each.spec)]
        if self._life and not all(each.task for each in mains):
            self._life.cancel()  # nothing more is started
        await asyncio.gather(*(self._end_one(each) for each in begun))
        await self._end_sidecars(self._deadline)
        if any(self._failure):
            self._phase, (self._reason, self._message) = "Failed", self._failure
        if self._phase not in ("Failed", "Succeeded"):
            self._phase = "Failed" if any(each.state.get("terminated", {}).get("exitCode") for each in mains) else "Succeeded"  # fmt: skip  # noqa: E501
        self.publish()

    async def _end_sidecars(self, deadline: float) -> None:
        self._ending = True
        self._deadline = min(self._deadline, deadline)
        for container in reversed(self.pod["spec"].get("initContainers") or ()):
            if is_sidecar(container) and (running := self._all[container["name"]]).task:
                self._deadline = max(self._deadline, time.monotonic() + _SIDECARS_GRACE)
                await self._end_one(running)

    async def _end_one(self, running: Running) -> None:
        """End a container: preStop, SIGTERM, SIGKILL at the deadline."""
        task = running.task
        if task is None or task.done():
            return
        if not running.runs:
            task.cancel()
            return
        hook = ((running.spec.get("lifecycle") or {}).get("preStop") or {}).get("sleep")
        if hook:
            await self._wait(task, min(hook["seconds"], self._left()))
        if running.runs:
            await self._signal(running.id, "SIGTERM")
        while running.runs and not task.done() and self._left() > 0:
            await self._wait(task, min(0.5, self._left()))
        if running.runs and not task.done():
            await self._signal(running.id, "SIGKILL")
            await self._wait(task, 30)

    def _left(self) -> float:
        return max(0.0, self._deadline - time.monotonic())

    async def _wait(self, task: asyncio.Task[None], seconds: float) -> None:
        await asyncio.wait({task}, timeout=seconds)

    async def _signal(self, id: str, signal: str) -> None:
        with contextlib.suppress(*_DOCKER):
            await self._kubelet.docker.containers.container(id).kill(signal=signal)

    async def _remove(self) -> None:
        """Remove all that the pod has in Docker, and its folders."""
        ids = [each for running in self._all.values() for each in (running.id, running.before)]
        await asyncio.gather(*(self._remove_one(each) for each in ids if each))
        if self.sandbox:
            await self._remove_one(self.sandbox)
        await asyncio.to_thread(self.volumes.remove)

    async def _remove_one(self, id: str) -> None:
        for _ in range(20):
            try:
                await self._kubelet.docker.containers.container(id).delete(force=True, v=True)
                return
            except aiodocker.DockerError as error:
                if error.status == 404:
                    return
            except _DOCKER:
                pass
            await asyncio.sleep(0.5)

    # --- names and status

    def _name(self, container: str, attempt: int) -> str:
        return f"fake-{self._kubelet.id}-{self.key[1]}-{self.uid[:8]}-{container}-{attempt}"

    def _labels(self, container: str) -> dict[str, str]:
        own = {translation.LABEL: self._kubelet.owner, translation.CONTAINER: container}
        return {**own, translation.POD: "/".join(self.key)}

    def _status(self) -> dict[str, Any]:
        spec = self.pod["spec"]
        mains = [self._all[each["name"]] for each in spec["containers"]]
        inits = [self._all[each["name"]] for each in spec.get("initContainers") or ()]
        sidecars = [each for each in inits if is_sidecar(each.spec)]
        ready = self._initialized and all(each.ready for each in [*mains, *sidecars])
        unready = [each.spec["name"] for each in [*mains, *sidecars] if not each.ready]
        status: dict[str, Any] = {
            "phase": self._phase,
            "conditions": [
                _condition("PodScheduled", True),
                _condition("Initialized", self._initialized, "ContainersNotInitialized"),
                _condition(
                    "ContainersReady", ready, "ContainersNotReady", f"containers with unready status: {unready}"
                ),
                _condition("Ready", ready, "ContainersNotReady", f"containers with unready status: {unready}"),
            ],
            "startTime": self._since,
            "hostIP": self._kubelet.gateway,
            "containerStatuses": [each.status() for each in mains],
        }
        if inits:
            status["initContainerStatuses"] = [each.status() for each in inits]
        if self.address:
            status |= {"podIP": self.address, "podIPs": [{"ip": self.address}]}
        if any(self._failure):
            status["conditions"].append(_condition("DisruptionTarget", True) | {"reason": "TerminationByKubelet"})
        if self._reason:
            status |= {"reason": self._reason, "message": self._message}
        return status


def _condition(type_: str, holds: bool, reason: str = "", message: str = "") -> Object:
    shown = {"type": type_, "status": "True" if holds else "False"}
    return shown if holds or not reason else {**shown, "reason": reason, "message": message}


def _seconds(stamp: str) -> str:
    """Return a time of Docker's as Kubernetes writes it."""
    return stamp[:19] + "Z"
