"""Updates that cannot be, and artifacts that cannot be had, under load: what is in service loses no call by them."""

from __future__ import annotations

import base64
import os
import re
from collections.abc import Iterator
from typing import Any, NamedTuple

import other_s3
import pytest
import targets
from botocore.exceptions import ClientError
from cluster_cell import ECR, Cell, Load, eventually, is_real, not_installed
from fake_cluster.kinds import QUOTA
from fake_cluster.selectors import matches
from other_s3 import KEYS, OtherS3
from witness import BUCKET, SCRIPT, WARM, XGBOOST, Endpoint, endpoint, identities, lost, under_load

import docker_rig
import other_machine

pytestmark = [pytest.mark.docker, pytest.mark.require("helm")]

HASTE = 0.05  # of kubelets between two pulls, of which there are three
SECRET = "s3-keys"
GONE = "gone.tar.gz"  # a key whose object is there only while its model is created
MINUTE = {"ContainerStartupHealthCheckTimeoutInSeconds": 60}  # the shortest that there is
UNHEALTHY = "did not pass the ping health check"
IMAGES = "Please make sure all images included in the model for the production variant v exist"
SPOILER = (
    SCRIPT
    + """
import contextlib, pathlib, shutil

answer, read = transform_fn, model_fn

def spoil(folder):
    for path in [*pathlib.Path(folder).rglob("*"), pathlib.Path(folder) / "new"]:
        with contextlib.suppress(OSError):
            path.write_text("spoilt")
    shutil.rmtree(folder, ignore_errors=True)

def model_fn(folder):
    name = read(folder)
    spoil("/opt/ml/.artifacts")
    spoil(folder)
    return name, folder

def transform_fn(model, body, content_type, accept):
    name, folder = model
    spoil(folder)
    return answer(name, body, content_type, accept)
"""
)


@pytest.fixture(scope="module")
def bare(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    """A cluster without hostler, whose kubelets lose little time between attempts."""
    if is_real():
        pytest.skip("these failures are made in the tests' own cluster")
    with not_installed(tmp_path_factory.mktemp("cell")) as bare:
        assert bare.cluster
        bare.cluster.kubelet.haste = HASTE
        yield bare


@pytest.fixture(scope="module")
def s3(bare: Cell, tmp_path_factory: pytest.TempPathFactory) -> Iterator[OtherS3]:
    """An S3 that pods reach."""
    assert bare.cluster
    with other_s3.running(tmp_path_factory.mktemp("s3"), bare.cluster.host) as s3:
        yield s3


@pytest.fixture(scope="module")
def hostler(bare: Cell, s3: OtherS3) -> Iterator[Cell]:
    """hostler, with the artifacts of its instances in that S3."""
    assert bare.cluster
    for namespace in (bare.namespace, bare.instances):
        bare.cluster.apply(*_with_keys(namespace, bare.namespace))
    bare.s3 = s3.client
    bare.s3.create_bucket(Bucket=BUCKET)
    # Nothing is held: endpoints come, and change, beside each other.
    bare.install(s3={"endpoint": s3.endpoint, "existingSecret": SECRET}, settings={"hold": 0})
    yield bare
    bare.uninstall()
    bare.no_pods_left()


def _with_keys(namespace: str, release: str) -> list[dict[str, Any]]:
    """Return a namespace that helm takes for its own, and the keys of S3 in it."""
    helms = {"meta.helm.sh/release-name": "hostler", "meta.helm.sh/release-namespace": release}
    of_helm = {"labels": {"app.kubernetes.io/managed-by": "Helm"}, "annotations": helms}
    data = {name: base64.b64encode(value.encode()).decode() for name, value in KEYS.items()}
    return [
        {"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": namespace, **of_helm}},
        {"apiVersion": "v1", "kind": "Secret", "metadata": {"name": SECRET, "namespace": namespace}, "data": data},
    ]


# --- updates ----------------------------------------------------------------------------------------------------------


class Bad(NamedTuple):
    """What an update brings, and its FailureReason (a pattern). `more`: members of the variant. `lasts`: a minute."""

    container: dict[str, Any]
    reason: str
    more: dict[str, Any] = {}  # noqa: RUF012 - nobody changes it
    lasts: bool = False


def faulty(mistake: str) -> dict[str, Any]:
    return {"Image": docker_rig.image("faulty"), "Environment": {"MISTAKE": mistake}}


def bad_updates() -> dict[str, Bad]:
    good = {"Image": f"{ECR}/myimage1:mytag"}
    return {
        "no-image": Bad({"Image": f"{ECR}/none:mytag"}, f"{IMAGES}.*none:mytag.*not found"),
        "other-machine": Bad({"Image": other_machine.image()}, f"{UNHEALTHY}.*no program for this machine"),
        "crash": Bad(faulty("crash"), f"{UNHEALTHY}.*exited with code 3.*this is crash"),
        "loopback": Bad(faulty("loopback"), f"{UNHEALTHY}.*on its loopback address alone"),
        "no-data": Bad({**good, "ModelDataUrl": f"s3://{BUCKET}/{GONE}"}, "Failed to download model data.*NoSuchKey"),
        "no-node": Bad(good, "CapacityError.*Insufficient cpu", {"type": "ml.p4d.24xlarge", **MINUTE}, True),
        "wrong-port": Bad(faulty("wrong-port"), f"{UNHEALTHY}.*listens on port", MINUTE, True),
        "no-port": Bad(faulty("not-listening"), f"{UNHEALTHY}.*nothing in the container listens", MINUTE, True),
    }


def test_an_update_that_fails_says_why_and_the_old_instances_serve_on(hostler: Cell, calls: int) -> None:
    updates = {name: bad for name, bad in bad_updates().items() if calls > 1000 or not bad.lasts}
    names = [*updates]
    hostler.s3.put_object(Bucket=BUCKET, Key=GONE, Body=targets.archive({"model": b""}))
    for name, bad in updates.items():
        hostler.deploy(f"old-{name}", [{"Image": f"{ECR}/myimage1:mytag"}])
        hostler.configure(f"bad-{name}", [bad.container], **bad.more)
    hostler.s3.delete_object(Bucket=BUCKET, Key=GONE)
    for name in names:
        hostler.wait_in_service(f"old-{name}")

    def request(caller: int) -> tuple[dict[str, Any], bytes]:
        called = {"EndpointName": f"old-{names[caller]}", "ContentType": "text/csv", "Body": str(caller)}
        return called, f"{caller * 3}.0".encode()

    before = identities(hostler)
    with Load(hostler, request, callers=len(names)) as load:
        load.more(calls)
        for name in names:
            hostler.sm.update_endpoint(EndpointName=f"old-{name}", EndpointConfigName=f"bad-{name}")
        load.more(calls)
        for name, bad in updates.items():
            hostler.wait_in_service(f"old-{name}")
            reason = hostler.status(f"old-{name}")[1]
            print(f"{name}: {reason}")
            assert re.search(bad.reason, reason, re.DOTALL), (name, reason)
        eventually(lambda: identities(hostler) == before, "only the old instances are left")
        load.more(calls)
    assert load.outcomes == {"right": load.right}
    for name in names:
        hostler.delete(f"old-{name}")
        hostler.sm.delete_endpoint_config(EndpointConfigName=f"bad-{name}")
        hostler.sm.delete_model(ModelName=f"bad-{name}")
    eventually(lambda: not identities(hostler) & before, "their instances are gone")


def test_an_update_beyond_the_quota_has_no_capacity(hostler: Cell, many: Endpoint) -> None:
    assert hostler.cluster
    before = identities(hostler)
    metadata = {"name": "full", "namespace": hostler.instances}
    quota = {
        "apiVersion": "v1",
        "kind": "ResourceQuota",
        "metadata": metadata,
        "spec": {"hard": {"pods": str(len(before))}},
    }
    hostler.configure("beyond", [many.definition])
    hostler.cluster.apply(quota)
    try:
        hostler.sm.update_endpoint(EndpointName="many", EndpointConfigName="beyond")
        hostler.wait_in_service("many")
    finally:
        hostler.cluster.delete(QUOTA, hostler.instances, "full")
    assert re.match("CapacityError: .*exceeded quota: full", hostler.status("many")[1]), hostler.status("many")
    assert identities(hostler) == before


# --- artifacts --------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["refuses", "mute"])
def test_while_s3_is_away_what_is_loaded_is_served_and_the_rest_when_it_is_back(
    hostler: Cell, s3: OtherS3, many: Endpoint, calls: int, how: str
) -> None:
    late = f"late-{how}-{calls}"
    many.put(late)
    before = identities(hostler)
    with under_load(hostler, many, calls) as load:
        with s3.away(how):
            error = refused(many, late)
            print(error)
            assert error["ResponseMetadata"]["HTTPStatusCode"] >= 500, error
            assert s3.asked
            load.more(calls)
        eventually(lambda: answers(many, late), "its model is brought once S3 is back")
    assert lost(load) == 0, load.outcomes
    assert identities(hostler) == before


def test_a_model_that_writes_over_its_own_folder_spoils_nothing(hostler: Cell, many: Endpoint, calls: int) -> None:
    assert hostler.cluster
    spoilers = [f"spoiler{number}-{calls}" for number in range(2)]
    for spoiler in spoilers:
        many.put(spoiler, SPOILER)
    before = identities(hostler)
    with under_load(hostler, many, calls) as load:
        for _ in range(10):
            assert all(many.invoke(spoiler) for spoiler in spoilers)
    assert lost(load) == 0, load.outcomes
    assert identities(hostler) == before
    caches = [hostler.cluster.folder / "pods" / uid / "volumes" / "room" / "a0" for uid in before]
    kept = {path.read_text() for cache in caches for path in cache.rglob("name")}
    assert {*spoilers, *WARM} <= kept, kept
    assert "spoilt" not in kept


def test_an_isolated_instance_has_its_artifacts_from_control_and_asks_no_s3(
    hostler: Cell, s3: OtherS3, many: Endpoint
) -> None:
    for number in range(3):
        hostler.s3.put_object(Bucket=BUCKET, Key=f"alone/{number}.tar.gz", Body=targets.xgboost_target(number))
    s3.callers.clear()
    container = {"Image": XGBOOST, "ModelDataUrl": f"s3://{BUCKET}/alone/", "Mode": "MultiModel"}
    hostler.configure("alone", [container], isolated=True)
    hostler.sm.create_endpoint(EndpointName="alone", EndpointConfigName="alone")
    hostler.wait_in_service("alone")
    for number in range(3):
        call = {"EndpointName": "alone", "TargetModel": f"{number}.tar.gz", "ContentType": "text/csv", "Body": "0,1"}
        assert targets.number(hostler.runtime.invoke_endpoint(**call)["Body"].read()) == number
    many.put("beside")
    assert many.invoke("beside")
    pods: dict[str, set[str]] = {"hostler-calling": set(), "hostler-isolated": set()}  # addresses, by their policy
    for pod in hostler.pods():
        [policy] = pods.keys() & policies(hostler, pod)
        pods[policy].add(pod["status"]["podIP"])
    [isolated] = pods["hostler-isolated"]
    assert isolated not in s3.callers
    assert pods["hostler-calling"] & s3.callers  # others ask it themselves
    hostler.delete("alone")
    eventually(lambda: len(hostler.pods()) == many.count, "its instance is gone")


def policies(hostler: Cell, pod: dict[str, Any]) -> set[str]:
    """Return the names of the NetworkPolicies that select a pod."""
    found = hostler.read("networkpolicies", "--namespace", hostler.instances)["items"]
    labels = pod["metadata"]["labels"]
    return {each["metadata"]["name"] for each in found if matches(each["spec"]["podSelector"], labels)}


@pytest.mark.require("mount")
def test_a_full_disk_of_an_instance_is_its_own_callers_alone(hostler: Cell, many: Endpoint, calls: int) -> None:
    assert hostler.cluster
    name = f"full-{calls}"
    before = identities(hostler)
    hostler.cluster.kubelet.disk = "16m"
    try:
        with endpoint(hostler, name, WARM, hostler.cluster.host, count=1) as full:
            hostler.cluster.kubelet.disk = ""
            full.put("large", padding=os.urandom(20 * 2**20))
            with under_load(hostler, many, calls) as load, under_load(hostler, full, calls) as beside:
                error = refused(full, "large")
                print(error)
                assert error["ResponseMetadata"]["HTTPStatusCode"] >= 500, error
                full.put("small")
                assert full.invoke("small")
            hostler.delete(name)
    finally:
        hostler.cluster.kubelet.disk = ""
    assert lost(load) == lost(beside) == 0, (load.outcomes, beside.outcomes)
    eventually(lambda: identities(hostler) == before, "the instance is gone")


def answers(endpoint: Endpoint, target: str) -> bool:
    try:
        return endpoint.invoke(target)
    except ClientError:
        return False


def refused(endpoint: Endpoint, target: str) -> dict[str, Any]:
    """Return the error that a call gets."""
    with pytest.raises(ClientError) as raised:
        endpoint.invoke(target)
    return dict(raised.value.response)
