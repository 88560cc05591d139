"""The chart renders, and each of its objects is one that Kubernetes takes."""

from __future__ import annotations

import kubernetes_validate
import pytest

from helm_chart import CHART, Objects, helm, render

pytestmark = pytest.mark.require("helm")

VERSIONS = ["1.30", "1.33", "1.36", "1.37"]
EVERYTHING = {
    "imagePullSecrets": ["pull"],
    "links": {"existingSecret": "link", "authority": "-----BEGIN CERTIFICATE-----\n"},
    "control": {
        "storage": {"className": "fast"}, "nodeSelector": {"pool": "a"}, "priorityClassName": "high",
        "tolerations": [{"key": "a", "operator": "Exists"}], "podAnnotations": {"a": "b"},
        "affinity": {"podAntiAffinity": {}}, "serviceAccount": {"annotations": {"role": "a"}},
    },
    "gateways": {
        "nodeSelector": {"pool": "a"}, "priorityClassName": "high", "tolerations": [{"key": "a", "operator": "Exists"}],
        "podAnnotations": {"a": "b"}, "affinity": {"podAntiAffinity": {}}, "allowedHosts": ["a.example"],
        "service": {"type": "LoadBalancer", "annotations": {"a": "b"}, "loadBalancerSourceRanges": ["10.0.0.0/8"]},
        "serviceAccount": {"annotations": {"role": "a"}}, "autoscaling": {"enabled": False},
    },
    "instances": {
        "serviceAccount": {"annotations": {"role": "a"}}, "quota": {"pods": 5}, "podLabels": {"a": "b"},
        "types": [{"type": "ml.g5.*", "gpu": 1}],
    },
    "s3": {"endpoint": "aws", "existingSecret": "s3"},
    "networkPolicy": {"clients": [{"namespaceSelector": {}}]},
    "registries": [{"pattern": "*", "registry": "mirror.example"}],
    "settings": {"limits": True},
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


def test_no_name_is_given_twice(objects: Objects) -> None:
    names = [(each["kind"], each["metadata"].get("namespace"), each["metadata"]["name"]) for each in objects]
    assert len(set(names)) == len(names)
