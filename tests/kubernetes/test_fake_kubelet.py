"""The kubelet of the tests runs pods on Docker as Kubernetes' does: order, probes, ends, troubles, names, nodes."""

from __future__ import annotations

import contextlib
import os
import time
import urllib.request
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from fake_cluster import cluster as clusters
from fake_cluster.cluster import Cluster
from fake_cluster.deletion import is_ready
from fake_cluster.kinds import DEPLOYMENT, EVENT, POD, STATEFUL_SET
from fake_cluster.refusals import Refusal

import docker_rig

pytestmark = pytest.mark.docker

HOME = "default"
NO_KEY = {"secretKeyRef": {"name": "none", "key": "a"}}
SERVE = "import http.server,os; os.chdir('/'); http.server.test(http.server.SimpleHTTPRequestHandler, port={port}, bind='0.0.0.0')"  # fmt: skip  # noqa: E501
Object = dict[str, Any]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.running(nodes=clusters.ZONES, capacity={"cpu": "4"}) as cluster:
        cluster.kubelet.haste = 0.1
        yield cluster
        for kind in (DEPLOYMENT, STATEFUL_SET, POD):
            for each in cluster.list(kind):
                with contextlib.suppress(Refusal):  # it has gone with its owner
                    cluster.delete(kind, HOME, each["metadata"]["name"], grace=0)
    shown = docker_rig.docker("ps", "--all", "--quiet", "--filter", f"label=fake-cluster={os.getpid()}")
    assert not shown.strip()


def container(name: str, script: str, **more: Any) -> Object:
    command = ["bash", "-c", script] if not script.startswith("import ") else ["python3", "-c", script]
    return {"name": name, "image": docker_rig.base(), "command": command, **more}


def pod(name: str, *containers: Object, **spec: Any) -> Object:
    metadata = {"name": name, "namespace": HOME, "labels": {"app": name}}
    whole = {"restartPolicy": "Never", "terminationGracePeriodSeconds": 5, "containers": list(containers), **spec}
    return {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": whole}


def wait_for(what: Callable[[], Any], seconds: float = 120) -> Any:
    """Return what a call returns as soon as that is true; a call that is refused is made again."""
    deadline = time.monotonic() + seconds
    while True:
        with contextlib.suppress(Refusal):  # the pod is between its end and its successor
            if found := what():
                return found
        assert time.monotonic() < deadline, "it did not come"
        time.sleep(0.1)


def now(cluster: Cluster, name: str) -> Object:
    return cluster.get(POD, HOME, name)


def ready(cluster: Cluster, name: str) -> Object:
    return wait_for(lambda: (found := now(cluster, name)) and is_ready(found) and found)


def ended(cluster: Cluster, name: str) -> Object:
    return wait_for(lambda: (found := now(cluster, name))["status"]["phase"] in ("Failed", "Succeeded") and found)


def gone(cluster: Cluster, name: str) -> bool:
    return name not in {each["metadata"]["name"] for each in cluster.list(POD, HOME)}


def state(found: Object, name: str) -> Object:
    statuses = [*found["status"].get("initContainerStatuses", ()), *found["status"]["containerStatuses"]]
    return next(each for each in statuses if each["name"] == name)


def reasons(cluster: Cluster, name: str) -> set[str]:
    return {each["reason"] for each in cluster.list(EVENT, HOME) if each["involvedObject"]["name"] == name}


def test_a_sidecar_holds_its_pod_back_until_it_has_started_and_shares_folders_and_network(cluster: Cluster) -> None:
    probe = {"httpGet": {"path": "/started", "port": 7901}, "periodSeconds": 1, "failureThreshold": 100}
    script = (
        "mkdir -p /room/c0; echo here > /room/c0/it; sleep 1; touch /started; cd / && exec python3 -m http.server 7901"
    )
    room = {"name": "room", "mountPath": "/room"}
    sidecar = container("agent", script, restartPolicy="Always", startupProbe=probe, volumeMounts=[room])
    read = "cat /opt/ml/it && (</dev/tcp/127.0.0.1/7901) && cat /etc/hosts && hostname && touch /opt/ml/mine && exec sleep 100"  # fmt: skip  # noqa: E501
    main = container("c0", read, volumeMounts=[{"name": "room", "mountPath": "/opt/ml", "subPath": "c0"}])
    cluster.apply(
        pod(
            "first", main, initContainers=[sidecar], volumes=[{"name": "room", "emptyDir": {}}], hostname="one",
            hostAliases=[{"ip": "127.0.0.1", "hostnames": ["one", "two"]}],
        )
    )  # fmt: skip
    found = wait_for(lambda: (found := now(cluster, "first"))["status"].get("initContainerStatuses") and found)
    assert "running" not in state(found, "c0")["state"]
    found = ready(cluster, "first")
    lines = wait_for(lambda: cluster.logs(HOME, "first", "c0"))
    wait_for(lambda: "one\n" in cluster.logs(HOME, "first", "c0"))
    lines = cluster.logs(HOME, "first", "c0")
    assert lines.startswith("here\n")
    assert "127.0.0.1 one two" in lines
    assert {"Scheduled", "Started"} <= reasons(cluster, "first")
    # A sidecar that ends is started again, and its pod lives on.
    docker_rig.docker("kill", state(found, "agent")["containerID"].removeprefix("docker://"))
    wait_for(lambda: state(now(cluster, "first"), "agent")["restartCount"] == 1)
    ready(cluster, "first")
    # What ends by itself with restartPolicy Never stays visible, and takes the sidecar along.
    docker_rig.docker("kill", state(found, "c0")["containerID"].removeprefix("docker://"))
    found = ended(cluster, "first")
    assert state(found, "c0")["state"]["terminated"]["exitCode"] == 137
    assert "terminated" in state(found, "agent")["state"]
    cluster.delete(POD, HOME, "first")
    wait_for(lambda: gone(cluster, "first"))


def test_a_pod_is_ready_when_its_probe_says_so_and_its_service_follows(cluster: Cluster) -> None:
    probe = {"httpGet": {"path": "/tmp/ready", "port": "http"}, "periodSeconds": 1, "failureThreshold": 1}
    server = container(
        "c0", SERVE.format(port=8080), readinessProbe=probe, ports=[{"name": "http", "containerPort": 8080}]
    )
    ports = [{"port": 80, "targetPort": "http"}]
    service = {"apiVersion": "v1", "kind": "Service", "metadata": {"name": "web", "namespace": HOME}}
    cluster.apply({**service, "spec": {"selector": {"app": "served"}, "ports": ports}})
    cluster.apply(pod("served", server), pod("caller", container("c0", "exec sleep 1000")))
    ready(cluster, "caller")
    wait_for(lambda: "running" in state(now(cluster, "served"), "c0")["state"])
    assert not is_ready(now(cluster, "served"))
    assert "web.default.svc" not in in_container(cluster, "caller", "cat /etc/hosts")
    in_container(cluster, "served", "touch /tmp/ready")
    ready(cluster, "served")
    wait_for(lambda: "web.default.svc" in in_container(cluster, "caller", "cat /etc/hosts"))
    assert "200" in in_container(cluster, "caller", "curl -sI http://web.default.svc:8080/tmp/")
    with urllib.request.urlopen(cluster.front(HOME, "web", 80) + "/tmp/") as answer:
        assert answer.status == 200
    in_container(cluster, "served", "rm /tmp/ready")
    wait_for(lambda: not is_ready(now(cluster, "served")))
    wait_for(lambda: "web.default.svc" not in in_container(cluster, "caller", "cat /etc/hosts"))
    for name in ("served", "caller"):
        cluster.delete(POD, HOME, name, grace=1)
    wait_for(lambda: gone(cluster, "served") and gone(cluster, "caller"))


def test_tokens_config_maps_secrets_fields_and_claims_are_where_a_pod_wants_them(cluster: Cluster) -> None:
    metadata = {"name": "notes", "namespace": HOME}
    cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": metadata, "data": {"a.toml": "x = 1"}})
    cluster.apply({"apiVersion": "v1", "kind": "Secret", "metadata": metadata, "stringData": {"KEY": "hidden"}})
    token = {"serviceAccountToken": {"audience": "hostler", "expirationSeconds": 3600, "path": "token"}}
    volumes = [
        {"name": "config", "configMap": {"name": "notes"}},
        {"name": "all", "projected": {"sources": [token, {"configMap": {"name": "notes"}}]}},
    ]
    env = [
        {"name": "ME", "valueFrom": {"fieldRef": {"fieldPath": "metadata.name"}}},
        {"name": "IP", "valueFrom": {"fieldRef": {"fieldPath": "status.podIP"}}},
        {"name": "BOTH", "value": "$(ME)-$(IP)"},
    ]
    mounts = [{"name": "config", "mountPath": "/etc/notes"}, {"name": "all", "mountPath": "/run/all", "readOnly": True}]
    context = {"runAsUser": 10001, "runAsGroup": 10001, "fsGroup": 10001, "runAsNonRoot": True}
    hardened = {"readOnlyRootFilesystem": True, "allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    script = "cat /etc/notes/a.toml; echo; cat /run/all/token; echo; echo $BOTH $KEY; id -u; touch /x 2>/dev/null || echo kept; exec sleep 100"  # fmt: skip  # noqa: E501
    asked = container(
        "c0", script, env=env, envFrom=[{"secretRef": {"name": "notes"}}], volumeMounts=mounts, securityContext=hardened
    )
    cluster.apply(pod("given", asked, volumes=volumes, securityContext=context))
    found = ready(cluster, "given")
    wait_for(lambda: "kept" in cluster.logs(HOME, "given", "c0"))
    text, token_, both, user, *_ = cluster.logs(HOME, "given", "c0").split("\n")
    assert text == "x = 1"
    assert both == f"given-{found['status']['podIP']} hidden"
    assert user == "10001"
    known = cluster.call(lambda: cluster.access.user(token_, ["hostler"]))
    assert known
    assert known[0].extra["authentication.kubernetes.io/pod-name"] == ["given"]
    # The API server, as a pod without a client sees it.
    ask = 'curl -s --cacert $D/ca.crt -H "Authorization: Bearer $(cat $D/token)" https://kubernetes.default.svc:$KUBERNETES_SERVICE_PORT/api/v1/namespaces/default/pods'  # fmt: skip  # noqa: E501
    assert '"Forbidden"' in in_container(cluster, "given", f"D=/var/run/secrets/kubernetes.io/serviceaccount; {ask}")
    cluster.delete(POD, HOME, "given", grace=0)


@pytest.mark.parametrize(
    ("name", "change", "waits", "event"),
    [
        ("no-image", {"image": "registry.example/none:1"}, "ImagePullBackOff", "Failed"),
        ("root", {"securityContext": {"runAsNonRoot": True}}, "CreateContainerConfigError", "Failed"),
        ("no-key", {"env": [{"name": "A", "valueFrom": NO_KEY}]}, "CreateContainerConfigError", "Failed"),
    ],
)  # fmt: skip
def test_a_container_that_cannot_start_says_why_it_waits(
    cluster: Cluster, name: str, change: Object, waits: str, event: str
) -> None:
    cluster.apply(pod(name, container("c0", "sleep 100", **change)))
    wait_for(
        lambda: (
            now(cluster, name)["status"].get("containerStatuses")
            and state(now(cluster, name), "c0")["state"].get("waiting", {}).get("reason") == waits
        )
    )
    assert event in reasons(cluster, name)
    cluster.delete(POD, HOME, name, grace=0)
    wait_for(lambda: gone(cluster, name))


def test_a_container_that_uses_up_its_memory_ends_with_that_reason(cluster: Cluster) -> None:
    limit = {"limits": {"memory": "32Mi"}}
    cluster.apply(pod("hungry", container("c0", "import time; x = b'x' * 2**28; time.sleep(9)", resources=limit)))
    assert state(ended(cluster, "hungry"), "c0")["state"]["terminated"]["reason"] == "OOMKilled"
    cluster.delete(POD, HOME, "hungry")


def test_a_container_that_ends_again_and_again_waits_longer_each_time(cluster: Cluster) -> None:
    cluster.apply(pod("weak", container("c0", "exit 3"), restartPolicy="Always"))
    found = wait_for(
        lambda: (
            now(cluster, "weak")["status"].get("containerStatuses")
            and state(found := now(cluster, "weak"), "c0")["state"].get("waiting", {}).get("reason")
            == "CrashLoopBackOff"
            and found
        )
    )
    assert state(found, "c0")["lastState"]["terminated"]["exitCode"] == 3
    cluster.delete(POD, HOME, "weak", grace=0)


def test_a_pod_ends_with_pre_stop_then_sigterm_then_sigkill(cluster: Cluster) -> None:
    polite = "trap 'sleep 1; exit 0' TERM; sleep 1000 & wait"
    hook = {"preStop": {"sleep": {"seconds": 1}}}
    cluster.apply(pod("polite", container("c0", polite, lifecycle=hook), container("c1", "trap '' TERM; sleep 1000")))
    ready(cluster, "polite")
    cluster.delete(POD, HOME, "polite", grace=3)
    assert not gone(cluster, "polite")
    wait_for(lambda: gone(cluster, "polite"))


def test_what_fits_on_no_node_says_so_and_comes_when_there_is_room(cluster: Cluster) -> None:
    def large(name: str) -> Object:
        return pod(name, container("c0", "exec sleep 1000", resources={"requests": {"cpu": "3"}}))

    cluster.apply(*(large(f"large-{number}") for number in range(4)))
    waiting = wait_for(lambda: [each for each in cluster.list(POD, HOME) if "FailedScheduling" in reasons(cluster, each["metadata"]["name"])])  # fmt: skip  # noqa: E501
    [condition] = now(cluster, waiting[0]["metadata"]["name"])["status"]["conditions"]
    assert condition["reason"] == "Unschedulable"
    assert condition["message"].startswith("0/3 nodes are available: 3 Insufficient cpu.")
    nodes = {each["spec"].get("nodeName") for each in cluster.list(POD, HOME)}
    assert nodes == {*clusters.ZONES, None}
    placed = next(each["metadata"]["name"] for each in cluster.list(POD, HOME) if each["spec"].get("nodeName"))
    cluster.delete(POD, HOME, placed, grace=0)
    ready(cluster, waiting[0]["metadata"]["name"])
    for each in cluster.list(POD, HOME):
        cluster.delete(POD, HOME, each["metadata"]["name"], grace=0)


def test_a_deployment_is_updated_without_a_gap_and_a_set_keeps_names_and_claims(cluster: Cluster) -> None:
    labels = {"app": "many"}
    template = {"metadata": {"labels": labels}, "spec": {"terminationGracePeriodSeconds": 1}}
    strategy = {"rollingUpdate": {"maxUnavailable": 0, "maxSurge": 1}}

    def deployment(text: str) -> Object:
        spec = {**template["spec"], "containers": [container("c0", f"echo {text}; exec sleep 1000")]}
        whole = {"replicas": 2, "selector": {"matchLabels": labels}, "strategy": strategy}
        metadata = {"name": "many", "namespace": HOME}
        return {
            "apiVersion": "apps/v1", "kind": "Deployment", "metadata": metadata,
            "spec": {**whole, "template": {**template, "spec": spec}},
        }  # fmt: skip

    def status() -> Object:
        return cluster.get(DEPLOYMENT, HOME, "many").get("status", {})

    cluster.apply(deployment("one"))
    wait_for(lambda: status().get("availableReplicas") == 2)
    cluster.apply(deployment("two"))
    least = 2
    generation = cluster.get(DEPLOYMENT, HOME, "many")["metadata"]["generation"]
    while status()["observedGeneration"] != generation or status()["updatedReplicas"] < 2 or status()["replicas"] > 2:
        least = min(least, sum(is_ready(each) for each in cluster.list(POD, HOME)))
        time.sleep(0.1)
    assert least >= 2
    cluster.delete(DEPLOYMENT, HOME, "many")
    wait_for(lambda: not cluster.list(POD, HOME))
    claim = {"metadata": {"name": "data"}, "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}  # fmt: skip  # noqa: E501
    script = "ls /data; touch /data/$HOSTNAME; exec sleep 1000"
    spec = {
        **template["spec"],
        "containers": [container("c0", script, volumeMounts=[{"name": "data", "mountPath": "/data"}])],
    }
    whole = {"replicas": 1, "selector": {"matchLabels": labels}, "serviceName": "many", "volumeClaimTemplates": [claim]}
    metadata = {"name": "one", "namespace": HOME}
    cluster.apply({"apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": {**whole, "template": {**template, "spec": spec}}})  # fmt: skip  # noqa: E501
    first = ready_once(cluster, "one-0")
    cluster.delete(POD, HOME, "one-0")
    wait_for(lambda: ready_once(cluster, "one-0")["metadata"]["uid"] != first["metadata"]["uid"])
    wait_for(lambda: "one-0" in cluster.logs(HOME, "one-0", "c0"))
    cluster.delete(STATEFUL_SET, HOME, "one")
    wait_for(lambda: not cluster.list(POD, HOME))


@pytest.mark.parametrize("policy", ["OrderedReady", "Parallel"])
def test_a_set_whose_pod_never_becomes_ready_is_mended_by_an_update_only_if_it_is_parallel(
    cluster: Cluster, policy: str
) -> None:
    labels = {"app": "stuck"}

    def stateful_set(script: str) -> Object:
        pod_spec = {"terminationGracePeriodSeconds": 1, "containers": [container("c0", script)]}
        template = {"metadata": {"labels": labels}, "spec": pod_spec}
        spec = {"replicas": 1, "selector": {"matchLabels": labels}, "serviceName": "x", "podManagementPolicy": policy}
        metadata = {"name": "stuck", "namespace": HOME}
        return {
            "apiVersion": "apps/v1", "kind": "StatefulSet", "metadata": metadata, "spec": {**spec, "template": template}
        }  # fmt: skip

    def crashes() -> bool:
        statuses = not gone(cluster, "stuck-0") and now(cluster, "stuck-0")["status"].get("containerStatuses")
        return bool(statuses) and statuses[0]["restartCount"] > 0 and not is_ready(now(cluster, "stuck-0"))

    cluster.apply(stateful_set("exit 1"))
    wait_for(crashes)
    first = now(cluster, "stuck-0")["metadata"]["uid"]
    cluster.apply(stateful_set("exec sleep 1000"))
    if policy == "OrderedReady":
        wait_for(lambda: cluster.get(STATEFUL_SET, HOME, "stuck")["status"]["observedGeneration"] == 2)
        assert now(cluster, "stuck-0")["metadata"]["uid"] == first
        cluster.delete(POD, HOME, "stuck-0")  # by hand
    assert ready_once(cluster, "stuck-0")["metadata"]["uid"] != first
    cluster.delete(STATEFUL_SET, HOME, "stuck")
    wait_for(lambda: not cluster.list(POD, HOME))


def ready_once(cluster: Cluster, name: str) -> Object:
    return wait_for(lambda: is_ready(found := now(cluster, name)) and found)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can cut a container's network off")
def test_a_node_that_is_cut_off_is_silent_and_its_pods_are_deleted_when_it_is_back(cluster: Cluster) -> None:
    cluster.apply(pod("far", container("c0", SERVE.format(port=8080)), tolerations=[{"operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1}]))  # fmt: skip  # noqa: E501
    found = ready(cluster, "far")
    url = f"http://{found['status']['podIP']}:8080/tmp/"
    wait_for(lambda: answers(url))
    cluster.controllers.silence = 2
    with cluster.cut_off(found["spec"]["nodeName"]):
        assert not answers(url)
        wait_for(lambda: "deletionTimestamp" in now(cluster, "far")["metadata"])
        assert not is_ready(now(cluster, "far"))
        time.sleep(2)
        assert not gone(cluster, "far")  # nobody there hears of it
    wait_for(lambda: gone(cluster, "far"))


def test_a_drained_node_has_no_pods_and_gets_none(cluster: Cluster) -> None:
    cluster.apply(*(pod(f"p{number}", container("c0", "exec sleep 1000")) for number in range(3)))
    for number in range(3):
        ready(cluster, f"p{number}")
    cluster.drain("node-a1")
    assert {each["spec"]["nodeName"] for each in cluster.list(POD, HOME)} <= {"node-a2", "node-b1"}
    cluster.cordon("node-a1", allow=True)
    for each in cluster.list(POD, HOME):
        cluster.delete(POD, HOME, each["metadata"]["name"], grace=0)


def test_the_log_of_a_container_that_did_not_start_is_refused(cluster: Cluster) -> None:
    cluster.apply(pod("quiet", container("c0", "x", image="registry.example/none:1")))
    wait_for(lambda: now(cluster, "quiet")["status"].get("podIP"))
    with pytest.raises(Refusal, match="waiting to start"):
        cluster.logs(HOME, "quiet", "c0")
    cluster.delete(POD, HOME, "quiet", grace=0)


def test_the_log_of_a_container_that_is_gone_is_not_found(cluster: Cluster) -> None:
    cluster.apply(pod("over", container("c0", "echo said")))
    found = ended(cluster, "over")
    assert cluster.logs(HOME, "over", "c0") == "said\n"
    docker_rig.docker("rm", state(found, "c0")["containerID"].removeprefix("docker://"))
    with pytest.raises(Refusal, match="could not find") as refused:
        cluster.logs(HOME, "over", "c0")
    assert refused.value.code == 404
    cluster.delete(POD, HOME, "over", grace=0)


def in_container(cluster: Cluster, name: str, script: str) -> str:
    id = state(now(cluster, name), "c0")["containerID"].removeprefix("docker://")
    return docker_rig.docker("exec", id, "bash", "-c", script)


def answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=2) as answer:
            return bool(answer.status == 200)
    except OSError:
        return False
