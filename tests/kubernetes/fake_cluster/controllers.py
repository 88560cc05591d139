"""The controllers of a cluster: they put pods on nodes, keep Deployments and StatefulSets as they are to be, bind
claims, notice nodes that are silent, and say of budgets what they allow.
"""

from __future__ import annotations

import hashlib
import random
import time
from collections.abc import Callable

import msgspec

from fake_cluster import admission, deletion, events, kubelet, scheduler
from fake_cluster.kinds import BUDGET, CLAIM, DEPLOYMENT, NODE, POD, SCALER, STATEFUL_SET, Kind
from fake_cluster.loops import Loop
from fake_cluster.refusals import Refusal
from fake_cluster.store import Change, Object, Store, copied, now

HASH = "pod-template-hash"
_REVISION = "controller-revision-hash"
_UNREACHABLE = "node.kubernetes.io/unreachable"
_MORE = ("", "apps", "policy", "autoscaling")  # groups of objects whose changes matter


class Controllers:
    """All of them, in one loop. `silence`: seconds after which a node that says nothing is unreachable."""

    def __init__(self, store: Store, is_cut: Callable[[str], bool], silence: float = 40) -> None:
        self._store, self._is_cut, self.silence = store, is_cut, silence
        self._silent: dict[str, float] = {}  # node -> since when nothing is heard of it
        self._loop: Loop

    def begin(self) -> None:
        self._loop = Loop(self._act)
        self._store.listeners.append(self._heard)

    async def close(self) -> None:
        self._store.listeners.remove(self._heard)
        await self._loop.close()

    def _heard(self, change: Change) -> None:
        if change.kind.group in _MORE and change.kind.name != "Event":
            self._loop.poke()

    def _act(self) -> None:
        for claim in self._store.list(CLAIM):
            self._bind(claim)
        for each in self._store.list(SCALER):
            self._scale(each)
        for each in self._store.list(DEPLOYMENT):
            self._keep_deployment(each)
        for each in self._store.list(STATEFUL_SET):
            self._keep_stateful_set(each)
        self._schedule()
        self._look_at_nodes()
        self._collect()
        for each in self._store.list(BUDGET):
            self._count(each)

    # --- nodes

    def _schedule(self) -> None:
        nodes = [node for node in self._store.list(NODE) if node["status"]["conditions"][0]["status"] == "True"]
        if not self._store.list(NODE):
            return
        for pod in self._store.list(POD):
            if pod["spec"].get("nodeName") or "deletionTimestamp" in pod["metadata"]:
                continue
            node, why = scheduler.choose(pod, nodes or self._store.list(NODE), self._store.list(POD))
            if node:
                self._place(pod, node)
            elif not any(each.get("message") == why for each in pod["status"].get("conditions") or ()):
                condition = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": why}
                self._store.patch(pod, lambda each, it=condition: each["status"].update(conditions=[it]))
                events.note(self._store, pod, "FailedScheduling", why, "default-scheduler", warning=True)

    def _place(self, pod: Object, node: str) -> None:
        def put(each: Object) -> None:
            each["spec"]["nodeName"] = node
            each["status"]["conditions"] = [{"type": "PodScheduled", "status": "True"}]

        self._store.patch(pod, put)
        metadata = pod["metadata"]
        message = f"Successfully assigned {metadata['namespace']}/{metadata['name']} to {node}"
        events.note(self._store, pod, "Scheduled", message, "default-scheduler")

    def _look_at_nodes(self) -> None:
        for node in self._store.list(NODE):
            name = node["metadata"]["name"]
            taints = node["spec"].get("taints") or []
            known = any(each["key"] == _UNREACHABLE for each in taints)
            if not self._is_cut(name):
                self._silent.pop(name, None)
                if known:
                    self._mark(node, [each for each in taints if each["key"] != _UNREACHABLE], speaks=True)
                continue
            since = self._silent.setdefault(name, time.monotonic())
            if time.monotonic() - since >= self.silence:
                if not known:
                    self._mark(node, [*taints, *({"key": _UNREACHABLE, "effect": each} for each in ("NoSchedule", "NoExecute"))], speaks=False)  # fmt: skip  # noqa: E501
                    self._unready(name)
                self._evict(name, time.monotonic() - since - self.silence)

    def _mark(self, node: Object, taints: list[Object], *, speaks: bool) -> None:
        def mark(each: Object) -> None:
            each["spec"]["taints"] = taints
            each["status"]["conditions"] = [kubelet.ready(speaks)]

        self._store.patch(node, mark)

    def _on(self, node: str) -> list[Object]:
        return [pod for pod in self._store.list(POD) if pod["spec"].get("nodeName") == node]

    def _unready(self, node: str) -> None:
        """Say of the pods of a silent node that they are not ready: what they do is not known."""
        for pod in self._on(node):
            self._store.patch(pod, _not_ready)

    def _evict(self, node: str, seconds: float) -> None:
        """Delete the pods that do not tolerate a node's silence any longer. Their node does not hear of it."""
        taint = {"key": _UNREACHABLE, "effect": "NoExecute"}
        for pod in self._on(node):
            tolerated = [
                each.get("tolerationSeconds", float("inf"))
                for each in pod["spec"].get("tolerations") or ()
                if scheduler.tolerates({"spec": {"tolerations": [each]}}, taint)
            ]
            if "deletionTimestamp" not in pod["metadata"] and (not tolerated or seconds >= min(tolerated)):
                metadata = pod["metadata"]
                message = f"Marking for deletion Pod {metadata['namespace']}/{metadata['name']}"
                events.note(self._store, pod, "TaintManagerEviction", message, "taint-eviction-controller")
                deletion.delete(self._store, POD, pod, {})

    def _collect(self) -> None:
        """Remove the pods of nodes that are no more."""
        nodes = {node["metadata"]["name"] for node in self._store.list(NODE)}
        for pod in self._store.list(POD):
            if pod["spec"].get("nodeName", "") not in ("", *nodes):
                deletion.delete(self._store, POD, pod, {"gracePeriodSeconds": 0})

    # --- claims and budgets

    def _bind(self, claim: Object) -> None:
        if claim.get("status", {}).get("phase") != "Bound":
            capacity = (claim["spec"].get("resources") or {}).get("requests") or {}
            bound = {"phase": "Bound", "capacity": capacity, "accessModes": claim["spec"].get("accessModes")}
            self._store.patch(claim, lambda each: each.update(status=bound))

    def _count(self, budget: Object) -> None:
        allowed = deletion.disruptions_allowed(self._store, budget)
        generation = budget["metadata"].get("generation", 1)
        status = {"disruptionsAllowed": allowed, "observedGeneration": generation, "currentHealthy": 0}
        status |= {"desiredHealthy": 0, "expectedPods": 0}
        if budget.get("status") != status:
            self._store.patch(budget, lambda each: each.update(status=status))

    # --- sets of pods

    def _owned(self, owner: Object) -> list[Object]:
        uid, namespace = owner["metadata"]["uid"], owner["metadata"]["namespace"]
        return [
            pod for pod in self._store.list(POD, namespace)
            if any(each["uid"] == uid for each in pod["metadata"].get("ownerReferences") or ())
        ]  # fmt: skip

    def _scale(self, scaler: Object) -> None:
        """Keep a set's size within its limits. Nothing is measured here, so it never grows by load."""
        spec = scaler["spec"]
        if spec["scaleTargetRef"]["kind"] != DEPLOYMENT.name:
            return
        found = self._store.find(DEPLOYMENT, scaler["metadata"]["namespace"], spec["scaleTargetRef"]["name"])
        if found:
            wanted = max(spec.get("minReplicas", 1), min(spec["maxReplicas"], found["spec"]["replicas"]))
            self._store.patch(found, lambda each: each["spec"].update(replicas=wanted))

    def _keep_deployment(self, owner: Object) -> None:
        """Replace the pods of an older template, as far as maxSurge and maxUnavailable allow."""
        spec, revision = owner["spec"], _revision(owner)
        wanted = spec["replicas"]
        rolling = (spec.get("strategy") or {}).get("rollingUpdate") or {}
        surge, absent = _share(rolling.get("maxSurge", "25%"), wanted, up=True), _share(rolling.get("maxUnavailable", "25%"), wanted)  # fmt: skip  # noqa: E501
        pods = [each for each in self._owned(owner) if "deletionTimestamp" not in each["metadata"]]
        ended = [each for each in pods if each["status"].get("phase") in ("Failed", "Succeeded")]
        for each in ended:
            self._delete(each)
        pods = [each for each in pods if each not in ended]
        new = [each for each in pods if each["metadata"]["labels"].get(HASH) == revision]
        old = [each for each in pods if each not in new]
        # 1. More new ones, with at most `surge` more than wanted in all.
        for _ in range(min(wanted - len(new), wanted + surge - len(pods))):
            name = f"{owner['metadata']['name']}-{revision}-{_random()}"
            self._create(owner, name, {HASH: revision}, {})
        # 2. Fewer of the new ones, those that are not ready first.
        for each in sorted(new, key=deletion.is_ready)[: max(0, len(new) - wanted)]:
            self._delete(each)
        # 3. Old ones go: those that are not ready at once, others as long as enough are ready.
        spare = sum(deletion.is_ready(each) for each in pods) - (wanted - absent)
        for each in sorted(old, key=deletion.is_ready):
            if not deletion.is_ready(each):
                self._delete(each)
            elif spare > 0:
                spare -= 1
                self._delete(each)
        self._say(DEPLOYMENT, owner, pods, new)

    def _keep_stateful_set(self, owner: Object) -> None:
        """Keep pods with numbers: one after the other comes, and the last one is updated first.

        As with Kubernetes, nothing is updated while a pod is not ready, not even that pod, unless they are `Parallel`.
        """
        spec, revision = owner["spec"], _revision(owner)
        pods = {each["metadata"]["name"]: each for each in self._owned(owner)}
        names = [f"{owner['metadata']['name']}-{number}" for number in range(spec["replicas"])]
        parallel = spec.get("podManagementPolicy") == "Parallel"
        waits = False
        for name in names:
            pod = pods.get(name)
            if pod is None:
                self._create(
                    owner, name, {_REVISION: revision, "statefulset.kubernetes.io/pod-name": name}, {"hostname": name}
                )
            elif pod["status"].get("phase") in ("Failed", "Succeeded"):
                self._delete(pod)
            if not parallel and (pod is None or not deletion.is_ready(pod)):
                waits = True
                break
        for name, pod in pods.items():
            if name not in names:
                self._delete(pod)
        old = [
            pods[name] for name in names if name in pods and pods[name]["metadata"]["labels"].get(_REVISION) != revision
        ]
        leaving = any("deletionTimestamp" in each["metadata"] for each in pods.values())
        if old and not waits and not leaving and all(deletion.is_ready(each) or each in old for each in pods.values()):
            self._delete(old[-1])
        self._say(STATEFUL_SET, owner, list(pods.values()), [each for each in pods.values() if each not in old])

    def _create(self, owner: Object, name: str, labels: dict[str, str], spec: Object) -> None:
        template, metadata = copied(owner["spec"]["template"]), owner["metadata"]
        pod_spec = {**template["spec"], **spec}
        for claim in owner["spec"].get("volumeClaimTemplates") or ():
            claimed = f"{claim['metadata']['name']}-{name}"
            self._claim(metadata["namespace"], claimed, claim)
            volumes = [each for each in pod_spec.get("volumes") or () if each["name"] != claim["metadata"]["name"]]
            volumes.append({"name": claim["metadata"]["name"], "persistentVolumeClaim": {"claimName": claimed}})
            pod_spec["volumes"] = volumes
        reference = {"apiVersion": owner["apiVersion"], "kind": owner["kind"], "name": metadata["name"]}
        own = template.get("metadata") or {}
        pod = {
            "apiVersion": "v1",
            "kind": "Pod",
            "metadata": {
                "name": name,
                "namespace": metadata["namespace"],
                "labels": {**(own.get("labels") or {}), **labels},
                "annotations": own.get("annotations") or {},
                "ownerReferences": [{**reference, "uid": metadata["uid"], "controller": True}],
            },
            "spec": pod_spec,
        }
        try:
            self._store.create(POD, admission.admitted(self._store, POD, pod, metadata["namespace"]))
        except Refusal as refusal:
            message = f'Error creating: pods "{name}": {refusal.message}'
            events.note(self._store, owner, "FailedCreate", message, "controller", warning=True)

    def _claim(self, namespace: str, name: str, template: Object) -> None:
        if not self._store.find(CLAIM, namespace, name):
            metadata = {"name": name, "namespace": namespace}
            kind = {"apiVersion": "v1", "kind": "PersistentVolumeClaim"}
            self._store.create(CLAIM, {**kind, "metadata": metadata, "spec": template["spec"]})

    def _delete(self, pod: Object) -> None:
        if "deletionTimestamp" not in pod["metadata"]:
            deletion.delete(self._store, POD, pod, {})

    def _say(self, kind: Kind, owner: Object, pods: list[Object], new: list[Object]) -> None:
        found = [self._store.find(POD, each["metadata"]["namespace"], each["metadata"]["name"]) for each in pods]
        ready = sum(each is not None and deletion.is_ready(each) for each in found)
        wanted = owner["spec"]["replicas"]
        status: Object = {
            "observedGeneration": owner["metadata"]["generation"],
            "replicas": len(pods),
            "readyReplicas": ready,
            "availableReplicas": ready,
            "updatedReplicas": len(new),
        }
        if kind is DEPLOYMENT:
            status["unavailableReplicas"] = max(0, wanted - ready)
            available = "True" if ready >= wanted else "False"
            status["conditions"] = [
                {"type": "Available", "status": available, "reason": "MinimumReplicas", "message": ""},
                {"type": "Progressing", "status": "True", "reason": "NewReplicaSetAvailable", "message": ""},
            ]
        else:
            status["currentReplicas"] = len(new)
            status["currentRevision"] = status["updateRevision"] = _revision(owner)
        if owner.get("status") != status:
            self._store.patch(owner, lambda each: each.update(status=status))


def _not_ready(pod: Object) -> None:
    for condition in pod["status"].get("conditions") or ():
        if condition["type"] in ("Ready", "ContainersReady"):
            condition.update(status="False", reason="NodeNotReady", lastTransitionTime=now())


def _revision(owner: Object) -> str:
    return hashlib.sha256(msgspec.json.encode(owner["spec"]["template"], order="sorted")).hexdigest()[:10]


def _share(value: int | str, of: int, *, up: bool = False) -> int:
    if isinstance(value, int):
        return value
    part = of * int(value.rstrip("%"))
    return -(-part // 100) if up else part // 100


def _random() -> str:
    return "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
