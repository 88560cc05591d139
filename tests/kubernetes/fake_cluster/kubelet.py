"""The nodes of a cluster, whose pods run on one Docker, in a network of the cluster's own.

A node is a name with a zone and a capacity. It can be cut off: its pods neither send nor receive anything, and nothing
is said of them, until it is back.
"""

from __future__ import annotations

import asyncio
import contextlib
import os
import secrets
import subprocess
from datetime import datetime
from pathlib import Path
from typing import Any

import aiodocker

import docker_rig
from fake_cluster import deletion, translation
from fake_cluster.access import Access
from fake_cluster.kinds import NODE, POD, SERVICE, SERVICE_ACCOUNT
from fake_cluster.loops import Loop
from fake_cluster.names import hosts, network_of_services
from fake_cluster.refusals import Refusal
from fake_cluster.store import Change, Object, Store, now
from fake_cluster.translation import LABEL
from fake_cluster.worker import PodWorker

ZONE, HOST = "topology.kubernetes.io/zone", "kubernetes.io/hostname"


class Kubelet:
    """All nodes. `images`: what a name of an image is in Docker, if it has another one there."""

    def __init__(self, store: Store, access: Access, folder: Path, images: dict[str, str]) -> None:
        self.store, self._access, self.folder, self.images = store, access, folder, images
        self.id = secrets.token_hex(3)
        self.owner = str(os.getpid())
        self.network = f"fake-cluster-{self.id}"
        self.gateway = ""
        self.port = 0  # of the API server
        self.haste = 1.0  # by which the waits between attempts are multiplied
        self.disk = (
            ""  # the size of the disk that each emptyDir of new pods has for itself, such as 8m; empty: no bound
        )
        self.docker: aiodocker.Docker  # of `open`
        self._opened = False
        self.pause = ""
        self._nodes: list[str] = []
        self._cut: set[str] = set()
        self._workers: dict[str, PodWorker] = {}
        self._abandoned: list[PodWorker] = []
        self._loops: list[Loop] = []
        self._written: dict[str, bytes] = {}

    async def open(self, host: str, machine: str = "") -> None:
        """Make the cluster's network in Docker, and learn the address by which pods reach this machine.

        `machine`: that address, if Docker's bridges are elsewhere.
        """
        self.pause = await asyncio.to_thread(docker_rig.base)
        await asyncio.to_thread(remove_left_behind)
        if host.startswith("unix://"):
            self.docker = aiodocker.Docker("unix://localhost", aiodocker.docker.aiohttp.UnixConnector(host.removeprefix("unix://"), limit=0))  # fmt: skip  # noqa: E501
        else:
            self.docker = aiodocker.Docker(host)
        self._opened = True
        network = await self.docker.networks.create(
            {"Name": self.network, "Driver": "bridge", "CheckDuplicate": True, "Labels": {LABEL: self.owner}}
        )
        shown = await network.show()
        self.gateway = machine or shown["IPAM"]["Config"][0]["Gateway"]

    def begin(self) -> None:
        """Run pods from now on."""
        self._loops = [Loop(self._look), Loop(self._write_all_hosts)]
        self.store.listeners.append(self._heard)

    async def close(self) -> None:
        """End all pods, and remove what the cluster has in Docker."""
        if self._heard in self.store.listeners:
            self.store.listeners.remove(self._heard)
        for loop in self._loops:
            await loop.close()
        workers = [*self._workers.values(), *self._abandoned]
        for worker in workers:
            worker.leave(0)
        await asyncio.gather(*(worker.task for worker in workers), return_exceptions=True)
        self._workers.clear()
        if not self._opened:
            return
        with contextlib.suppress(aiodocker.DockerError):
            network = await self.docker.networks.get(self.network)
            await network.delete()
        await self.docker.close()
        await self.docker.connector.close()

    # --- nodes

    def add(self, name: str, zone: str, capacity: dict[str, str], labels: dict[str, str]) -> None:
        self._nodes.append(name)
        metadata = {"name": name, "labels": {HOST: name, ZONE: zone, "kubernetes.io/os": "linux", **labels}}
        resources = {"cpu": "16", "memory": "64Gi", "ephemeral-storage": "200Gi", "pods": "110", **capacity}
        status = {
            "capacity": resources,
            "allocatable": resources,
            "conditions": [ready(True)],
            "addresses": [{"type": "InternalIP", "address": self.gateway or "127.0.0.1"}],
        }
        self.store.create(
            NODE, {"apiVersion": "v1", "kind": "Node", "metadata": metadata, "spec": {}, "status": status}
        )

    def is_cut(self, node: str) -> bool:
        return node in self._cut

    def cut_off(self, node: str) -> None:
        """Drop all that a node's pods send or receive, and say nothing of them. Needs root."""
        self._cut.add(node)
        self._drop(node, "--insert")

    def restore(self, node: str) -> None:
        self._drop(node, "--delete")
        self._cut.discard(node)
        self._poke()
        for worker in self._workers.values():
            if worker.node == node:
                worker.publish()

    def _drop(self, node: str, how: str) -> None:
        for worker in self._workers.values():
            if worker.node == node and worker.sandbox:
                shown = docker_rig.docker("inspect", "--format", "{{.State.Pid}}", worker.sandbox).strip()
                for chain in ("INPUT", "OUTPUT"):
                    words = ["nsenter", "--target", shown, "--net", "iptables", how, chain]
                    own = ["!", "--in-interface" if chain == "INPUT" else "--out-interface", "lo"]
                    subprocess.run([*words, *own, "--jump", "DROP"], check=True, capture_output=True)

    def shut_down(self, node: str, grace: float) -> None:
        """End a node's pods within `grace` seconds, as a kubelet does whose machine shuts down: their objects stay."""
        for worker in self._workers.values():
            if worker.node == node:
                worker.fail("Terminated", "Pod was terminated in response to imminent node shutdown.", grace)

    # --- pods

    def abandon(self, namespace: str, name: str) -> None:
        """Let a pod's containers run, and follow the pod no more: until the end of the cluster nothing ends them."""
        worker = self.worker(namespace, name)
        worker.leave_alone()
        self._abandoned.append(self._workers.pop(worker.uid))

    def worker(self, namespace: str, name: str) -> PodWorker:
        """Return the worker of a pod. Raises KeyError."""
        return next(each for each in self._workers.values() if each.key == (namespace, name))

    def token(self, pod: Object, audience: str, seconds: int) -> str:
        """Return a token of a pod's service account, bound to the pod. Raises Unready."""
        metadata = pod["metadata"]
        account = pod["spec"]["serviceAccountName"]
        if not self.store.find(SERVICE_ACCOUNT, metadata["namespace"], account):
            raise translation.Unready("ContainerCreating", f'serviceaccount "{account}" not found')
        return self._access.token(metadata["namespace"], account, audience, metadata["name"], seconds)

    def service_variables(self, pod: Object) -> dict[str, str]:
        """Return the variables by which containers find the API server, and services if the pod wants them."""
        found = {"KUBERNETES_SERVICE_HOST": self.gateway, "KUBERNETES_SERVICE_PORT": str(self.port)}
        found["KUBERNETES_SERVICE_PORT_HTTPS"] = str(self.port)
        if pod["spec"].get("enableServiceLinks", True):
            for service in self.store.list(SERVICE, pod["metadata"]["namespace"]):
                name = service["metadata"]["name"].upper().replace("-", "_")
                for port in service["spec"].get("ports") or ():
                    found[f"{name}_SERVICE_HOST"] = network_of_services(service)
                    found[f"{name}_SERVICE_PORT"] = str(port["port"])
                    found[f"{name}_PORT"] = f"tcp://{network_of_services(service)}:{port['port']}"
        return found

    async def logs(self, pod: Object, container: str, query: dict[str, str]) -> bytes:
        """Return the output of a container. Raises Refusal."""
        worker = self._workers.get(pod["metadata"]["uid"])
        running = worker.container(container) if worker else None
        id = (running.before if query.get("previous") == "true" else running.id) if running else ""
        name = pod["metadata"]["name"]
        gone = Refusal(404, "NotFound", f"the server could not find the requested resource ( pods/log {name})")
        if not worker and pod["status"].get("phase") in ("Succeeded", "Failed"):
            raise gone
        if not id:
            raise Refusal(400, "BadRequest", f'container "{container}" in pod "{name}" is waiting to start: ContainerCreating')  # fmt: skip  # noqa: E501
        more: dict[str, Any] = {"tail": query.get("tailLines") or "all"}
        if query.get("timestamps") == "true":
            more["timestamps"] = 1
        if since := query.get("sinceTime"):
            more["since"] = int(datetime.fromisoformat(since).timestamp())
        try:
            lines = await self.docker.containers.container(id).log(stdout=True, stderr=True, **more)
        except aiodocker.DockerError as error:
            if error.status in (404, 409):  # it is removed, or about to be
                raise gone from None
            raise
        output = "".join(lines).encode()
        return output[: int(query["limitBytes"])] if "limitBytes" in query else output

    def write_hosts(self, worker: PodWorker) -> None:
        """Write the names that a pod's containers know, if they have changed: never shorter, so none is half read."""
        text = hosts(self.store, worker.pod, worker.address, self.gateway, self.port).encode()
        path = worker.volumes.hosts
        if self._written.get(worker.uid) == text or not path.exists():
            return
        self._written[worker.uid] = text
        with path.open("r+b") as file:
            file.write(text.ljust(path.stat().st_size, b"\n"))

    def _write_all_hosts(self) -> None:
        for worker in self._workers.values():
            if worker.address:
                self.write_hosts(worker)

    def _heard(self, change: Change) -> None:
        if change.kind in (POD, SERVICE):
            self._poke()

    def _poke(self) -> None:
        for loop in self._loops:
            loop.poke()

    def _look(self) -> None:
        """Give each pod of these nodes a worker; end those of pods that are to go, or are gone."""
        pods = {
            each["metadata"]["uid"]: each
            for each in self.store.list(POD)
            if each["spec"].get("nodeName") in self._nodes
        }
        for uid, pod in pods.items():
            node, metadata = pod["spec"]["nodeName"], pod["metadata"]
            if node in self._cut:
                continue
            if any(uid == each.uid for each in self._abandoned):
                continue
            if uid not in self._workers and pod["status"].get("phase") not in ("Succeeded", "Failed"):
                worker = self._workers[uid] = PodWorker(self, node, pod)
                worker.task.add_done_callback(lambda _, worker=worker: self._gone(worker))
            if uid in self._workers and "deletionTimestamp" in metadata:
                self._workers[uid].leave(metadata["deletionGracePeriodSeconds"])
        for uid, worker in self._workers.items():
            if worker.node not in self._cut:
                if uid not in pods:
                    worker.leave(1)  # it was removed without a grace
                worker.look_at_volumes()

    def _gone(self, worker: PodWorker) -> None:
        """Say of a pod whose containers have ended that it is gone."""
        self._workers.pop(worker.uid, None)
        self._written.pop(worker.uid, None)
        found = self.store.find(POD, *worker.key)
        if found and found["metadata"]["uid"] == worker.uid and "deletionTimestamp" in found["metadata"]:
            deletion.delete(self.store, POD, found, {"gracePeriodSeconds": 0})


def ready(holds: bool) -> Object:
    """Return a node's condition: that its kubelet speaks, or that nothing is heard of it."""
    said = (
        {"reason": "KubeletReady", "status": "True"} if holds else {"reason": "NodeStatusUnknown", "status": "Unknown"}
    )
    return {"type": "Ready", **said, "message": "", "lastTransitionTime": now()}


def remove_left_behind() -> None:
    """Remove what clusters of processes that are no more have left in Docker."""
    shown = docker_rig.docker(
        "ps", "--all", "--filter", f"label={LABEL}", "--format", f'{{{{.ID}}}} {{{{.Label "{LABEL}"}}}}'
    )
    for line in shown.splitlines():
        id, _, owner = line.partition(" ")
        if not Path(f"/proc/{owner}").exists():
            with contextlib.suppress(AssertionError):
                docker_rig.docker("rm", "--force", "--volumes", id)
    shown = docker_rig.docker(
        "network", "ls", "--filter", f"label={LABEL}", "--format", f'{{{{.ID}}}} {{{{.Label "{LABEL}"}}}}'
    )
    for line in shown.splitlines():
        id, _, owner = line.partition(" ")
        if not Path(f"/proc/{owner}").exists():
            with contextlib.suppress(AssertionError):
                docker_rig.docker("network", "rm", id)
