"""The chart renders, and each of its objects is one that Kubernetes takes."""

from __future__ import annotations

import base64
import ssl
from pathlib import Path
from typing import Any

import kubernetes_validate
import pytest
import yaml

from helm_chart import CHART, ROOT, Objects, helm, render
from hostler import __version__

pytestmark = pytest.mark.require("helm")

VERSIONS = ["1.30", "1.33", "1.36", "1.37"]
EVERYTHING = {
    "imagePullSecrets": ["pull"],
    "links": {"existingSecret": "link", "authority": "-----BEGIN CERTIFICATE-----\n", "tokenReview": False},
    "control": {
        "storage": {"className": "fast"}, "nodeSelector": {"pool": "a"}, "priorityClassName": "high",
        "tolerations": [{"key": "a", "operator": "Exists"}], "podAnnotations": {"a": "b"},
        "affinity": {"podAntiAffinity": {}}, "serviceAccount": {"annotations": {"role": "a"}},
    },
    "gateways": {
        "nodeSelector": {"pool": "a"}, "priorityClassName": "high", "tolerations": [{"key": "a", "operator": "Exists"}],
        "podAnnotations": {"a": "b"}, "affinity": {"podAntiAffinity": {}}, "allowedHosts": ["a.example"],
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}, "loadBalancerSourceRanges": ["10.0.0.0/8"]},
        "autoscaling": {"enabled": False},
    },
    "instances": {
        "serviceAccount": {"annotations": {"role": "a"}}, "quota": {"pods": 5}, "podLabels": {"a": "b"},
        "types": [{"type": "ml.g5.*", "gpu": 1}],
    },
    "s3": {"endpoint": "aws", "existingSecret": "s3"},
    "metrics": {"enabled": True, "from": [{"namespaceSelector": {}}]},
    "networkPolicy": {"clients": [{"namespaceSelector": {}}]},
    "registries": [{"pattern": "*", "registry": "mirror.example"}],
    "settings": {"hold": 20},
}  # fmt: skip


@pytest.fixture(scope="module", params=[{}, EVERYTHING, {"links": {}}], ids=["defaults", "everything", "own authority"])
def objects(request: pytest.FixtureRequest) -> Objects:
    return render(request.param)


@pytest.mark.parametrize("version", VERSIONS)
def test_each_object_is_one_of_kubernetes(objects: Objects, version: str) -> None:
    for each in objects:
        kubernetes_validate.validate(each, version, strict=True)


def test_helm_finds_no_fault_in_the_chart() -> None:
    linted = helm("lint", "--strict", str(CHART))
    assert not linted.returncode, linted.stdout + linted.stderr


def test_the_chart_has_hostlers_version() -> None:
    chart = yaml.safe_load((CHART / "Chart.yaml").read_text())
    assert chart["version"] == chart["appVersion"] == __version__


def test_no_name_is_given_twice(objects: Objects) -> None:
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)


def test_the_plain_manifests_hold_no_secret() -> None:
    objects = list(yaml.safe_load_all((ROOT / "deploy" / "manifests" / "hostler.yaml").read_text()))
    for each in objects:
        kubernetes_validate.validate(each, VERSIONS[-1], strict=True)
    assert "Deployment" in {each["kind"] for each in objects}
    assert "Secret" not in {each["kind"] for each in objects}


def test_the_authority_that_the_chart_makes_vouches_for_controls_service(tmp_path: Path) -> None:
    rendered = render({"links": {}})
    secret, config = rendered.one("Secret", "hostler-link"), rendered.one("ConfigMap", "hostler-link-ca")
    for name, value in secret["data"].items():
        (tmp_path / name).write_bytes(base64.b64decode(value))
    assert config["data"]["ca.crt"] == (tmp_path / "ca.crt").read_text()
    for name in ("hostler-control.hostler.svc", "hostler-control.hostler", "hostler-control"):
        shake_hands(tmp_path, name)
    with pytest.raises(ssl.SSLCertVerificationError):
        shake_hands(tmp_path, "hostler.hostler.svc")


def shake_hands(folder: Path, name: str) -> None:
    """Let a client that knows ca.crt alone meet, in memory, a server that calls itself so."""
    server, client = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER), ssl.create_default_context(cafile=folder / "ca.crt")
    server.load_cert_chain(folder / "tls.crt", folder / "tls.key")
    up, down = ssl.MemoryBIO(), ssl.MemoryBIO()
    ends = [server.wrap_bio(up, down, server_side=True), client.wrap_bio(down, up, server_hostname=name)]
    while ends:
        for end in reversed([*ends]):
            try:
                end.do_handshake()
            except ssl.SSLWantReadError:
                continue
            ends.remove(end)


def test_another_release_shares_no_name_with_the_first() -> None:
    first, second = (
        {(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in render({}, *names)}
        for names in (("hostler", "hostler"), ("cell-b", "cells"))
    )
    assert not first & second


def test_our_pods_take_no_service_for_a_setting(objects: Objects) -> None:
    """Of a Service named hostler, Kubernetes would set HOSTLER_PORT in each pod of its namespace."""
    for pod in pods(objects):
        assert pod["enableServiceLinks"] is False


def test_our_pods_are_restricted(objects: Objects) -> None:
    """Kubernetes, "Pod Security Standards": what the profile restricted asks of a pod."""
    for pod in pods(objects):
        assert pod["securityContext"]["runAsNonRoot"] is True
        assert pod["securityContext"]["seccompProfile"] == {"type": "RuntimeDefault"}
        for container in pod["containers"]:
            assert container["securityContext"]["allowPrivilegeEscalation"] is False
            assert container["securityContext"]["capabilities"] == {"drop": ["ALL"]}
            assert container["securityContext"]["readOnlyRootFilesystem"] is True
        kinds = {kind for volume in pod.get("volumes", []) for kind in volume if kind != "name"}
        assert kinds <= {"configMap", "secret", "projected", "emptyDir"}


def pods(objects: Objects) -> list[dict[str, Any]]:
    """Return the specs of the pods."""
    return [
        each["spec"] if each["kind"] == "Pod" else each["spec"]["template"]["spec"]
        for each in objects
        if each["kind"] in ("Pod", "Deployment", "StatefulSet")
    ]


def test_a_control_that_never_became_ready_is_replaced_by_the_upgrade_that_mends_it() -> None:
    """Kubernetes updates no set of `OrderedReady` while its pod is not ready."""
    assert render().one("StatefulSet", "hostler-control")["spec"]["podManagementPolicy"] == "Parallel"
