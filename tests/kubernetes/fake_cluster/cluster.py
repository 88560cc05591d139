"""A cluster in a thread of this process: `with running() as cluster:`.

    cluster.url, cluster.admin          its address, and the token of whom no role binds
    cluster.apply(document, …)          objects, as `kubectl apply` has them
    cluster.get(POD, namespace, name)   reads; cluster.list, cluster.delete, cluster.set_status
    cluster.token(namespace, account)   a service account's token, for any audience, bound to a pod or not
    with cluster.mute(): …              connections stay, nothing comes; cluster.down(), cluster.slow(seconds)
    cluster.expire()                    watches end with 410, and no older version is known any more
    cluster.fail(503, times=3)          so the next requests are answered

With `running(nodes=ZONES)` its pods run on Docker, on nodes with these names and zones:

    cluster.front(namespace, service, port)   a port of this machine that leads to a service's ready pods
    with cluster.cut_off(node): …       its pods are reached by nobody, and nothing is heard of them
    cluster.drain(node)                 its pods are evicted, as `kubectl drain` does it, within their budgets
    with cluster.shut_down(node, 20): … its machine ends, and its pods have 20 s for that
    cluster.abandon(namespace, pod)     its containers run on, whatever becomes of the pod
    cluster.logs(namespace, pod, container)

With `running(hollow=0.1)` there is no Docker, and each pod is ready after 0.1 s.

Every method may be called from any thread.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import json
import tempfile
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from pathlib import Path
from typing import Any, TypeVar

import docker_rig
from fake_cluster import admission, certificates, deletion
from fake_cluster.access import Access, Question
from fake_cluster.api import Api
from fake_cluster.controllers import Controllers
from fake_cluster.front import Front
from fake_cluster.hollow import Hollow
from fake_cluster.kinds import BY_NAME, NAMESPACE, NODE, POD, SERVICE_ACCOUNT, Kind, Place
from fake_cluster.kubelet import Kubelet
from fake_cluster.refusals import Refusal
from fake_cluster.store import Change, Object, Store, copied

Answer = TypeVar("Answer")

_NAMESPACES = ("default", "kube-system", "kube-public")
ZONES = {"node-a1": "a", "node-a2": "a", "node-b1": "b"}

_PATIENCE = 180.0  # seconds for a call into the cluster's thread


class Cluster:
    """The parts of a cluster, and the loop that they run in."""

    def __init__(self, loop: asyncio.AbstractEventLoop, folder: Path) -> None:
        self.loop, self.folder = loop, folder
        self.store = Store()
        self.access = Access(self.store)
        self.api = Api(self.store, self.access)
        self.admin = self.access.admin
        self.scheme = "http"
        self.host = "127.0.0.1"
        self.kubelet = Kubelet(self.store, self.access, folder, {})
        self.controllers = Controllers(self.store, self.kubelet.is_cut)
        self._fronts: list[Front] = []
        self.store.listeners.append(self._heard)

    @property
    def url(self) -> str:
        return f"{self.scheme}://{self.host}:{self.api.port}"

    # --- objects

    def apply(self, *documents: Object) -> list[Object]:
        """Create or change objects. Raises Refusal."""
        return [self.call(lambda each=each: self._applied(each)) for each in documents]

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Raises Refusal without it."""
        return self.call(lambda: self.store.get(kind, namespace, name))

    def list(self, kind: Kind, namespace: str = "") -> list[Object]:
        return self.call(lambda: self.store.list(kind, namespace))

    def delete(self, kind: Kind, namespace: str, name: str, grace: int | None = None) -> None:
        """Raises Refusal."""
        options = {} if grace is None else {"gracePeriodSeconds": grace}
        self.call(lambda: deletion.delete(self.store, kind, self.store.get(kind, namespace, name), options))

    def set_status(self, kind: Kind, namespace: str, name: str, status: Mapping[str, Any]) -> Object:
        """Put members into an object's status, as its controller or kubelet does. Raises Refusal."""
        return self.call(lambda: self._with_status(self.store.get(kind, namespace, name), status))

    def token(self, namespace: str, account: str, audience: str = "", pod: str = "", seconds: float = 3600) -> str:
        """Make a token, which is no longer good after `seconds`. Raises Refusal without the account or the pod."""
        return self.call(lambda: self.access.token(namespace, account, audience, pod, seconds))

    def kubeconfig(self, token: str = "", namespace: str = "default") -> dict[str, Any]:
        """Return a kubeconfig of a token; without one of whom no role binds."""
        place: dict[str, str] = {"server": self.url}
        if self.scheme == "https":
            place["certificate-authority"] = str(self.folder / "ca.crt")
        return {
            "apiVersion": "v1",
            "kind": "Config",
            "clusters": [{"name": "fake", "cluster": place}],
            "users": [{"name": "user", "user": {"token": token or self.admin}}],
            "contexts": [{"name": "fake", "context": {"cluster": "fake", "user": "user", "namespace": namespace}}],
            "current-context": "fake",
        }

    def kubeconfig_file(self, token: str = "", namespace: str = "default") -> Path:
        path = Path(tempfile.mkstemp(prefix="kubeconfig-", dir=self.folder)[1])
        path.write_text(json.dumps(self.kubeconfig(token, namespace)))
        return path

    # --- rights that were used

    def rights_used(self, user: str = "") -> set[Question]:
        """Return what a user did, or everybody, without the objects' names."""
        asked = self.call(lambda: list(self.api.asked))
        return {question for name, question in asked if user in ("", name)}

    def rights_missed(self) -> set[tuple[str, Question]]:
        """Return who wanted to do what no role allows."""
        return set(self.call(lambda: list(self.api.refused)))

    # --- failures

    @contextlib.contextmanager
    def mute(self) -> Iterator[None]:
        """Nothing is answered, nothing is said to watches; connections stay."""
        self.call(self.api.knobs.speaks.clear)
        try:
            yield
        finally:
            self.call(self.api.knobs.speaks.set)

    @contextlib.contextmanager
    def down(self) -> Iterator[None]:
        """Nobody is reached: connections end, new ones are refused."""
        self.wait(self.api.close())
        try:
            yield
        finally:
            self.wait(self.api.reopen())

    @contextlib.contextmanager
    def slow(self, seconds: float) -> Iterator[None]:
        """Every answer comes so much later."""
        self.call(lambda: setattr(self.api.knobs, "slow", seconds))
        try:
            yield
        finally:
            self.call(lambda: setattr(self.api.knobs, "slow", 0))

    def expire(self) -> None:
        """Forget what has changed: watches end with 410, and so do those that begin from an older version."""
        self.call(self.store.expire)

    def fail(self, code: int, times: int = 1) -> None:
        """Answer the next requests with this code."""
        self.call(lambda: self.api.knobs.failures.extend([code] * times))

    # --- nodes

    def front(self, namespace: str, service: str, port: int) -> str:
        """Return the URL of a port of this machine that leads to a service's ready pods."""
        front = Front(self.store, namespace, service, port)
        self._fronts.append(front)
        return f"http://127.0.0.1:{self.wait(front.open())}"

    @contextlib.contextmanager
    def cut_off(self, node: str) -> Iterator[None]:
        """Nothing goes to a node's pods or comes from them, and nothing is heard of them. Needs root."""
        self.call(lambda: self.kubelet.cut_off(node))
        try:
            yield
        finally:
            self.call(lambda: self.kubelet.restore(node))

    def drain(self, node: str, seconds: float = 120) -> None:
        """Let no pod come to a node, and evict those that are there; a budget that refuses is asked again.

        Raises TimeoutError.
        """
        self.cordon(node)
        deadline = time.monotonic() + seconds
        while pods := [pod for pod in self.list(POD) if pod["spec"].get("nodeName") == node]:
            for pod in pods:
                if "deletionTimestamp" not in pod["metadata"]:
                    self.evict(pod["metadata"]["namespace"], pod["metadata"]["name"])
            if time.monotonic() > deadline:
                raise TimeoutError(f"{node} still has {[pod['metadata']['name'] for pod in pods]}")
            time.sleep(0.2)

    def evict(self, namespace: str, *pods: str) -> list[str]:
        """Evict pods, one after the other with nothing between; return those that a budget keeps (429)."""

        def evict() -> list[str]:
            kept = []
            for pod in pods:
                try:
                    deletion.evict(self.store, Place(POD, namespace, pod, "eviction"), {})
                except Refusal as refusal:
                    if refusal.code == 429:
                        kept.append(pod)
            return kept

        return self.call(evict)

    @contextlib.contextmanager
    def shut_down(self, node: str, grace: float) -> Iterator[None]:
        """A machine is about to end, as a spot instance at its notice: no pod comes, and its own end within `grace`
        seconds.
        """
        self.cordon(node)
        self.call(lambda: self.kubelet.shut_down(node, grace))
        try:
            yield
        finally:
            self.cordon(node, allow=True)

    def abandon(self, namespace: str, pod: str) -> None:
        """Let a pod's containers run, as on a node whose kubelet is gone, whatever becomes of the pod."""
        self.call(lambda: self.kubelet.abandon(namespace, pod))

    def cordon(self, node: str, *, allow: bool = False) -> None:
        """Let no new pod come to a node, or let them come again."""
        document = self.get(NODE, "", node)
        self.call(lambda: self.store.patch(document, lambda each: each["spec"].update(unschedulable=not allow)))

    def logs(self, namespace: str, pod: str, container: str) -> str:
        """Raises Refusal."""
        return self.wait(self.kubelet.logs(self.get(POD, namespace, pod), container, {})).decode()

    async def open_nodes(
        self, zones: Mapping[str, str], capacity: dict[str, str], images: dict[str, str], machine: str
    ) -> None:
        self.kubelet.images = images
        await self.kubelet.open(docker_rig.address(), machine)
        self.api.logs = self.kubelet.logs
        for name, zone in zones.items():
            self.kubelet.add(name, zone, capacity, {})

    def begin(self) -> None:
        self.kubelet.port = self.api.port
        self.controllers.begin()
        self.kubelet.begin()

    async def close_nodes(self) -> None:
        for front in self._fronts:
            await front.close()
        await self.controllers.close()

    # --- the thread

    def call(self, act: Callable[[], Answer]) -> Answer:
        """Run a function in the cluster's thread."""

        async def run() -> Answer:
            return act()

        return self.wait(run())

    def wait(self, work: Awaitable[Answer]) -> Answer:
        """Run a coroutine in the cluster's thread."""

        async def run() -> Answer:
            return await work

        return asyncio.run_coroutine_threadsafe(run(), self.loop).result(_PATIENCE)

    def _heard(self, change: Change) -> None:
        if change.kind is NAMESPACE and change.before is None and change.after is not None:
            account = {"apiVersion": "v1", "kind": "ServiceAccount"}
            self.store.create(
                SERVICE_ACCOUNT,
                {**account, "metadata": {"name": "default", "namespace": change.after["metadata"]["name"]}},
            )
        self.loop.call_later(0.01, functools.partial(deletion.collect, self.store, change))

    def _applied(self, document: Object) -> Object:
        kind = BY_NAME[document["apiVersion"], document["kind"]]
        metadata = document["metadata"]
        namespace = metadata.get("namespace", "default") if kind.namespaced else ""
        before = self.store.find(kind, namespace, metadata["name"])
        document = copied(document)
        if before is None:
            return self.store.create(kind, admission.admitted(self.store, kind, document, namespace))
        if kind.namespaced:
            document["metadata"]["namespace"] = namespace
        if "status" in before:
            document.setdefault("status", before["status"])
        return self.store.replace(kind, admission.changed(self.store, kind, before, document))

    def _with_status(self, document: Object, status: Mapping[str, Any]) -> Object:
        kind = BY_NAME[document["apiVersion"], document["kind"]]
        after = copied(document)
        after.setdefault("status", {}).update(status)
        return self.store.replace(kind, after)


@contextlib.contextmanager
def running(
    folder: Path | None = None,
    *,
    nodes: Mapping[str, str] | None = None,
    hollow: float | None = None,
    capacity: dict[str, str] | None = None,
    images: dict[str, str] | None = None,
    machine: str = "",
    port: int = 0,
    tls: bool = True,
) -> Iterator[Cluster]:
    """Start a cluster in a thread of its own. Its files go into `folder`, which Docker mounts.

    `nodes`: names and zones; without them there is the API server alone. `capacity`: of a node, such as {"cpu": "4"}.
    `hollow`: nodes without Docker, whose pods are ready after so many seconds; no controllers run, either.
    `images`: names of images that are others in Docker. `machine`: this machine's address, as pods reach it, if that is
    not the one of Docker's bridge. Without `tls` kubectl and helm show nobody their token.
    """
    with contextlib.ExitStack() as stack:
        folder = folder or Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="fake-cluster-")))
        loop = asyncio.new_event_loop()
        thread = threading.Thread(target=loop.run_forever, name="fake cluster", daemon=True)
        thread.start()
        stack.callback(_end, loop, thread)
        cluster = asyncio.run_coroutine_threadsafe(_made(loop, folder), loop).result(_PATIENCE)
        if nodes:
            stack.callback(lambda: cluster.wait(cluster.kubelet.close()))
            cluster.wait(cluster.open_nodes(nodes, capacity or {}, images or {}, machine))
            cluster.host = cluster.kubelet.gateway  # by which pods reach it, too
        context = certificates.make(folder, sorted({"127.0.0.1", "::1", cluster.host})) if tls else None
        cluster.scheme = "https" if tls else "http"
        cluster.wait(cluster.api.open(cluster.host, port, context))
        stack.callback(lambda: cluster.wait(cluster.api.close()))
        for name in _NAMESPACES:
            cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}})
        if hollow is not None:
            cluster.call(lambda: Hollow(cluster.store, ["node-1", "node-2", "node-3"], hollow))
        if nodes:
            cluster.call(cluster.begin)
            stack.callback(lambda: cluster.wait(cluster.close_nodes()))
        yield cluster


async def _made(loop: asyncio.AbstractEventLoop, folder: Path) -> Cluster:
    return Cluster(loop, folder)


def _end(loop: asyncio.AbstractEventLoop, thread: threading.Thread) -> None:
    async def cancel() -> None:
        others = [task for task in asyncio.all_tasks() if task is not asyncio.current_task()]
        for task in others:
            task.cancel()
        await asyncio.gather(*others, return_exceptions=True)
        await loop.shutdown_default_executor()

    work: Coroutine[Any, Any, None] = cancel()
    asyncio.run_coroutine_threadsafe(work, loop).result(_PATIENCE)
    loop.call_soon_threadsafe(loop.stop)
    thread.join(_PATIENCE)
    loop.close()
