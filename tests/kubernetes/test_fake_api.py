"""The API server of the tests does what Kubernetes does, as far as hostler and its chart could notice."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
import yaml
from fake_cluster import cluster as clusters
from fake_cluster.access import Question
from fake_cluster.cluster import Cluster
from fake_cluster.kinds import CONFIG_MAP, NAMESPACE, POD
from fake_cluster.refusals import Refusal
from lightkube import ApiError, AsyncClient, Client, KubeConfig
from lightkube.models.authentication_v1 import TokenReviewSpec
from lightkube.models.authorization_v1 import ResourceAttributes, SelfSubjectAccessReviewSpec
from lightkube.models.core_v1 import Container, PodSpec
from lightkube.models.meta_v1 import ObjectMeta
from lightkube.resources.authentication_v1 import TokenReview
from lightkube.resources.authorization_v1 import SelfSubjectAccessReview
from lightkube.resources.core_v1 import ConfigMap, Pod, PodEviction
from lightkube.resources.policy_v1 import PodDisruptionBudget

KUBECTL = Path(__file__).parents[2] / ".venv" / "cluster" / "kubectl"
HOME = "instances"
CONTAINER = {"name": "c", "image": "x"}
MORE_THAN_ALLOWED = {"limits": {"cpu": "1"}, "requests": {"cpu": "2"}}

_clients: list[Client] = []  # of a test


@pytest.fixture(scope="module")
def one() -> Iterator[Cluster]:
    with clusters.running() as cluster:
        cluster.apply(
            {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}},
            account("control"),
            role("control", {"pods": ["get", "list", "watch", "create", "delete"], "configmaps": ["get"]}),
            binding("control"),
        )
        yield cluster


@pytest.fixture
def cluster(one: Cluster) -> Iterator[Cluster]:
    yield one
    while _clients:
        _clients.pop().close()
    for kind in (POD, CONFIG_MAP):
        for each in one.list(kind, HOME):
            one.delete(kind, HOME, each["metadata"]["name"], grace=0)


def account(name: str) -> dict[str, object]:
    return {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": {"name": name, "namespace": HOME}}


def role(name: str, rights: dict[str, list[str]]) -> dict[str, object]:
    rules = [{"apiGroups": [""], "resources": [what], "verbs": verbs} for what, verbs in rights.items()]
    metadata = {"name": name, "namespace": HOME}
    return {"apiVersion": "rbac.authorization.k8s.io/v1", "kind": "Role", "metadata": metadata, "rules": rules}


def binding(name: str) -> dict[str, object]:
    return {
        "apiVersion": "rbac.authorization.k8s.io/v1",
        "kind": "RoleBinding",
        "metadata": {"name": name, "namespace": HOME},
        "roleRef": {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": name},
        "subjects": [{"kind": "ServiceAccount", "name": name, "namespace": HOME}],
    }


def a_pod(name: str, **labels: str) -> Pod:
    spec = PodSpec(containers=[Container(name="c0", image="theirs:1")])
    return Pod(metadata=ObjectMeta(name=name, namespace=HOME, labels=labels), spec=spec)


def client(cluster: Cluster, token: str = "") -> Client:
    _clients.append(Client(KubeConfig.from_dict(cluster.kubeconfig(token, HOME))))
    return _clients[-1]


def control(cluster: Cluster) -> Client:
    return client(cluster, cluster.token(HOME, "control"))


def refused(error: pytest.ExceptionInfo[ApiError]) -> tuple[int, str]:
    return error.value.status.code, error.value.status.reason


# --- objects


def test_an_object_is_created_read_listed_by_labels_and_fields_and_deleted(cluster: Cluster) -> None:
    api = control(cluster)
    for name, color in (("a", "red"), ("b", "blue"), ("c", "red")):
        api.create(a_pod(name, color=color))
    assert api.get(Pod, "a").metadata.uid
    assert [each.metadata.name for each in api.list(Pod, labels={"color": "red"})] == ["a", "c"]
    assert [each.metadata.name for each in api.list(Pod, fields={"metadata.name": "b"})] == ["b"]
    api.delete(Pod, "a")
    with pytest.raises(ApiError) as error:
        api.get(Pod, "a")
    assert refused(error) == (404, "NotFound")


def test_a_name_is_taken_until_its_object_is_gone(cluster: Cluster) -> None:
    api = control(cluster)
    api.create(a_pod("a"))
    with pytest.raises(ApiError) as error:
        api.create(a_pod("a"))
    assert refused(error) == (409, "AlreadyExists")


def test_a_list_in_chunks_is_the_whole_list(cluster: Cluster) -> None:
    api = control(cluster)
    names = [f"p{number}" for number in range(7)]
    for name in names:
        api.create(a_pod(name))
    assert [each.metadata.name for each in api.list(Pod, chunk_size=3)] == names


def test_an_update_of_an_older_version_is_a_conflict(cluster: Cluster) -> None:
    api = client(cluster)
    old = api.create(ConfigMap(metadata=ObjectMeta(name="notes", namespace=HOME), data={"a": "1"}))
    api.patch(ConfigMap, "notes", {"data": {"a": "2", "b": "3"}})
    old.data = {"a": "0"}
    with pytest.raises(ApiError) as error:
        api.replace(old)
    assert refused(error) == (409, "Conflict")
    assert api.get(ConfigMap, "notes").data == {"a": "2", "b": "3"}


def test_a_misspelt_key_and_a_wrong_type_are_refused(cluster: Cluster) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": HOME}}
    for spec in ({"containers": [{"name": "c", "imagee": "x"}]}, {"containers": [{"name": "c", "image": 7}]}):
        with pytest.raises(Refusal, match="strict decoding error"):
            cluster.apply({**pod, "spec": spec})


@pytest.mark.parametrize(
    ("change", "why"),
    [
        ({"metadata": {"name": "A"}}, "lowercase RFC 1123"),
        ({"metadata": {"labels": {"of": "a/b"}}}, "valid label"),
        ({"spec": {"containers": [CONTAINER | {"volumeMounts": [{"name": "v", "mountPath": "/v"}]}]}}, "Not found"),
        ({"spec": {"containers": [CONTAINER | {"resources": MORE_THAN_ALLOWED}]}}, "less than or equal"),
        ({"spec": {"serviceAccountName": "nobody", "containers": [CONTAINER]}}, "not found"),
    ],
)
def test_a_pod_that_kubernetes_would_refuse_is_refused(cluster: Cluster, change: dict[str, dict], why: str) -> None:
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": HOME}}
    pod["spec"] = {"containers": [{"name": "c", "image": "x"}]}
    for key, value in change.items():
        pod[key] = {**pod[key], **value}  # type: ignore[dict-item]
    with pytest.raises(Refusal, match=why):
        cluster.apply(pod)


def test_a_namespace_has_pods_refused_that_its_security_level_does_not_allow(cluster: Cluster) -> None:
    labels = {"pod-security.kubernetes.io/enforce": "restricted"}
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": "strict", "labels": labels}})
    pod = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "namespace": "strict"}}
    with pytest.raises(Refusal, match="violates PodSecurity"):
        cluster.apply({**pod, "spec": {"containers": [{"name": "c", "image": "x"}]}})
    context = {"allowPrivilegeEscalation": False, "runAsNonRoot": True, "capabilities": {"drop": ["ALL"]}}
    container = {
        "name": "c",
        "image": "x",
        "securityContext": {**context, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    cluster.apply({**pod, "spec": {"containers": [container]}})
    cluster.delete(NAMESPACE, "", "strict")
    assert not cluster.list(POD, "strict")


def test_a_pod_on_a_node_stays_until_its_grace_is_over_or_is_shortened(cluster: Cluster) -> None:
    api = control(cluster)
    pod = a_pod("a")
    pod.spec.nodeName = "n1"
    pod.spec.terminationGracePeriodSeconds = 63
    client(cluster).create(pod)
    api.delete(Pod, "a")
    assert api.get(Pod, "a").metadata.deletionGracePeriodSeconds == 63
    api.delete(Pod, "a", grace_period=5)
    assert api.get(Pod, "a").metadata.deletionTimestamp
    assert api.get(Pod, "a").metadata.deletionGracePeriodSeconds == 5
    api.delete(Pod, "a", grace_period=0)
    assert not list(api.list(Pod))


def test_what_an_owner_leaves_is_deleted_and_a_new_object_without_its_owner_too(cluster: Cluster) -> None:
    [owner] = cluster.apply({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "owner", "namespace": HOME}})
    for name, uid in (("owned", owner["metadata"]["uid"]), ("stray", "11111111-2222-3333-4444-555555555555")):
        document = {"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": HOME}}
        reference = {"apiVersion": "v1", "kind": "ConfigMap", "name": "owner", "uid": uid}
        document["metadata"]["ownerReferences"] = [reference]  # type: ignore[index]
        cluster.apply({**document, "spec": {"containers": [{"name": "c", "image": "x"}]}})
    wait_for(lambda: [each["metadata"]["name"] for each in cluster.list(POD, HOME)] == ["owned"])
    cluster.delete(CONFIG_MAP, HOME, "owner")
    wait_for(lambda: cluster.list(POD, HOME) == [])


def test_an_eviction_keeps_to_the_budget(cluster: Cluster) -> None:
    for name in ("a", "b"):
        cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": {"name": name, "namespace": HOME, "labels": {"of": "x"}}, "spec": {"containers": [{"name": "c", "image": "x"}]}})  # fmt: skip  # noqa: E501
        cluster.set_status(POD, HOME, name, {"phase": "Running", "conditions": [{"type": "Ready", "status": "True"}]})
    budget = {"minAvailable": 1, "selector": {"matchLabels": {"of": "x"}}}
    api = client(cluster)
    api.create(PodDisruptionBudget.from_dict({"metadata": {"name": "x", "namespace": HOME}, "spec": budget}))
    assert evict(cluster, "a") == 201
    assert evict(cluster, "b") == 429
    api.delete(PodDisruptionBudget, "x")
    assert evict(cluster, "b") == 201


# --- who may do what


def test_each_verb_is_compared_with_the_role_of_the_callers_token(cluster: Cluster) -> None:
    api = control(cluster)
    api.create(a_pod("a"))
    for forbidden in (lambda: api.patch(Pod, "a", {"metadata": {"labels": {"x": "y"}}}), lambda: api.list(ConfigMap)):
        with pytest.raises(ApiError) as error:
            list(forbidden())
        assert refused(error) == (403, "Forbidden")
    with pytest.raises(ApiError) as error:
        list(api.list(Pod, namespace="default"))
    assert refused(error) == (403, "Forbidden")
    user = f"system:serviceaccount:{HOME}:control"
    assert Question("create", "", "pods", "", HOME) in cluster.rights_used(user)
    assert (user, Question("patch", "", "pods", "", HOME)) in cluster.rights_missed()


def test_everybody_may_ask_what_they_may_do(cluster: Cluster) -> None:
    api = control(cluster)
    for verb, allowed in (("list", True), ("patch", False)):
        asked = ResourceAttributes(verb=verb, resource="pods", namespace=HOME)
        review = SelfSubjectAccessReview(spec=SelfSubjectAccessReviewSpec(resourceAttributes=asked))
        assert api.create(review).status.allowed == allowed


def test_a_token_that_is_forged_expired_or_of_a_pod_that_is_gone_is_no_token(cluster: Cluster) -> None:
    cluster.apply(a_pod("a").to_dict() | {"apiVersion": "v1", "kind": "Pod"})
    good = cluster.token(HOME, "control", pod="a")
    head, body, signature = good.split(".")
    for bad in (f"{head}.{body}.{signature[:-2]}AA", "x", cluster.token(HOME, "control", seconds=-1)):
        with pytest.raises(ApiError) as error:
            client(cluster, bad).get(Pod, "a")
        assert error.value.status.code == 401
    assert client(cluster, good).get(Pod, "a")
    cluster.delete(POD, HOME, "a")
    with pytest.raises(ApiError) as error:
        client(cluster, good).get(Pod, "a")
    assert error.value.status.code == 401


def test_a_token_review_says_whose_token_it_is_and_for_which_audience(cluster: Cluster) -> None:
    cluster.apply(a_pod("a").to_dict() | {"apiVersion": "v1", "kind": "Pod"})
    token = cluster.token(HOME, "default", audience="hostler", pod="a")
    asked = TokenReview(spec=TokenReviewSpec(token=token, audiences=["hostler"]))
    status = client(cluster).create(asked).status
    assert status.authenticated
    assert status.audiences == ["hostler"]
    assert status.user.username == f"system:serviceaccount:{HOME}:default"
    assert status.user.extra["authentication.kubernetes.io/pod-name"] == ["a"]
    assert not client(cluster).create(TokenReview(spec=TokenReviewSpec(token=token))).status.authenticated


# --- watches


async def test_a_watch_tells_every_change_from_its_version_on(cluster: Cluster) -> None:
    api = AsyncClient(KubeConfig.from_dict(cluster.kubeconfig(namespace=HOME)))
    await api.create(a_pod("a", color="red"))
    listed = api.list(Pod)
    assert [each.metadata.name async for each in listed] == ["a"]
    await api.patch(Pod, "a", {"metadata": {"labels": {"color": "blue"}}})
    await api.create(a_pod("b", color="red"))
    await api.delete(Pod, "a")
    seen = []
    async for event, pod in api.watch(Pod, resource_version=listed.resourceVersion):
        seen.append((event, pod.metadata.name))
        if len(seen) == 3:
            break
    assert seen == [("MODIFIED", "a"), ("ADDED", "b"), ("DELETED", "a")]
    red = []
    async for event, pod in api.watch(Pod, labels={"color": "red"}, resource_version=listed.resourceVersion):
        red.append((event, pod.metadata.name))
        if len(red) == 2:
            break
    assert red == [("DELETED", "a"), ("ADDED", "b")]  # what is red no longer is gone, for who sees only red
    await api.close()


async def test_a_watch_ends_with_410_once_its_version_is_forgotten(cluster: Cluster) -> None:
    api = AsyncClient(KubeConfig.from_dict(cluster.kubeconfig(namespace=HOME)))
    await api.create(a_pod("a"))
    listed = api.list(Pod)
    assert [each async for each in listed]
    watch = api.watch(Pod, resource_version=listed.resourceVersion)
    pending = asyncio.ensure_future(anext(watch))
    await asyncio.sleep(0.1)
    cluster.expire()
    for ended in (pending, anext(api.watch(Pod, resource_version=listed.resourceVersion))):
        with pytest.raises(ApiError) as error:
            await asyncio.wait_for(ended, 20)
        assert error.value.status.code == 410
    await api.close()


async def test_a_watch_ends_when_its_time_is_up_and_goes_on_from_there(cluster: Cluster) -> None:
    api = AsyncClient(KubeConfig.from_dict(cluster.kubeconfig(namespace=HOME)))
    seen = []

    async def watch() -> None:
        async for event, pod in api.watch(Pod, server_timeout=1):
            seen.append((event, pod.metadata.name))
            if len(seen) == 2:
                return

    watching = asyncio.ensure_future(watch())
    await api.create(a_pod("a"))
    await asyncio.sleep(1.5)
    await api.create(a_pod("b"))
    await asyncio.wait_for(watching, 20)
    assert seen == [("ADDED", "a"), ("ADDED", "b")]
    await api.close()


# --- failures


@pytest.mark.require("helm")
def test_a_mute_server_answers_nothing_and_goes_on_afterwards(cluster: Cluster) -> None:
    api = control(cluster)
    api.create(a_pod("a"))
    asked = subprocess.Popen(kubectl(cluster, "get", "pods", "-o", "name"), stdout=subprocess.PIPE)
    with cluster.mute():
        late = subprocess.Popen(kubectl(cluster, "get", "pods", "-o", "name"), stdout=subprocess.PIPE)
        with pytest.raises(subprocess.TimeoutExpired):
            late.wait(1)
    assert late.communicate(timeout=60)[0] == b"pod/a\n"
    asked.communicate(timeout=60)


def test_a_server_that_is_down_refuses_connections_and_knows_all_when_it_is_back(cluster: Cluster) -> None:
    api = control(cluster)
    api.create(a_pod("a"))
    with cluster.down(), pytest.raises(Exception, match=r"(?i)connect|refused|attempts"):
        api.get(Pod, "a")
    assert control(cluster).get(Pod, "a")
    cluster.fail(503, times=2)
    for _ in range(2):
        with pytest.raises(ApiError) as error:
            api.get(Pod, "a")
        assert error.value.status.code == 503
    assert api.get(Pod, "a")


# --- nodes without Docker


def test_pods_of_hollow_nodes_are_ready_soon_and_gone_soon_and_a_thousand_are_no_matter() -> None:
    with clusters.running(hollow=0.05) as cluster:
        api = Client(KubeConfig.from_dict(cluster.kubeconfig()))
        for number in range(1000):
            pod = a_pod(f"p{number}")
            pod.metadata.namespace = "default"
            api.create(pod)
        wait_for(lambda: all(each["status"]["phase"] == "Running" for each in cluster.list(POD)))
        assert len({each["status"]["podIP"] for each in cluster.list(POD)}) == 1000
        for number in range(1000):
            api.delete(Pod, f"p{number}", namespace="default")
        wait_for(lambda: not cluster.list(POD))
        api.close()


# --- kubectl


@pytest.mark.require("helm")
def test_kubectl_applies_patches_scales_and_deletes(cluster: Cluster, tmp_path: Path) -> None:
    labels = {"app": "web"}
    document = {
        "apiVersion": "apps/v1",
        "kind": "Deployment",
        "metadata": {"name": "web", "namespace": HOME},
        "spec": {
            "replicas": 2,
            "selector": {"matchLabels": labels},
            "template": {"metadata": {"labels": labels}, "spec": {"containers": [{"name": "c", "image": "x:1"}]}},
        },
    }
    file = tmp_path / "web.yaml"
    for each in ("--server-side", "--server-side=false"):
        file.write_text(yaml.safe_dump(document))
        run(cluster, "apply", each, "-f", str(file))
        run(cluster, "set", "image", "deployment/web", "c=x:2")
        assert read(cluster, "deployment/web")["spec"]["template"]["spec"]["containers"][0]["image"] == "x:2"
        run(cluster, "scale", "deployment/web", "--replicas=3")
        assert read(cluster, "deployment/web")["spec"]["replicas"] == 3
        run(cluster, "label", "deployment/web", "tier=front")
        run(cluster, "apply", each, "-f", str(file))
        assert read(cluster, "deployment/web")["metadata"]["labels"] == {"tier": "front"}
        run(cluster, "delete", "deployment/web", "--wait=false")


@pytest.mark.require("helm")
def test_go_clients_may_send_protobuf(cluster: Cluster) -> None:
    assert run(cluster, "auth", "can-i", "list", "pods").strip() == "yes"
    run(cluster, "create", "secret", "generic", "keys", "--from-literal=a=b")
    run(cluster, "create", "configmap", "names", "--from-literal=a=b")
    assert read(cluster, "secret/keys")["data"] == {"a": "Yg=="}
    run(cluster, "delete", "secret", "keys")


def kubectl(cluster: Cluster, *words: str) -> list[str]:
    return [str(KUBECTL), "--kubeconfig", str(cluster.kubeconfig_file(namespace=HOME)), *words]


def run(cluster: Cluster, *words: str) -> str:
    environment = {**os.environ, "HOME": str(cluster.folder)}
    done = subprocess.run(kubectl(cluster, *words), capture_output=True, text=True, env=environment, timeout=120)
    assert done.returncode == 0, done.stderr
    return done.stdout


def read(cluster: Cluster, what: str) -> dict:  # type: ignore[type-arg]
    return json.loads(run(cluster, "get", what, "-o", "json"))  # type: ignore[no-any-return]


def evict(cluster: Cluster, name: str) -> int:
    """Return the status of the answer to an eviction."""
    metadata = ObjectMeta(name=name, namespace=HOME)
    try:
        client(cluster).create(PodEviction(metadata=metadata), name)
    except ApiError as error:
        return int(error.status.code or 0)
    return 201


def wait_for(condition) -> None:  # type: ignore[no-untyped-def]
    deadline = time.monotonic() + 20
    while not condition():
        assert time.monotonic() < deadline
        time.sleep(0.02)
