"""Faults on purpose through boto3, at a hostler of two gateways: what each gives, how long a rule lasts."""

from __future__ import annotations

import json
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest
import targets
from botocore.exceptions import ClientError
from hop_endpoints import deploy, hop_names, hop_processes, hops, instructions, mapped_config
from running import Hostler, eventually, has_ended, hostler_up

from hostler.testing import faults
from hostler.testing.faults import FaultRefused, fault

A, B = "a.tar.gz", "b.tar.gz"


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler]:
    folder = tmp_path_factory.mktemp("faults")
    with hostler_up(folder, faults="true", gateways=2, config=mapped_config(folder, "one", "two")) as hostler:
        for number, name in enumerate((A, B)):
            hostler.put(f"mme/{name}", targets.xgboost_target(number))
        hostler.create_endpoint("mme")
        hostler.invoke("mme", A)
        yield hostler


@pytest.fixture(autouse=True)
def _none_left(hostler: Hostler) -> Iterator[None]:
    yield
    assert faults.faults(hostler.url) == []


def outcome(hostler: Hostler, target: str = A, endpoint: str = "mme") -> tuple[str, Any]:
    """The exception's name of one call, empty for none, and its OriginalStatusCode."""
    try:
        hostler.invoke(endpoint, target)
    except ClientError as error:
        return str(error.response["Error"]["Code"]), error.response.get("OriginalStatusCode")
    return "", None


def attempts(hostler: Hostler, mode: str) -> int:
    """How many calls one call of an SDK with these retries makes."""
    client = hostler.client("sagemaker-runtime", retries={"mode": mode})
    with pytest.raises(ClientError) as caught:
        client.invoke_endpoint(EndpointName="mme", TargetModel=A, Body=b"1,2", ContentType="text/csv")
    return 1 + int(caught.value.response["ResponseMetadata"]["RetryAttempts"])


def logged(hostler: Hostler) -> list[dict[str, Any]]:
    """The lines of all access logs."""
    texts = (path.read_text() for path in hostler.data.glob("logs/access/*.log"))
    return [json.loads(line) for text in texts for line in text.splitlines()]


def test_exactly_the_first_calls_meet_it_whatever_gateway_they_come_to(hostler: Hostler) -> None:
    with fault(hostler.url, "ModelError", endpoint="mme", target=A, status=418, message="tea", first=3) as id:
        met = [outcome(hostler) for _ in range(12)]
        assert met == [("ModelError", 418)] * 3 + [("", None)] * 9
        assert outcome(hostler, B) == ("", None)
        (rule,) = faults.faults(hostler.url)
        assert (rule["id"], rule["seen"], rule["applied"]) == (id, 12, 3)
    lines = eventually(lambda: [line for line in logged(hostler) if line.get("fault") == id], 60, "it is logged")
    assert [(line["error"], line["status"], line["model_status"]) for line in lines] == [("ModelError", 424, 418)] * 3


def test_callers_at_the_same_time_share_a_count(hostler: Hostler) -> None:
    with fault(hostler.url, "ThrottlingException", endpoint="mme", first=25), ThreadPoolExecutor(8) as pool:
        met = [*pool.map(lambda _: outcome(hostler)[0], range(80))]
        assert (met.count("ThrottlingException"), met.count("")) == (25, 55)


def test_one_seed_gives_one_sequence_over_the_gateways(hostler: Hostler) -> None:
    sequences = []
    for _ in range(2):
        with fault(hostler.url, "ThrottlingException", endpoint="mme", probability=0.5, seed=11):
            sequences.append([outcome(hostler)[0] for _ in range(16)])
    assert sequences[0] == sequences[1]
    assert set(sequences[0]) == {"", "ThrottlingException"}


# What botocore's modes repeat: 3 attempts by standard and adaptive, 5 by legacy.
RETRIES = [
    ("ModelNotReadyException", 1, 5),
    ("ModelError", 1, 1),
    ("OutOfMemory", 1, 1),
    ("ServiceUnavailable", 3, 5),
    ("ThrottlingException", 3, 5),
    ("InternalFailure", 3, 5),
    ("InternalDependencyException", 1, 1),
]


@pytest.mark.slow  # the pauses between attempts
@pytest.mark.parametrize(("effect", "standard", "legacy"), RETRIES)
def test_an_sdk_repeats_what_it_repeats_on_aws(hostler: Hostler, effect: str, standard: int, legacy: int) -> None:
    with fault(hostler.url, effect, endpoint="mme"):
        assert [attempts(hostler, mode) for mode in ("standard", "adaptive", "legacy")] == [standard, standard, legacy]
        assert faults.faults(hostler.url)[0]["seen"] == 2 * standard + legacy


def test_an_sdk_gets_through_when_its_retries_suffice(hostler: Hostler) -> None:
    client = hostler.client("sagemaker-runtime", retries={"mode": "standard"})
    with fault(hostler.url, "ServiceUnavailable", endpoint="mme", first=1):
        answer = client.invoke_endpoint(EndpointName="mme", TargetModel=A, Body=b"1,2", ContentType="text/csv")
    assert targets.number(answer["Body"].read()) == 0
    assert answer["ResponseMetadata"]["RetryAttempts"] == 1


def test_a_load_is_slow_or_fails_and_the_next_one_is_neither(hostler: Hostler) -> None:
    hostler.put("mme/slow.tar.gz", targets.xgboost_target(3))
    with fault(hostler.url, "LoadFailed", endpoint="mme", target="slow.tar.gz", status=503, message="no", first=1):
        assert outcome(hostler, "slow.tar.gz") == ("ModelError", 503)
        begun = time.monotonic()
        with fault(hostler.url, "SlowLoad", endpoint="mme", target="slow.tar.gz", seconds=0.5, first=1):
            assert targets.number(hostler.invoke("mme", "slow.tar.gz")) == 3
        assert time.monotonic() - begun > 0.5


def test_a_load_without_memory_on_purpose_does_not_answer_for_the_next_one(hostler: Hostler) -> None:
    hostler.put("alone/big.tar.gz", targets.xgboost_target(5))
    hostler.create_endpoint("alone")
    with fault(hostler.url, "LoadFailed", endpoint="alone", target="big.tar.gz", status=507, first=1):
        assert outcome(hostler, "big.tar.gz", endpoint="alone") == ("ModelError", 507)
        assert targets.number(hostler.invoke("alone", "big.tar.gz")) == 5
    hostler.sm.delete_endpoint(EndpointName="alone")


def test_a_load_that_is_slow_on_purpose_goes_on_when_the_fault_is_gone(hostler: Hostler) -> None:
    hostler.put("mme/late.tar.gz", targets.xgboost_target(4))
    with ThreadPoolExecutor() as pool:
        with fault(hostler.url, "SlowLoad", endpoint="mme", target="late.tar.gz", seconds=300):
            call = pool.submit(hostler.invoke, "mme", "late.tar.gz")
            eventually(lambda: faults.faults(hostler.url)[0]["applied"], 60, "the load waits")
            assert not call.done()
        assert targets.number(call.result(30)) == 4


def test_a_killed_container_is_replaced(hostler: Hostler) -> None:
    before = {process.pid for process in hostler.containers}
    with fault(hostler.url, "ContainerKilled", endpoint="mme", first=1):
        assert outcome(hostler) == ("ModelError", 0)
        eventually(lambda: not before & {process.pid for process in hostler.containers}, 60, "the process was killed")
        assert targets.number(hostler.invoke("mme", A)) == 0
    assert hostler.sm.describe_endpoint(EndpointName="mme")["EndpointStatus"] == "InService"


def test_a_container_of_a_pipeline_is_killed_by_its_name_as_one_that_ends_by_itself(hostler: Hostler) -> None:
    deploy(hostler, "chain", hops("one", "two"))

    def answers() -> bool:
        try:
            hostler.runtime.invoke_endpoint(EndpointName="chain", Body=b"x")
        except ClientError:
            return False
        return True

    def failed(body: bytes) -> dict[str, Any]:
        with pytest.raises(ClientError) as caught:
            hostler.runtime.invoke_endpoint(EndpointName="chain", Body=body)
        return {**caught.value.response, "ResponseMetadata": None}

    real = failed(instructions(two={"exit": 3}))
    eventually(lambda: hop_processes(hostler, "two"), 60, "another instance is on its way")
    eventually(answers, 60, "it answers")
    killed = {hop: process for hop in ("one", "two") for process in hop_processes(hostler, hop)}
    with fault(hostler.url, "ContainerKilled", endpoint="chain", container="two", first=1):
        assert failed(b"x") == real
        eventually(lambda: has_ended(killed["two"]), 60, "the process was killed")
        assert hop_names(hostler.runtime.invoke_endpoint(EndpointName="chain", Body=b"x")["Body"].read()) == [
            "one",
            "two",
        ]
    assert " from two with message " in real["Error"]["Message"]
    hostler.sm.delete_endpoint(EndpointName="chain")


def test_a_rule_goes_with_its_endpoint_and_not_over_to_the_next_of_its_name(hostler: Hostler) -> None:
    for name in ("ep", "other"):
        hostler.create_endpoint(name, prefix="mme")
    faults.put(hostler.url, "ModelError", endpoint="ep", id="mine")
    faults.put(hostler.url, "ModelError", endpoint="other", id="others", lifetime=3600)
    assert outcome(hostler, A, "ep")[0] == "ModelError"
    hostler.sm.update_endpoint(EndpointName="ep", EndpointConfigName="other")
    hostler.wait_in_service("ep")
    assert outcome(hostler, A, "ep")[0] == "ModelError"  # an update keeps it
    hostler.sm.delete_endpoint(EndpointName="ep")
    eventually(lambda: [rule["id"] for rule in faults.faults(hostler.url)] == ["others"], 60, "the rule is gone")
    with pytest.raises(FaultRefused, match=r'^Could not find endpoint "arn:aws:sagemaker:us-east-1:.*endpoint/ep"\.$'):
        faults.put(hostler.url, "ModelError", endpoint="ep")
    eventually(lambda: "ep" not in [e["EndpointName"] for e in hostler.sm.list_endpoints()["Endpoints"]], 60, "gone")
    hostler.sm.create_endpoint(EndpointName="ep", EndpointConfigName="other")
    hostler.wait_in_service("ep")
    assert outcome(hostler, A, "ep") == ("", None)
    assert outcome(hostler, A, "other")[0] == "ModelError"
    for name in ("ep", "other"):
        hostler.sm.delete_endpoint(EndpointName=name)
    eventually(lambda: faults.faults(hostler.url) == [], 60, "the other rule is gone, too")


def test_a_lifetime_ends_a_rule(hostler: Hostler) -> None:
    with fault(hostler.url, "ModelError", lifetime=0.3):
        assert outcome(hostler)[0] == "ModelError"
        eventually(lambda: outcome(hostler) == ("", None), 60, "it has ended")


def test_a_killed_gateway_begins_no_count_anew(hostler: Hostler) -> None:
    with fault(hostler.url, "ModelError", endpoint="mme", first=4):
        assert [outcome(hostler)[0] for _ in range(2)] == ["ModelError"] * 2
        killed = hostler.gateways
        for gateway in killed:
            gateway.kill()
        eventually(lambda: len(hostler.gateways) == 2 and not {*hostler.gateways} & {*killed}, 60, "two new gateways")
        runtime = hostler.client("sagemaker-runtime")
        codes = []
        while len(codes) < 6:
            try:
                runtime.invoke_endpoint(EndpointName="mme", TargetModel=A, Body=b"1,2", ContentType="text/csv")
                codes.append("")
            except ClientError as error:
                codes.append(error.response["Error"]["Code"])
        assert codes == ["ModelError"] * 2 + [""] * 4


def test_a_killed_control_takes_its_rules_along(hostler: Hostler) -> None:
    faults.put(hostler.url, "ModelError")
    assert outcome(hostler)[0] == "ModelError"
    control = hostler.control
    control.kill()
    eventually(lambda: outcome(hostler) == ("", None), 60, "calls meet no fault")
    eventually(
        lambda: hostler.named("hostler.control.main") and hostler.control.pid != control.pid, 60, "a new control"
    )

    def answers() -> bool:
        try:
            return faults.faults(hostler.url) == []
        except FaultRefused:
            return False

    eventually(answers, 60, "no rule is left")


def test_none_survives_hostlers_restart_and_off_is_off(tmp_path: Path) -> None:
    with hostler_up(tmp_path, faults="true") as hostler:
        faults.put(hostler.url, "ModelError")
        hostler.stop()
        hostler.settings["faults"] = "false"
        hostler.start()
        for call in (
            lambda: faults.faults(hostler.url),
            lambda: faults.put(hostler.url, "ModelError"),
            lambda: faults.clear(hostler.url),
        ):
            with pytest.raises(FaultRefused, match=r"the setting faults = true allows them"):
                call()
        hostler.stop()
        hostler.settings["faults"] = "true"
        hostler.start()
        assert faults.faults(hostler.url) == []
