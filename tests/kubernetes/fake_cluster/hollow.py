"""Nodes that run nothing: their pods are ready at once. For tests of objects alone, and of thousands of pods."""

from __future__ import annotations

import asyncio
import itertools

from fake_cluster import deletion
from fake_cluster.kinds import POD
from fake_cluster.store import Change, Object, Store, now
from fake_cluster.translation import is_sidecar


class Hollow:
    """All nodes. `delay`: seconds from a pod's creation until it is ready, and from its deletion until it is gone."""

    def __init__(self, store: Store, nodes: list[str], delay: float) -> None:
        self._store, self.delay = store, delay
        self._nodes = itertools.cycle(nodes)
        self._addresses = (f"10.{a}.{b}.{c}" for a in range(256) for b in range(256) for c in range(1, 255))
        self._loop = asyncio.get_running_loop()
        store.listeners.append(self._heard)

    def _heard(self, change: Change) -> None:
        if change.kind is not POD or change.after is None:
            return
        if change.before is None:
            self._loop.call_later(self.delay, self._run, change.after)
        elif "deletionTimestamp" in change.after["metadata"] and "deletionTimestamp" not in change.before["metadata"]:
            self._loop.call_later(self.delay, self._end, change.after)

    def _run(self, pod: Object) -> None:
        node, address = next(self._nodes), next(self._addresses)

        def run(each: Object) -> None:
            each["spec"]["nodeName"] = node
            each["status"] = _running(each["spec"], address)

        self._store.patch(pod, run)

    def _end(self, pod: Object) -> None:
        metadata = pod["metadata"]
        found = self._store.find(POD, metadata["namespace"], metadata["name"])
        if found and found["metadata"]["uid"] == metadata["uid"]:
            deletion.delete(self._store, POD, found, {"gracePeriodSeconds": 0})


def _running(spec: Object, address: str) -> Object:
    inits = [each for each in spec.get("initContainers") or () if is_sidecar(each)]
    status = {
        "phase": "Running",
        "startTime": now(),
        "hostIP": "127.0.0.1",
        "podIP": address,
        "podIPs": [{"ip": address}],
        "conditions": [
            {"type": type_, "status": "True"} for type_ in ("PodScheduled", "Initialized", "ContainersReady", "Ready")
        ],
        "containerStatuses": [_status(each) for each in spec["containers"]],
    }
    return {**status, "initContainerStatuses": [_status(each) for each in inits]} if inits else status


def _status(container: Object) -> Object:
    return {
        "name": container["name"], "image": container["image"], "imageID": f"{container['image']}@sha256:{'0' * 64}",
        "state": {"running": {"startedAt": now()}}, "lastState": {}, "ready": True, "started": True, "restartCount": 0,
    }  # fmt: skip
