"""hostler in a cluster, as its chart installs it: README's programs, updates under load, troubles; nothing is left."""

from __future__ import annotations

import re
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
from cluster_cell import ECR, Cell, Load, cell, eventually, is_real
from fake_cluster.access import Question

from hostler.cli import demo
from readme_programs import DELETE, PREAMBLE, program

pytestmark = [pytest.mark.docker, pytest.mark.require("helm")]
if is_real():
    pytestmark.append(pytest.mark.require("cluster"))

BUCKET = "models"
XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Cell]:
    with cell(tmp_path_factory.mktemp("cell")) as hostler:
        hostler.s3.create_bucket(Bucket=BUCKET)
        yield hostler
        hostler.uninstall()
        hostler.no_pods_left()


@pytest.fixture(autouse=True)
def _nothing_left(hostler: Cell) -> Iterator[None]:
    yield
    for each in hostler.sm.list_endpoints()["Endpoints"]:
        hostler.sm.delete_endpoint(EndpointName=each["EndpointName"])
    hostler.no_pods_left()


def times(name: str) -> dict[str, Any]:
    """Return the definition of a container that multiplies by 3 (myimage1) or by 10 (myimage2)."""
    return {"Image": f"{ECR}/{name}:mytag", "ContainerHostname": name}


def invoke(hostler: Cell, name: str, **more: Any) -> bytes:
    answer = hostler.runtime.invoke_endpoint(EndpointName=name, ContentType="text/csv", **more)
    return bytes(answer["Body"].read())


# --- README's programs ------------------------------------------------------------------------------------------------


def test_the_readmes_multi_model_program_runs_word_for_word(hostler: Cell, tmp_path: Path) -> None:
    expected = {}
    for city in ("Houston_TX", "Chicago_IL"):
        _, expected[city] = demo.train(city, tmp_path)
    body = ",".join(f"{value:g}" for value in demo.HOUSE)
    answers = hostler.python(
        f"""{PREAMBLE}
s3, body = boto3.client("s3"), {body!r}
{program("Your program, unchanged")}
s3.upload_file("Chicago_IL.tar.gz", "my-bucket", "path/to/artifacts/Chicago_IL.tar.gz")
second = dict(EndpointName="my-endpoint", ContentType="text/csv", TargetModel="Chicago_IL.tar.gz")
added = rt.invoke_endpoint(**second, Body=body)
print(json.dumps([price, json.loads(added["Body"].read())[0]]))
""",
        tmp_path,
    )
    assert answers == pytest.approx([expected["Houston_TX"], expected["Chicago_IL"]], rel=1e-6)
    nodes = {pod["spec"]["nodeName"] for pod in hostler.pods()}
    assert len(hostler.pods()) == 2
    listed = hostler.command("ls")
    assert all(node in listed for node in nodes), listed
    if hostler.cluster:
        zones = {hostler.read("node", each)["metadata"]["labels"]["topology.kubernetes.io/zone"] for each in nodes}
        assert zones == {"a", "b"}
    hostler.python(PREAMBLE + DELETE + 'print("0")', tmp_path)
    hostler.no_pods_left()


def test_the_readmes_program_for_several_containers_runs_word_for_word(hostler: Cell, tmp_path: Path) -> None:
    answers = hostler.python(
        f"""{PREAMBLE}
body, answers, invoke = "1,2,3", [], rt.invoke_endpoint
rt.invoke_endpoint = lambda **request: answers.append(invoke(**request)["Body"].read().decode())
{program("Several containers, and updates")}
{DELETE}
print(json.dumps(answers))
""",
        tmp_path,
    )
    assert answers == ["10.0,20.0,30.0", "30.0,60.0,90.0"]
    hostler.no_pods_left()


def test_many_models_of_awss_image_share_instances_and_none_answers_for_another(hostler: Cell) -> None:
    for number in range(12):
        hostler.s3.put_object(Bucket=BUCKET, Key=f"many/{number}.tar.gz", Body=targets.xgboost_target(number))
    container = {"Image": XGBOOST, "ModelDataUrl": f"s3://{BUCKET}/many/", "Mode": "MultiModel"}
    hostler.deploy("many", [container], count=2)
    hostler.wait_in_service("many")
    for number in [*range(12), *range(12)]:
        assert targets.number(invoke(hostler, "many", TargetModel=f"{number}.tar.gz", Body="0,1")) == number
    hostler.delete("many")
    hostler.no_pods_left()


# --- updates, deaths --------------------------------------------------------------------------------------------------


def test_no_call_is_lost_by_an_update_or_by_the_loss_of_a_container_a_pod_or_control(hostler: Cell) -> None:
    hostler.deploy("steady", [times("myimage1")], count=2)
    hostler.configure("steady-2", [times("myimage1"), times("myimage2")], count=2, mode="Serial")
    hostler.wait_in_service("steady")
    before = {pod["metadata"]["name"] for pod in hostler.pods()}

    def request(caller: int) -> tuple[dict[str, Any], bytes]:
        return {"EndpointName": "steady", "ContentType": "text/csv", "Body": str(caller)}, f"{caller * 3}.0".encode()

    with Load(hostler, request, callers=4) as load:
        load.more(200)
        # 1. A pod is evicted: it has its preStop, another one comes, and no call notices.
        gone = sorted(before)[0]
        hostler.kubectl("delete", "pod", gone, "--namespace", hostler.instances, "--wait=false")
        eventually(lambda: len(ready(hostler) - before) == 1, "another pod takes its place")
        load.more(200)
        # 2. Control is replaced: gateways serve on without it.
        hostler.kubectl("delete", "pod", "hostler-control-0", "--namespace", hostler.namespace)
        load.more(200)
        eventually(lambda: "hostler-control-0" in ready(hostler, hostler.namespace), "control is back")
        load.more(200)
        assert {pod["metadata"]["name"] for pod in hostler.pods()} >= before - {gone}
    assert load.outcomes == {"right": load.right}

    # 3. An update: each call is answered by the old instances or by the new ones.
    def either(caller: int) -> tuple[dict[str, Any], bytes]:
        return {"EndpointName": "steady", "ContentType": "text/csv", "Body": "0"}, b"0.0"

    with Load(hostler, either, callers=4) as load:
        load.more(100)
        hostler.sm.update_endpoint(EndpointName="steady", EndpointConfigName="steady-2")
        hostler.wait_in_service("steady")
        load.more(100)
    assert load.outcomes == {"right": load.right}
    assert invoke(hostler, "steady", Body="2") == b"60.0"
    eventually(lambda: len(hostler.pods()) == 2, "the old instances are gone")
    # 4. A container that dies is replaced with its instance.
    before = ready(hostler)
    victim = sorted(before)[0]
    hostler.kubectl(
        "delete", "pod", victim, "--namespace", hostler.instances, "--grace-period=0", "--force", "--wait=false"
    )
    eventually(lambda: len(ready(hostler)) == 2 and victim not in ready(hostler), "another pod takes its place")
    hostler.delete("steady")


def ready(hostler: Cell, namespace: str = "") -> set[str]:
    """Return the names of the pods that are ready."""
    return {
        pod["metadata"]["name"]
        for pod in hostler.pods(namespace)
        if "deletionTimestamp" not in pod["metadata"]
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
    }


# --- troubles ---------------------------------------------------------------------------------------------------------


def test_endpoints_that_cannot_be_say_why_and_those_beside_them_serve_on(hostler: Cell) -> None:
    hostler.s3.put_object(Bucket=BUCKET, Key="bad.tar.gz", Body=targets.archive({"nothing": b"of use"}))
    troubles = {
        "no-image": ({"Image": f"{ECR}/none:mytag"}, "(?i)image.*none:mytag"),
        "bad-model": ({"Image": XGBOOST, "ModelDataUrl": f"s3://{BUCKET}/bad.tar.gz"}, "(?i)xgboost"),
        "fits-on-no-node": (times("myimage1"), "CapacityError"),
    }
    more = {"fits-on-no-node": {"type": "ml.p4d.24xlarge", "ContainerStartupHealthCheckTimeoutInSeconds": 60}}
    hostler.deploy("beside", [times("myimage1")])
    for name, (container, _) in troubles.items():
        hostler.configure(name, [container], **more.get(name, {}))
        hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    hostler.wait_in_service("beside")
    for name, (_, reason) in troubles.items():
        status = eventually(lambda name=name: is_settled(hostler.status(name)), f"{name} has failed")
        assert status[0] == "Failed"
        assert re.search(reason, status[1]), status
    assert invoke(hostler, "beside", Body="2") == b"6.0"
    # An update to what cannot be: the old instances serve on.
    hostler.sm.update_endpoint(EndpointName="beside", EndpointConfigName="no-image")
    status = eventually(lambda: is_settled(hostler.status("beside")), "the update has failed")
    assert re.search(troubles["no-image"][1], status[1]), status
    assert invoke(hostler, "beside", Body="2") == b"6.0"
    for name in ("beside", *troubles):
        hostler.delete(name)


def is_settled(status: tuple[str, str]) -> tuple[str, str] | None:
    return None if status[0] in ("Creating", "Updating") else status


def test_the_roles_of_the_chart_allow_what_hostler_does_and_nothing_more(hostler: Cell) -> None:
    if not hostler.cluster:
        pytest.skip("a real API server keeps no account of rights")
    hostler.deploy("rights", [times("myimage1")], count=2)
    hostler.wait_in_service("rights")
    assert invoke(hostler, "rights", Body="1") == b"3.0"
    eventually(
        lambda: hostler.read("poddisruptionbudgets", "--namespace", hostler.instances)["items"], "a budget is there"
    )
    hostler.sm.update_endpoint_weights_and_capacities(
        EndpointName="rights", DesiredWeightsAndCapacities=[{"VariantName": "v", "DesiredInstanceCount": 3}]
    )
    hostler.wait_in_service("rights")
    eventually(lambda: len(ready(hostler)) == 3, "there are three instances")
    hostler.delete("rights")
    hostler.no_pods_left()
    assert not hostler.cluster.rights_missed()
    account = f"system:serviceaccount:{hostler.namespace}:hostler-control"
    used = hostler.cluster.rights_used(account)
    assert granted(hostler) == used


def granted(hostler: Cell) -> set[Question]:
    """Return what the chart's roles let control do."""
    roles = [*hostler.read("roles", "--all-namespaces")["items"], *hostler.read("clusterroles")["items"]]
    return {
        Question(verb, group, *resource.partition("/")[::2], role["metadata"].get("namespace", ""))
        for role in roles
        for rule in role["rules"]
        for group in rule["apiGroups"]
        for resource in rule["resources"]
        for verb in rule["verbs"]
    }
