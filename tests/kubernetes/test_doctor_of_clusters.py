"""`hostler doctor --cluster`: what it finds in the tests' cluster, and says of others."""

from __future__ import annotations

import json
from collections.abc import Iterator, Mapping
from dataclasses import replace
from typing import Any

import pytest
from click.testing import CliRunner
from fake_cluster import cluster as clusters
from fake_cluster.cluster import Cluster as FakeCluster
from fake_cluster.kinds import BY_NAME, CLUSTER_BINDING, POD
from fake_cluster.store import Change
from lightkube import KubeConfig

from helm_chart import Objects, render
from hostler.cli.doctor.cluster import Cluster, Names, look
from hostler.cli.doctor.cluster_findings import find
from hostler.cli.doctor.finding import Finding
from hostler.cli.doctor.kubernetes_api import Api
from hostler.cli.doctor.rights import OF_CONTROL, OF_HELM, OF_INSTALLER, OF_ZONES, TO_GIVE, Right, Where
from hostler.cli.main import main
from hostler.errors import UserError
from hostler.settings import Settings

pytestmark = pytest.mark.require("helm")

HOME, ELSEWHERE = "hostler", "hostler-instances"  # the namespaces
NODE_INFO = dict.fromkeys(
    ("architecture", "bootID", "containerRuntimeVersion", "kernelVersion", "kubeProxyVersion", "machineID"), "x"
) | {"operatingSystem": "linux", "osImage": "x", "systemUUID": "x"}


def node(name: str, zone: str, version: str = "v1.36.0", ready: str = "True") -> dict[str, Any]:
    return {
        "apiVersion": "v1",
        "kind": "Node",
        "metadata": {"name": name, "labels": {"topology.kubernetes.io/zone": zone}},
        "spec": {},
        "status": {
            "conditions": [{"type": "Ready", "status": ready}],
            "nodeInfo": {**NODE_INFO, "kubeletVersion": version},
        },
    }


def storage_class(name: str, default: str) -> dict[str, Any]:
    annotations = {"storageclass.kubernetes.io/is-default-class": default}
    metadata = {"name": name, "annotations": annotations}
    return {"apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": metadata, "provisioner": "a.b/c"}


@pytest.fixture
def cluster() -> Iterator[FakeCluster]:
    with clusters.running() as running:
        running.apply(node("a", "1"), node("b", "2"), storage_class("fast", "true"))
        yield running


def install(cluster: FakeCluster, values: Mapping[str, Any] | None = None) -> None:
    cluster.apply({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": HOME}})
    cluster.apply(*(each for each in render(values) if each["kind"] != "Pod"))


def found(cluster: FakeCluster, token: str = "", probe: bool = False) -> list[Finding]:
    """Return what is found by whom the token is; by default by one with all rights."""
    file = cluster.kubeconfig_file(token)
    return list(find(look(Settings(), HOME, probe, Api(KubeConfig.from_file(file)))))


def found_by_control(cluster: FakeCluster) -> list[Finding]:
    api = Api(KubeConfig.from_dict(cluster.kubeconfig(cluster.token(HOME, "hostler-control"))))
    return list(find(look(Settings(engine="kubernetes"), "", False, api)))


def errors(findings: list[Finding]) -> list[str]:
    return [f"{each.subject}: {each.says}" for each in findings if each.level == "error"]


def test_before_the_installation_a_fit_cluster_has_no_error(cluster: FakeCluster):
    findings = found(cluster)
    assert errors(findings) == []
    said = [str(each) for each in findings]
    assert "ok: nodes: 2 of 2 take pods, in 2 zones" in said
    assert "ok: rights: you may do all that is needed" in said
    assert "ok: namespaces: hostler is free" in said
    assert "ok: storage: the default class is fast" in said


def test_who_may_not_install_is_told_which_right_is_missing(cluster: FakeCluster):
    findings = found(cluster, cluster.token("default", "default"))
    [first, *_] = [each for each in findings if each.subject == "rights"]
    assert first.level == "error"
    assert "you may not create namespaces, create clusterroles.rbac.authorization.k8s.io" in first.says
    assert "or do without (links.tokenReview=false, instances.showZones=false" in first.helps


def test_who_may_make_a_role_but_not_what_it_allows_learns_which_right_is_missing(cluster: FakeCluster):
    let(cluster, [*OF_INSTALLER, *OF_HELM])
    findings = found(cluster, cluster.token("default", "default"))
    says = [each.says for each in findings if each.level == "error"]
    assert says[0].startswith(
        "you may not let control get pods, list pods, watch pods, create pods, delete pods, get pods/log"
    )
    assert says[1:] == [
        "you may not let control list pods, watch pods in hostler",
        "you may not let control create tokenreviews.authentication.k8s.io, get nodes",
    ]
    let(cluster, [*OF_INSTALLER, *OF_HELM, *TO_GIVE.values()])
    assert errors(found(cluster, cluster.token("default", "default"))) == []
    let(cluster, [*OF_INSTALLER, *OF_HELM, *OF_CONTROL])
    assert errors(found(cluster, cluster.token("default", "default"))) == []


def test_who_may_not_keep_helms_secrets_learns_it(cluster: FakeCluster):
    let(cluster, [*OF_INSTALLER, *OF_CONTROL])
    says = "rights: you may not get secrets, list secrets, update secrets in hostler"
    assert errors(found(cluster, cluster.token("default", "default"))) == [says]


def let(cluster: FakeCluster, rights: list[Right]) -> None:
    """Give the account `default` these rights, in all namespaces, and no others."""
    metadata = {"name": "installer"}
    api = "rbac.authorization.k8s.io"
    rules = [{"apiGroups": [each.group], "resources": [each.resource], "verbs": [each.verb]} for each in rights]
    subjects = [{"kind": "ServiceAccount", "name": "default", "namespace": "default"}]
    role = {"apiGroup": api, "kind": "ClusterRole", "name": "installer"}
    looked_at = ["namespaces", "configmaps", "persistentvolumeclaims"]
    rules.append({"apiGroups": [""], "resources": looked_at, "verbs": ["get", "list"]})
    version = {"apiVersion": f"{api}/v1", "metadata": metadata}
    cluster.apply(
        {**version, "kind": "ClusterRole", "rules": rules},
        {**version, "kind": "ClusterRoleBinding", "roleRef": role, "subjects": subjects},
    )


def test_control_has_every_right_that_it_needs_by_the_chart(cluster: FakeCluster):
    install(cluster, {"links": {}})
    for findings in (found(cluster), found_by_control(cluster)):
        assert "ok: rights: control may do all that is needed" in [str(each) for each in findings]
        assert errors(findings) == ["pods: control is not ready", "pods: no gateway is ready"]


def test_a_right_that_control_lost_is_found_from_outside_and_from_its_pod(cluster: FakeCluster):
    install(cluster)
    cluster.delete(CLUSTER_BINDING, "", "hostler-hostler-control")
    lost = "rights: control may not create tokenreviews.authentication.k8s.io"
    assert lost in errors(found(cluster))
    by_control = errors(found_by_control(cluster))
    assert lost in by_control
    assert any(line.startswith("tokens: control cannot ask whose a token is: ") for line in by_control)


def test_pods_that_cannot_run_are_named_with_the_reason(cluster: FakeCluster):
    install(cluster)
    [deployment] = (each for each in render() if each["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    for name in ("gateway-a", "gateway-b"):
        metadata = {**template["metadata"], "name": name, "namespace": HOME}
        cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    status = {"name": "gateway", "image": "x", "imageID": "", "ready": False, "restartCount": 0}
    waiting = {"waiting": {"reason": "ErrImagePull", "message": "not found"}}
    cluster.set_status(POD, HOME, "gateway-a", {"containerStatuses": [{**status, "state": waiting}]})
    unmet = {"type": "PodScheduled", "status": "False", "message": "0/2 nodes are available"}
    cluster.set_status(POD, HOME, "gateway-b", {"conditions": [unmet]})
    said = errors(found(cluster))
    assert "pods: gateway-a: ErrImagePull: not found" in said
    assert "pods: gateway-b: it has no node: 0/2 nodes are available" in said
    cluster.set_status(POD, HOME, "gateway-b", {"conditions": [{"type": "Ready", "status": "True"}]})
    crashes = {"waiting": {"reason": "CrashLoopBackOff", "message": "back-off 40s"}}
    cluster.set_status(POD, HOME, "gateway-a", {"containerStatuses": [{**status, "state": crashes}]})
    assert any("kubectl -n hostler logs --previous gateway-a" in str(each) for each in found(cluster))
    assert "ok: pods: 1 gateway is ready" in [str(each) for each in found(cluster)]


def test_a_pull_secret_must_be_in_both_namespaces(cluster: FakeCluster):
    install(cluster, {"imagePullSecrets": ["pull"]})
    secret = {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": "pull", "namespace": HOME}}
    cluster.apply(secret)
    assert "secrets: there is no Secret pull in hostler-instances" in errors(found(cluster))
    assert "secrets: there is no Secret pull in hostler" not in errors(found(cluster))


def test_what_pods_wait_for_is_named(cluster: FakeCluster):
    values = {"signatures": {"existingSecret": "mine"}, "links": {"existingSecret": "certificate"}}
    install(cluster, values)
    [deployment] = (each for each in render(values) if each["kind"] == "Deployment")
    template = deployment["spec"]["template"]
    metadata = {**template["metadata"], "name": "gateway-a", "namespace": HOME}
    cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": template["spec"]})
    assert [each for each in errors(found(cluster)) if each.startswith("secrets")] == [
        "secrets: there is no ConfigMap hostler-link-ca in hostler-instances",
        "secrets: there is no Secret certificate in hostler",
        "secrets: there is no Secret mine in hostler",
    ]


@pytest.mark.parametrize(
    ("code", "line"),
    [
        (0, "ok: network: an isolated pod reaches nobody but control"),
        (7, "error: network: an isolated pod reaches what it should not: NetworkPolicies are not enforced here. "),
        (1, "warning: network: the probe's pod ended with exit code 1"),
    ],
)
def test_a_probe_says_if_policies_are_enforced_and_its_pod_goes(cluster: FakeCluster, code: int, line: str):
    install(cluster)
    seen = []

    def run(change: Change) -> None:
        """Let the probe's pod end."""
        if change.kind is POD and change.before is None and change.after:
            pod = change.after
            seen.append(pod["metadata"]["labels"])
            ended = {"name": "probe", "state": {"terminated": {"exitCode": code}}, "image": "x", "imageID": "x"}
            status = {"containerStatuses": [{**ended, "ready": False, "restartCount": 0}]}
            cluster.loop.call_soon(lambda: cluster.store.replace(POD, {**pod, "status": status}))

    cluster.store.listeners.append(run)
    assert any(str(each).startswith(line) for each in found(cluster, probe=True))
    assert seen == [{"hostler.dev/isolated": "true"}]
    assert cluster.list(POD, ELSEWHERE) == []


def test_a_probe_that_is_refused_says_why(cluster: FakeCluster):
    said = [str(each) for each in found(cluster, probe=True)]
    assert any(line.startswith("warning: network: the probe's pod is refused: ") for line in said)


def test_an_api_that_is_down_or_does_not_know_the_caller_is_one_line(cluster: FakeCluster):
    with pytest.raises(UserError, match="does not know who asks"):
        found(cluster, "forged")
    file = cluster.kubeconfig_file()
    cluster.wait(cluster.api.close())
    with pytest.raises(UserError, match="does not answer"):
        look(Settings(), HOME, False, Api(KubeConfig.from_file(file)))


def test_the_command_prints_lines_or_json_and_its_exit_code_says_if_there_is_an_error(cluster: FakeCluster):
    environment = {"KUBECONFIG": str(cluster.kubeconfig_file())}
    done = CliRunner().invoke(main, ["doctor", "--cluster"], env=environment)
    assert done.exit_code == 0
    assert done.stdout.startswith("ok: version: v1.36")
    install(cluster)
    done = CliRunner().invoke(main, ["doctor", "--cluster", "--json"], env=environment)
    assert done.exit_code == 1
    assert {each["level"] for each in json.loads(done.stdout)} == {"ok", "warning", "error"}
    done = CliRunner().invoke(main, ["doctor", "--cluster"], env={"KUBECONFIG": "/nowhere"})
    assert done.exit_code == 1
    assert done.stderr.startswith("hostler: no cluster is known here: ")


# --- what is decided from what was seen


SEEN = Cluster(
    server="https://a",
    version="v1.36.1+k3s1",
    names=Names(HOME, ELSEWHERE, "hostler", "hostler:1"),
    in_pod=False,
    installed=False,
    lacks=(),
    cannot_give=(),
    token_review="",
    namespaces={ELSEWHERE: {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": "baseline"}}}},
    nodes=[node("a", "1"), node("b", "2")],
    pods=[],
    policies=[],
    classes=[storage_class("fast", "true")],
    claims=[],
    missing=(),
    metrics=True,
    probe="",
)


def labelled(level: str) -> dict[str, Any]:
    return {ELSEWHERE: {"metadata": {"labels": {"pod-security.kubernetes.io/enforce": level}}}}


@pytest.mark.parametrize(
    ("seen", "expected"),
    [
        ({}, []),
        ({"version": "v1.29.4"}, [("error", "version")]),
        ({"version": ""}, [("error", "version")]),
        ({"nodes": [node("a", "1", "v1.29.1"), node("b", "1")]}, [("error", "nodes")]),
        ({"nodes": [node("a", "1", ready="False"), node("b", "1")]}, [("warning", "nodes")]),
        ({"nodes": []}, [("error", "nodes")]),
        ({"nodes": [node("a", "1"), {"metadata": {"name": "new"}, "spec": {}}]}, [("warning", "nodes")]),
        ({"nodes": None, "classes": None, "pods": None, "claims": None, "policies": None, "lacks": None}, []),
        ({"namespaces": labelled("restricted")}, [("error", "pod security")]),
        ({"namespaces": labelled("privileged")}, [("warning", "pod security")]),
        ({"namespaces": {ELSEWHERE: {"metadata": {}}}}, [("warning", "pod security")]),
        (
            {"namespaces": labelled("restricted"), "names": replace(SEEN.names, runs_as_root=False)},
            [],
        ),
        ({"classes": [storage_class("slow", "false")]}, [("error", "storage")]),
        ({"claims": [{"metadata": {"name": "data"}, "status": {"phase": "Pending"}}]}, [("error", "storage")]),
        ({"claims": [{"metadata": {"name": "data"}, "status": {"phase": "Bound"}}]}, []),
        ({"metrics": False}, [("warning", "autoscaling")]),
        ({"lacks": (OF_ZONES,), "version": "v1.34.2"}, [("warning", "zones")]),
        ({"lacks": (OF_ZONES,)}, []),
        ({"lacks": (OF_ZONES, OF_CONTROL[0])}, [("error", "rights")]),
        ({"cannot_give": (OF_CONTROL[0], OF_ZONES)}, [("error", "rights"), ("error", "rights")]),
        ({"installed": True, "pods": None}, [("warning", "network")]),
        ({"installed": True, "pods": None, "policies": None, "namespaces": {HOME: None}}, [("error", "namespaces")]),
    ],
)
def test_each_fault_of_a_cluster_is_found(seen: dict[str, Any], expected: list[tuple[str, str]]):
    findings = list(find(replace(SEEN, **seen)))
    assert [(each.level, each.subject) for each in findings if each.level != "ok"] == expected
    assert all(each.helps for each in findings if each.level == "error")


# --- the tables of rights are the chart's


def test_controls_rights_are_those_of_the_charts_roles():
    objects = render()
    given = {
        Right(where, group, resource, verb)
        for where, role in (
            ("instances", objects.one("Role", "hostler-control", ELSEWHERE)),
            ("control", objects.one("Role", "hostler-control", HOME)),
            ("cluster", objects.one("ClusterRole", "hostler-hostler-control")),
        )
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
    assert given == set(OF_CONTROL)


def test_the_installers_rights_are_those_to_make_the_charts_objects():
    assert needed(render({"links": {}})) == set(OF_INSTALLER)


def needed(objects: Objects) -> set[Right]:
    """Return which rights make the objects; a hook's pod is none of the installation."""
    places: dict[str, Where] = {HOME: "control", ELSEWHERE: "instances", "": "cluster"}
    rights = set()
    for each in objects:
        if each["kind"] != "Pod":
            kind = BY_NAME[each["apiVersion"], each["kind"]]
            rights.add(Right(places[each["metadata"].get("namespace", "")], kind.group, kind.plural, "create"))
    return rights
