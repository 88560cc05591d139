"""Failures under load: of each kind it is counted how many calls were lost, answered wrongly, or made twice."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import secrets
import shutil
import sqlite3
import subprocess
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import targets
from botocore.exceptions import ClientError
from cluster_cell import ECR, KUBECTL, SMALL, Cell, Load, cell, eventually, is_real
from fake_cluster import cluster as clusters
from strangers import answer_to_knock, silent_strangers
from witness import BUCKET, CALLERS, Endpoint, identities, lost, ready, under_load

import docker_rig
import helm_chart

pytestmark = [pytest.mark.docker, pytest.mark.require("helm")]

OWN = {"resources": SMALL, "nodeSelector": {"topology.kubernetes.io/zone": "a"}}  # in zone b are instances alone
OUTAGE = {100: 8.0, 10_000: 60.0}  # seconds, by the calls around a failure


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    if is_real():
        pytest.skip("these failures are made in the tests' own cluster")
    with cell(tmp_path_factory.mktemp("cell"), control=OWN, gateways=OWN) as hostler:
        hostler.s3.create_bucket(Bucket=BUCKET)
        yield hostler
        hostler.uninstall()
        hostler.no_pods_left()


@pytest.fixture(autouse=True)
def _settled(hostler: Cell, many: Endpoint) -> None:
    """Begin with two instances in two zones, and nothing else."""

    def settled() -> bool:
        return len(hostler.pods()) == len(ready(hostler)) == 2

    eventually(settled, "two instances are there")
    if len({clusters.ZONES[node] for node in ready(hostler).values()}) == 1:
        hostler.kubectl("delete", "pod", sorted(ready(hostler))[0], "--namespace", hostler.instances)
        eventually(settled, "two instances are there")


def in_zone(pods: dict[str, str], zone: str) -> str:
    """Return the instance's pod on a node of this zone; two instances are in two zones."""
    [pod] = [pod for pod, node in pods.items() if clusters.ZONES[node] == zone]
    return pod


def container_status(hostler: Cell, pod: str, container: str) -> dict[str, Any]:
    """Return what the API says of a pod's container."""
    status = hostler.read("pod", pod, "--namespace", hostler.instances)["status"]
    states = [*status.get("containerStatuses", ()), *status.get("initContainerStatuses", ())]
    [found] = [each for each in states if each["name"] == container]
    return dict(found)


def container_id(hostler: Cell, pod: str, container: str) -> str:
    """Return the id in Docker of a pod's container."""
    return str(container_status(hostler, pod, container)["containerID"]).removeprefix("docker://")


def is_back(hostler: Cell, pod: str, before: str) -> bool:
    """Whether a pod's agent that had this id has another one, and the pod is ready."""
    return container_id(hostler, pod, "agent") != before and pod in ready(hostler)


def kill(hostler: Cell, pod: str, container: str) -> str:
    """kill -9 the first process of a pod's container; return the container's id."""
    docker_rig.docker("kill", id := container_id(hostler, pod, container))
    return id


def test_a_killed_model_container_loses_the_calls_in_it_and_is_replaced(
    hostler: Cell, many: Endpoint, calls: int
) -> None:
    with under_load(hostler, many, calls) as load:
        before = ready(hostler)
        victim = sorted(before)[0]
        kill(hostler, victim, "c0")
        load.more(calls)
        eventually(lambda: len(now := ready(hostler)) == 2 and victim not in now, "another pod takes its place")
    assert all("ModelError" in outcome for outcome in load.outcomes if outcome != "right"), load.outcomes
    assert lost(load) <= 2 * CALLERS


def test_a_container_that_is_killed_for_memory_loses_the_calls_in_it_and_is_replaced_and_control_says_why(
    hostler: Cell, calls: int
) -> None:
    assert hostler.cluster
    name, numbers = f"hoards-{calls}", itertools.count()
    container = {"Image": docker_rig.image("faulty"), "Environment": {"MISTAKE": "hoards"}}
    hostler.configure(name, [container], count=2, type="ml.t2.medium")
    hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    hostler.wait_in_service(name)
    eventually(lambda: len(ready(hostler)) == 4, "its instances are ready, beside the two that are always there")
    before = ready(hostler).keys()

    def request(_: int) -> tuple[dict[str, Any], bytes]:
        body = str(next(numbers)).encode()
        return {"EndpointName": name, "Body": body}, body

    with Load(hostler, request, CALLERS) as load:
        load.more(calls)
        with pytest.raises(hostler.runtime.exceptions.ModelError):
            hostler.runtime.invoke_endpoint(EndpointName=name, Body=b"hoard")
        load.more(calls)
        eventually(
            lambda: len(now := ready(hostler).keys()) == len(before) and now != before, "another takes its place"
        )
        load.more(calls)
    print(f"{sum(load.outcomes.values())} calls: {dict(load.outcomes)}")
    assert all("ModelError" in outcome for outcome in load.outcomes if outcome != "right"), load.outcomes
    assert lost(load) <= 2 * CALLERS
    assert len(before - ready(hostler).keys()) == 1
    assert "had used up the 64.0MiB of its instance type" in log_of_control(hostler)
    hostler.delete(name)


def log_of_control(hostler: Cell) -> str:
    return hostler.kubectl("logs", "--namespace", hostler.namespace, "hostler-control-0", "--container", "control")


def test_while_an_agent_is_away_targets_are_loaded_on_another_instance_and_no_call_is_lost(
    hostler: Cell, many: Endpoint, calls: int
) -> None:
    before = identities(hostler)
    with under_load(hostler, many, calls) as load:
        for number, pod in enumerate(sorted(ready(hostler))):
            many.put(f"fetched{number}-{calls}")
            killed = kill(hostler, pod, "agent")  # whether it is back at once, the node decides
            assert many.invoke(f"fetched{number}-{calls}")
            load.more(calls // 4)
            eventually(lambda pod=pod, killed=killed: is_back(hostler, pod, killed), "its agent is back")
    assert lost(load) == 0, load.outcomes
    assert identities(hostler) == before


def test_an_agent_that_is_killed_during_a_fetch_brings_it_all_the_same_and_once(
    hostler: Cell, many: Endpoint, calls: int
) -> None:
    """With a twentieth of a processor an agent needs seconds for what it takes in."""
    target, size = f"large{calls}", 24 * 2**20
    many.put(target, padding=os.urandom(size))
    before = identities(hostler)
    with under_load(hostler, many, calls) as load, ThreadPoolExecutor() as pool:
        agents = {pod: container_id(hostler, pod, "agent") for pod in ready(hostler)}
        for id in agents.values():
            docker_rig.docker("update", "--cpu-quota", "5000", id)
        call = pool.submit(many.invoke, target)
        while not (fetching := next((pod for pod in agents if unfinished(hostler, pod)), "")):
            assert not call.done(), "it came too fast"
        docker_rig.docker("kill", agents[fetching])
        for pod, id in agents.items():
            if pod != fetching:
                docker_rig.docker("update", "--cpu-quota", "-1", id)
        assert call.result()
        load.more(calls)
        eventually(lambda: is_back(hostler, fetching, agents[fetching]), "its agent is back")
        eventually(lambda: not any(unfinished(hostler, pod) for pod in agents), "no half file is left")
    assert lost(load) == 0, load.outcomes
    assert identities(hostler) == before
    brought = [
        path for pod in agents for path in room(hostler, pod).glob("a0/*/model/name") if path.read_text() == target
    ]
    assert [(path.parent / "padding").stat().st_size for path in brought] == [size]


def unfinished(hostler: Cell, pod: str) -> list[Path]:
    """Return the files of a fetch that is under way at a pod's agent, or was broken off."""
    with contextlib.suppress(OSError):  # they come and go
        return [path for path in (room(hostler, pod) / "a0" / ".work").rglob("*") if path.is_file()]
    return []


def room(hostler: Cell, pod: str) -> Path:
    """Return the volume in which a pod's agent has its files."""
    assert hostler.cluster
    return hostler.cluster.kubelet.worker(hostler.instances, pod).volumes.path("room")


def test_without_control_resident_targets_are_served_and_the_next_control_loads_again(
    hostler: Cell, many: Endpoint, calls: int
) -> None:
    before = identities(hostler)
    with under_load(hostler, many, calls) as load:
        scale = ("scale", "statefulset/hostler-control", "--namespace", hostler.namespace)
        hostler.kubectl(*scale, "--replicas=0")
        eventually(lambda: "hostler-control-0" not in ready(hostler, hostler.namespace), "control is gone")
        until = time.monotonic() + OUTAGE[calls]
        while time.monotonic() < until:
            load.more(calls // 4)
        hostler.kubectl(*scale, "--replicas=1")
        eventually(lambda: "hostler-control-0" in ready(hostler, hostler.namespace), "control is back")
    assert lost(load) == 0, load.outcomes
    many.put(f"later{calls}")
    assert many.invoke(f"later{calls}")
    assert identities(hostler) == before


def test_a_node_that_is_cut_off_loses_the_calls_in_it_and_is_replaced_at_once(
    hostler: Cell, many: Endpoint, calls: int
) -> None:
    assert hostler.cluster
    with under_load(hostler, many, calls) as load:
        before = ready(hostler)
        victim = in_zone(before, "b")
        with hostler.cluster.cut_off(before[victim]):
            cut = time.monotonic()
            eventually(lambda: len({*ready(hostler)} - {victim}) == 2, "another pod takes its place")
            replaced = time.monotonic() - cut
            load.more(calls)
        eventually(lambda: victim not in ready(hostler), "the first one is gone")
    print(f"replaced after {replaced:.1f} s")
    assert lost(load) <= 2 * CALLERS, load.outcomes


def test_the_loss_of_controls_node_loses_no_call_and_starts_nothing_twice(
    hostler: Cell, many: Endpoint, calls: int
) -> None:
    """Its machine is off, and then removed from the cluster. Volumes are folders here, attached to no node."""
    assert hostler.cluster
    own = hostler.read("pod", "hostler-control-0", "--namespace", hostler.namespace)
    node, [state] = own["spec"]["nodeName"], own["status"]["containerStatuses"]
    hostler.cluster.cordon(node)
    for namespace in (hostler.instances, hostler.namespace):
        leave(hostler, namespace, node)
    before = identities(hostler)
    with under_load(hostler, many, calls) as load:
        hostler.cluster.abandon(hostler.namespace, "hostler-control-0")
        docker_rig.docker("kill", state["containerID"].removeprefix("docker://"))
        with hostler.cluster.cut_off(node):
            load.more(calls)
            assert identities(hostler) == before
            hostler.kubectl("delete", "node", node)
            eventually(lambda: placed(hostler) not in ("", node), "control is elsewhere")
        hostler.cluster.call(lambda: hostler.cluster.kubelet.add(node, "a", {}, {}))  # another machine of that name
        many.put(f"elsewhere{calls}")
        assert many.invoke(f"elsewhere{calls}")
    assert lost(load) == 0, load.outcomes
    assert identities(hostler) == before


def leave(hostler: Cell, namespace: str, node: str) -> None:
    """Let the pods of a namespace leave a node, all but control."""
    names = {pod for pod, where in ready(hostler, namespace).items() if where == node} - {"hostler-control-0"}
    for name in names:
        hostler.kubectl("delete", "pod", name, "--namespace", namespace)
    eventually(lambda: len(ready(hostler, namespace).keys() - {"hostler-control-0"}) == 2, "two are there again")


def placed(hostler: Cell) -> str:
    """Return the node of control if it is ready, or nothing."""
    return ready(hostler, hostler.namespace).get("hostler-control-0", "")


@pytest.mark.parametrize("how", ["down", "mute", "forgetful"])
def test_an_api_server_that_is_away_stops_nothing_and_starts_nothing_twice(
    hostler: Cell, many: Endpoint, calls: int, how: str
) -> None:
    assert hostler.cluster
    with under_load(hostler, many, calls) as load:
        before = identities(hostler)
        away = {"down": hostler.cluster.down, "mute": hostler.cluster.mute, "forgetful": contextlib.nullcontext}[how]
        with away():
            until = time.monotonic() + OUTAGE[calls]
            while time.monotonic() < until:
                if how == "forgetful":
                    hostler.cluster.expire()
                load.more(calls // 4)
    assert lost(load) == 0, load.outcomes
    many.put(f"{how}{calls}")
    assert many.invoke(f"{how}{calls}")
    assert identities(hostler) == before


@pytest.fixture(scope="module")
def next_version(hostler: Cell) -> Iterator[str]:
    """The image of a hostler that says more over its links than this one understands."""
    image = f"hostler:next-{secrets.token_hex(4)}"
    folder = str(Path(__file__).parent / "next_version")
    docker_rig.docker("build", "--quiet", "--build-arg", f"BASE={hostler.images['hostler']}", "--tag", image, folder)
    yield image
    docker_rig.docker("rmi", "--force", image)


def upgrade(hostler: Cell, image: str) -> None:
    """Upgrade control and gateways by helm; the instances stay."""
    before = identities(hostler)
    repository, _, tag = image.rpartition(":")
    hostler.install(image={"repository": repository, "tag": tag}, control=OWN, gateways=OWN)
    eventually(lambda: images_of(hostler, hostler.namespace) == {image}, "the pods before are gone")
    assert identities(hostler) == before


def test_an_upgrade_to_the_next_version_and_back_loses_no_call(
    hostler: Cell, many: Endpoint, calls: int, next_version: str
) -> None:
    with under_load(hostler, many, calls) as load:
        for number, image in enumerate((next_version, hostler.images["hostler"])):
            upgrade(hostler, image)
            many.put(f"upgraded{number}-{calls}")  # control of the one version speaks with agents of the other
            assert many.invoke(f"upgraded{number}-{calls}")
            load.more(calls // 4)
    assert lost(load) == 0, load.outcomes


@pytest.mark.slow
def test_parts_of_two_versions_and_a_drain_lose_none_of_a_hundred_thousand_calls(
    hostler: Cell, many: Endpoint, next_version: str
) -> None:
    control, gateways = "statefulset/hostler-control", "deployment/hostler-gateway"
    with under_load(hostler, many, 10_000) as load:
        for image, first in ((next_version, control), (hostler.images["hostler"], gateways)):
            # 1. One part alone: it speaks with those of the other version for as long as it is so.
            hostler.kubectl("set", "image", first, f"*={image}", "--namespace", hostler.namespace)
            hostler.kubectl("rollout", "status", first, "--namespace", hostler.namespace)
            many.put(f"after-{first[:4]}")
            assert many.invoke(f"after-{first[:4]}")
            load.more(10_000)
            # 2. The other part. The instances stay as they are.
            upgrade(hostler, image)
            load.more(10_000)
            # 3. An update brings new instances, with agents of that version.
            before = identities(hostler)
            many.update(f"after-{first[:4]}")
            hostler.wait_in_service("many")
            eventually(lambda before=before: not identities(hostler) & before, "the old instances are gone")
            assert image in images_of(hostler, hostler.instances)
            load.more(10_000)
        drain(hostler, sorted(ready(hostler))[0])
        load.more(max(0, 100_000 - load.right))
    assert lost(load) == 0, load.outcomes


def images_of(hostler: Cell, namespace: str) -> set[str]:
    """Return the images of all containers there, of the pods that stay."""
    pods = (pod["spec"] for pod in hostler.pods(namespace) if "deletionTimestamp" not in pod["metadata"])
    return {each["image"] for spec in pods for each in [*spec.get("initContainers", ()), *spec["containers"]]}


def drain(hostler: Cell, victim: str) -> None:
    """Drain the node of an instance, until another instance has taken its place."""
    assert hostler.cluster
    node = ready(hostler)[victim]
    try:
        hostler.cluster.drain(node)
        eventually(lambda: len({*ready(hostler)} - {victim}) == 2, "another pod takes its place")
    finally:
        hostler.cluster.cordon(node, allow=True)


def test_the_drain_of_a_node_loses_no_call(hostler: Cell, many: Endpoint, calls: int) -> None:
    with under_load(hostler, many, calls) as load:
        drain(hostler, in_zone(ready(hostler), "a"))
    assert lost(load) == 0, load.outcomes


@pytest.mark.slow  # an image that is not there is asked for three times
def test_an_update_that_fails_leaves_the_old_instances_in_service(hostler: Cell, many: Endpoint, calls: int) -> None:
    name = f"bad-{calls}"
    hostler.configure(name, [{"Image": f"{ECR}/none:mytag"}], count=2)
    before = identities(hostler)
    with under_load(hostler, many, calls) as load:
        hostler.sm.update_endpoint(EndpointName="many", EndpointConfigName=name)
        load.more(calls)
        eventually(lambda: hostler.status("many")[0] == "InService", "the update has failed")
    assert "image" in hostler.status("many")[1].lower(), hostler.status("many")
    assert lost(load) == 0, load.outcomes
    eventually(lambda: identities(hostler) == before, "only the old instances are left")


def test_a_bad_artifact_and_one_that_is_missing_are_their_own_callers_alone(
    hostler: Cell, many: Endpoint, calls: int
) -> None:
    bad: dict[str, Any] = {"Bucket": BUCKET, "Key": "many/bad.tar.gz", "Body": targets.archive({"name": b"x"})[:-20]}
    hostler.s3.put_object(**bad)
    with under_load(hostler, many, calls) as load:
        for target in ("bad", "missing"):
            with pytest.raises(hostler.runtime.exceptions.ClientError) as refused:
                many.invoke(target)
            assert refused.value.response["ResponseMetadata"]["HTTPStatusCode"] < 500, refused.value
    assert lost(load) == 0, load.outcomes


def test_a_pod_of_another_house_with_labels_of_ours_is_left_alone(
    hostler: Cell, many: Endpoint, tmp_path: Path
) -> None:
    [pod, *_] = hostler.pods()
    labels = {**pod["metadata"]["labels"], "hostler.dev/house": "0123456789ab"}
    container = {"name": "c0", "image": pod["spec"]["containers"][0]["image"], "command": ["sleep", "600"]}
    stranger = {"metadata": {"name": "stranger", "labels": labels}, "spec": {"containers": [container]}}
    manifest = tmp_path / "pod.json"
    manifest.write_text(json.dumps({"apiVersion": "v1", "kind": "Pod", **stranger}))
    hostler.kubectl("apply", "--namespace", hostler.instances, "--filename", str(manifest))
    eventually(lambda: "stranger" in ready(hostler), "the stranger runs")
    hostler.kubectl("delete", "pod", "hostler-control-0", "--namespace", hostler.namespace)
    eventually(lambda: "hostler-control-0" in ready(hostler, hostler.namespace), "control is back")
    assert many.invoke("warm0")
    assert "stranger" in ready(hostler)
    hostler.kubectl("delete", "pod", "stranger", "--namespace", hostler.instances, "--grace-period=1")


def test_evictions_go_one_by_one_within_their_budgets_and_lose_no_call(
    hostler: Cell, many: Endpoint, calls: int
) -> None:
    assert hostler.cluster
    with under_load(hostler, many, calls) as load:
        for namespace, names in (
            (hostler.instances, sorted(ready(hostler))),
            (hostler.namespace, sorted({*ready(hostler, hostler.namespace)} - {"hostler-control-0"})),
        ):
            first, second = names
            eventually(lambda it=namespace: budget(hostler, it) == 1, "one of two may go")
            assert hostler.cluster.evict(namespace, first, second) == [second]
            eventually(lambda it=namespace, pod=second: not hostler.cluster.evict(it, pod), "the other one may go, too")
            eventually(lambda it=namespace, gone={*names}: is_renewed(hostler, it, gone), "two others are there")
            load.more(calls // 4)
    assert lost(load) == 0, load.outcomes


def budget(hostler: Cell, namespace: str) -> int:
    """Return how many pods may be evicted now."""
    budgets = hostler.read("poddisruptionbudgets", "--namespace", namespace)["items"]
    return sum(each.get("status", {}).get("disruptionsAllowed", 0) for each in budgets)


def is_renewed(hostler: Cell, namespace: str, gone: set[str]) -> bool:
    now = {*ready(hostler, namespace)} - {"hostler-control-0"}
    return len(now) == 2 and not now & gone


def test_the_notice_of_a_spot_instance_loses_no_call(hostler: Cell, many: Endpoint, calls: int) -> None:
    assert hostler.cluster
    with under_load(hostler, many, calls) as load:
        before = ready(hostler)
        victim = in_zone(before, "b")
        with hostler.cluster.shut_down(before[victim], grace=20):
            eventually(lambda: len({*ready(hostler)} - {victim}) == 2, "another pod takes its place")
            load.more(calls)
            eventually(lambda: victim not in names(hostler), "it is gone")
    assert lost(load) == 0, load.outcomes


def test_whoever_is_not_of_the_cell_gets_no_word_and_takes_nobodys_place(
    hostler: Cell, many: Endpoint, calls: int
) -> None:
    assert hostler.cluster
    one, two = sorted(ready(hostler))
    [gateway, *_] = sorted({*ready(hostler, hostler.namespace)} - {"hostler-control-0"})
    token, of_instances = hostler.cluster.token, (hostler.instances, "hostler-instance")
    control = hostler.read("pod", "hostler-control-0", "--namespace", hostler.namespace)["status"]["podIP"]
    instances = {
        pod["metadata"]["name"]: json.loads(pod["metadata"]["annotations"]["hostler.dev/launch"])["id"]
        for pod in hostler.pods()
    }
    good = token(*of_instances, "hostler", one)
    refused = [
        ("agent", instances[two], good),  # another pod's
        ("gateway", gateway, good),
        ("agent", instances[one], token(*of_instances, "", one)),  # for the API server
        ("agent", instances[one], token(*of_instances, "hostler")),  # of no pod
        ("agent", instances[one], token(hostler.instances, "default", "hostler", one)),
        ("agent", instances[one], token(*of_instances, "hostler", one, seconds=-1)),
        ("agent", instances[one], good[:-1] + ("A" if good[-1] != "A" else "B")),
        ("gateway", gateway, ""),
    ]
    before = identities(hostler)
    with under_load(hostler, many, calls) as load, contextlib.ExitStack() as strangers:
        for role, name, shown in refused:
            assert answer_to_knock(control, role, name, shown) == b"", (role, name)
        assert answer_to_knock(control, "agent", instances[one], good)  # and the agent is linked again
        agents = [pod["status"]["podIP"] for pod in hostler.pods()]
        ports = [(control, 7700), (control, 7701), *((agent, 7901) for agent in agents)]
        strangers.enter_context(silent_strangers(hostler.cluster.kubelet.network, ports, 500))
        many.put(f"beside{calls}")
        assert many.invoke(f"beside{calls}")
        assert hostler.status("many")[0] == "InService"
        load.more(calls)
        assert len(ready(hostler)) == 2
    assert lost(load) == 0, load.outcomes
    assert identities(hostler) == before


def volume(hostler: Cell) -> Path:
    """Return the folder of control's volume."""
    assert hostler.cluster
    return hostler.cluster.folder / "claims" / f"{hostler.namespace}-data-hostler-control-0"


def test_of_two_controls_the_older_one_falls_silent(hostler: Cell, many: Endpoint, calls: int, tmp_path: Path) -> None:
    """Its node's kubelet is gone, and it runs on with the same state, while Kubernetes has put another in its place."""
    assert hostler.cluster
    before = identities(hostler)
    own = hostler.read("pod", "hostler-control-0", "--namespace", hostler.namespace)
    [older] = [each["containerID"].removeprefix("docker://") for each in own["status"]["containerStatuses"]]
    data, old = volume(hostler), volume(hostler).with_suffix(".older")
    with under_load(hostler, many, calls) as load:
        hostler.cluster.abandon(hostler.namespace, "hostler-control-0")
        data.rename(old)
        shutil.copytree(old, data, copy_function=os.link, ignore=shutil.ignore_patterns("*.db*", "artifacts"))
        with sqlite3.connect(old / "hostler.db") as state:
            state.execute("VACUUM INTO ?", [str(data / "hostler.db")])
        for folder, _, files in os.walk(data):
            for each in (folder, *(os.path.join(folder, file) for file in files)):
                os.chown(each, 10_001, 10_001)
        namespace = ("--namespace", hostler.namespace)
        hostler.kubectl("delete", "pod", "hostler-control-0", *namespace, "--grace-period=0", "--force")
        eventually(lambda: "hostler-control-0" in ready(hostler, hostler.namespace), "there is another control")
        eventually(lambda: not is_running(older), "the older one has ended")
        many.put(f"newer{calls}")
        assert many.invoke(f"newer{calls}")
        load.more(calls)
    assert lost(load) == 0, load.outcomes
    assert identities(hostler) == before


def is_running(container: str) -> bool:
    return docker_rig.docker("inspect", "--format", "{{.State.Running}}", container).strip() == "true"


def test_a_store_that_is_lost_and_made_anew_leaves_the_pods_of_the_other_one_alone(
    hostler: Cell, many: Endpoint, calls: int
) -> None:
    """The new one has an endpoint of the same name, so its instances have the same ids. Then the old one is back."""
    before = identities(hostler)
    data, lost_one = volume(hostler), volume(hostler).with_suffix(".lost")
    with without_control(hostler):
        data.rename(lost_one)
    try:
        eventually(lambda: "2 pods are of another store" in log_of_control(hostler), "the old pods are named")
        eventually(lambda: is_unknown(many), "nobody knows the endpoint any more")
        hostler.deploy("many", [{"Image": f"{ECR}/myimage1:mytag"}], count=2)
        hostler.wait_in_service("many")
        answer = hostler.runtime.invoke_endpoint(EndpointName="many", ContentType="text/csv", Body="2")
        assert answer["Body"].read() == b"6.0"
        assert identities(hostler) > before
        assert len(identities(hostler)) == 4
        hostler.delete("many")
        eventually(lambda: identities(hostler) == before, "only the old instances are left")
    finally:
        with without_control(hostler):
            shutil.rmtree(data)
            lost_one.rename(data)
    with under_load(hostler, many, calls) as load:
        many.put(f"again{calls}")
        assert many.invoke(f"again{calls}")
    assert lost(load) == 0, load.outcomes
    assert identities(hostler) == before


KUBECTL_WITH_EXEC = """#!/bin/sh
# `exec` is Docker's: the tests' API server has none.
kubectl() { %(kubectl)s --kubeconfig %(kubeconfig)s "$@"; }
[ "$3" = exec ] || { kubectl "$@"; exit; }
namespace=$2; shift 3
[ "$1" != -i ] || shift
id=$(kubectl --namespace "$namespace" get pod "$1" --output 'jsonpath={.status.containerStatuses[0].containerID}')
shift 2
exec docker --host %(docker)s exec --interactive "${id#docker://}" "$@"
"""


def test_what_is_desired_is_saved_and_restored_by_the_pages_own_commands(
    hostler: Cell, many: Endpoint, calls: int, tmp_path: Path
) -> None:
    program = tmp_path / "kubectl"
    parts = {"kubectl": KUBECTL, "kubeconfig": hostler.kubeconfig, "docker": docker_rig.address()}
    program.write_text(KUBECTL_WITH_EXEC % parts)
    program.chmod(0o755)
    section = (helm_chart.ROOT / "docs" / "kubernetes.md").read_text().split("\n## Back up the state\n")[1]
    save, restore = (part.split("```")[0] for part in section.split("\n## ")[0].split("```console\n")[1:])
    before = identities(hostler)
    with under_load(hostler, many, calls) as load:
        run(hostler, save, tmp_path)
        hostler.deploy("later", [{"Image": f"{ECR}/myimage1:mytag"}])
        hostler.wait_in_service("later")
        assert identities(hostler) > before
        run(hostler, restore, tmp_path)
        eventually(lambda: "hostler-control-0" in ready(hostler, hostler.namespace), "control is back")
        eventually(lambda: identities(hostler) == before, "what was created since is gone")
        load.more(calls)
    assert lost(load) == 0, load.outcomes
    assert [each["EndpointName"] for each in hostler.sm.list_endpoints()["Endpoints"]] == ["many"]
    many.put(f"restored{calls}")
    assert many.invoke(f"restored{calls}")


def run(hostler: Cell, commands: str, folder: Path) -> None:
    """Run commands of a page, with the image of this cell, and with a program `kubectl` that is in a folder."""
    script = commands.replace("\n$ ", "\n").removeprefix("$ ").replace("hostler:0.1.0", hostler.images["hostler"])
    environment = {**os.environ, "PATH": f"{folder}:{os.environ['PATH']}", "HOME": str(folder)}
    words = ["bash", "-e", "-u", "-c", script]
    done = subprocess.run(words, cwd=folder, env=environment, capture_output=True, text=True, timeout=300, check=False)
    assert done.returncode == 0, done.stdout + done.stderr


@contextlib.contextmanager
def without_control(hostler: Cell) -> Iterator[None]:
    scale = ("scale", "statefulset/hostler-control", "--namespace", hostler.namespace)
    hostler.kubectl(*scale, "--replicas=0")
    eventually(lambda: "hostler-control-0" not in names(hostler, hostler.namespace), "control is gone")
    yield
    hostler.kubectl(*scale, "--replicas=1")
    eventually(lambda: "hostler-control-0" in ready(hostler, hostler.namespace), "control is back")


def is_unknown(many: Endpoint) -> bool:
    try:
        return not many.invoke("warm0")
    except ClientError as error:
        return "Endpoint many of account" in str(error)


def names(hostler: Cell, namespace: str = "") -> set[str]:
    return {pod["metadata"]["name"] for pod in hostler.pods(namespace)}
