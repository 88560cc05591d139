"""Several containers behind one endpoint, invoked in sequence (Serial): each answer is the next container's request."""

from __future__ import annotations

import asyncio
import contextlib
import re
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
from background_load import Call, keep_calling
from botocore.exceptions import ClientError
from callers import Caller
from hop_endpoints import (
    call_endpoint,
    deploy,
    hop_names,
    hop_processes,
    hops,
    image,
    instructions,
    is_logged,
    mapped_config,
    trace,
)
from running import BUCKET, ROLE, Hostler, eventually, hostler_up
from shell import AWS, Shell

FIFTEEN = [f"hop{number}" for number in range(15)]
THREE = ["first", "second", "third"]
MODEL_ERROR = re.compile(r'Received (client|server) error \((\d+)\) from (\S+) with message "(.*)"', re.DOTALL)


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory, in_cell: Hostler | None) -> Iterator[Hostler]:
    """With the endpoint `three`, a pipeline."""
    if in_cell:
        deploy(in_cell, "three", hops(*THREE))
        yield in_cell
        in_cell.sm.delete_endpoint(EndpointName="three")
        return
    folder = tmp_path_factory.mktemp("pipelines")
    config = mapped_config(folder, *FIFTEEN, *THREE)
    with hostler_up(folder / "up", config=config) as running:
        deploy(running, "three", hops(*THREE))
        yield running


@pytest.fixture(scope="module")
def shell(hostler: Hostler, tmp_path_factory: pytest.TempPathFactory) -> Shell:
    return Shell(hostler, tmp_path_factory.mktemp("shell"))


def invoke(hostler: Hostler, body: bytes, endpoint: str = "three", **more: Any) -> dict[str, Any]:
    """Return boto3's answer with its body."""
    answer: dict[str, Any] = hostler.runtime.invoke_endpoint(EndpointName=endpoint, Body=body, **more)
    return answer | {"Body": answer["Body"].read()}


def failure(hostler: Hostler, body: bytes) -> dict[str, Any]:
    """Invoke `three`, which must fail, and return the members of its ModelError."""
    with pytest.raises(ClientError) as failed:
        invoke(hostler, body)
    error: dict[str, Any] = failed.value.response
    assert error["Error"]["Code"] == "ModelError"
    assert error["ResponseMetadata"]["HTTPStatusCode"] == 424
    return error


# --- from hop to hop ----------------------------------------------------------------------------------------------


def test_each_answer_is_the_next_containers_request_with_its_content_type(hostler: Hostler):
    answer = invoke(
        hostler,
        b"1,2",
        ContentType="text/csv",
        Accept="application/json",
        CustomAttributes="trace=7",
        InferenceId="i-7",
    )
    sent, seen = trace(answer["Body"])
    assert sent == b"1,2"
    assert [hop["name"] for hop in seen] == THREE
    assert [hop["path"] for hop in seen] == ["/invocations"] * 3
    assert [hop["type"] for hop in seen] == ["text/csv", "application/x-first", "application/x-second"]
    assert [hop["accept"] for hop in seen] == ["application/json"] * 3
    assert [hop["attributes"] for hop in seen] == ["trace=7"] * 3
    assert len({hop["process"] for hop in seen}) == 3
    assert answer["ContentType"] == "application/x-third"
    assert answer["InvokedProductionVariant"] == "AllTraffic"
    assert "CustomAttributes" not in answer


def test_the_callers_custom_attributes_come_from_the_last_container(hostler: Hostler):
    body = instructions(first={"attributes": "from=first"}, third={"attributes": "from=third", "type": "text/x-last"})
    answer = invoke(hostler, body, CustomAttributes="from=caller")
    assert [hop["attributes"] for hop in trace(answer["Body"])[1]] == ["from=caller"] * 3
    assert answer["CustomAttributes"] == "from=third"
    assert answer["ContentType"] == "text/x-last"


def test_headers_that_the_caller_omits_reach_no_container(hostler: Hostler):
    sent, seen = trace(invoke(hostler, b"")["Body"])
    assert sent == b""
    assert [hop["type"] for hop in seen] == [None, "application/x-first", "application/x-second"]
    assert [hop["attributes"] for hop in seen] == [None] * 3


# --- errors -------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "status", "code"), [("second", 503, "server"), ("first", 415, "client"),
                                                      ("third", 400, "client")])  # fmt: skip
def test_a_containers_error_ends_the_chain_and_names_it(hostler: Hostler, name: str, status: int, code: str):
    error = failure(hostler, instructions(**{name: {"status": status, "body": f"{name} will not"}}))
    match = MODEL_ERROR.search(error["Message"])
    assert match
    assert match.groups() == (code, str(status), name, f"{name} will not")
    assert error["OriginalStatusCode"] == status
    assert error["OriginalMessage"] == f"{name} will not"


def test_an_unnamed_container_is_named_by_its_number(hostler: Hostler):
    deploy(hostler, "unnamed", [{"Image": image(name)} for name in THREE])
    assert hop_names(invoke(hostler, b"", "unnamed")["Body"]) == THREE
    with pytest.raises(ClientError) as failed:
        invoke(hostler, instructions(second={"status": 500}), "unnamed")
    match = MODEL_ERROR.search(failed.value.response["Message"])
    assert match
    assert match[3] == "container-2"
    hostler.sm.delete_endpoint(EndpointName="unnamed")


def test_an_answer_over_5_mb_goes_to_the_caller_but_to_no_other_container(hostler: Hostler):
    error = failure(hostler, instructions(first={"size": 6_000_000}))
    assert (
        "Received response from first with status code 200. However, the request payload from first to second is"
        " 6000000 bytes, which has exceeded the maximum limit of 5 MB."
    ) in error["Message"]
    last = invoke(hostler, instructions(third={"size": 6_000_000}))
    assert last["Body"] == b"." * 6_000_000


def test_a_large_body_goes_through_complete(hostler: Hostler):
    body = b"".join(b"%07d," % number for number in range(600_000))  # 4.8 MB
    sent, seen = trace(invoke(hostler, body)["Body"])
    assert sent == body
    assert [hop["name"] for hop in seen] == THREE


@pytest.mark.machine
def test_one_time_limit_holds_for_the_whole_chain(tmp_path: Path):
    limit, each = 5, 2  # seconds: two fit, three do not
    with hostler_up(tmp_path / "up", config=mapped_config(tmp_path, *THREE), invoke_timeout=limit) as hostler:
        deploy(hostler, "three", hops(*THREE))
        error = failure(hostler, instructions(first={"sleep": each}, second={"sleep": each}, third={"sleep": each}))
    assert error["OriginalStatusCode"] == 0
    assert "Your invocation timed out while waiting for a response from container third." in error["Message"]


@pytest.mark.machine
def test_a_caller_who_disconnects_in_the_middle_ends_the_chain(hostler: Hostler):
    """The request would end the third container's process; the next call is answered by the same three processes."""

    async def disconnect() -> None:
        async with Caller(hostler.url) as caller:
            body = instructions(second={"log": "disconnect", "sleep": 1.0}, third={"exit": 7})
            call = asyncio.create_task(call_endpoint(caller, "three", body))
            await asyncio.to_thread(
                eventually, lambda: is_logged(hostler, "disconnect"), 60, "the second container has the request"
            )
            call.cancel()
            await asyncio.wait([call])

    before = processes(hostler, "three")
    asyncio.run(disconnect())
    eventually(lambda: is_logged(hostler, "disconnect done"), 60, "the second container has answered")
    assert processes(hostler, "three") == before


def test_a_container_that_exits_within_a_request_is_named_and_all_three_are_replaced(hostler: Hostler):
    deploy(hostler, "ends", hops(*THREE))
    before = processes(hostler, "ends")
    with pytest.raises(ClientError) as failed:
        invoke(hostler, instructions(second={"exit": 7}), "ends")
    error = failed.value.response
    assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 0)
    assert "from second with message" in error["Message"]
    eventually(lambda: (now := answering(hostler, "ends")) and not now & before, 60, "three other processes answer")
    hostler.sm.delete_endpoint(EndpointName="ends")


def answering(hostler: Hostler, endpoint: str) -> set[str]:
    """Return the processes that answer; none while the instance is being replaced and the route still has it."""
    with contextlib.suppress(hostler.runtime.exceptions.ModelError):
        return processes(hostler, endpoint)
    return set()


def processes(hostler: Hostler, endpoint: str) -> set[str]:
    """Invoke the endpoint and return the processes that answer."""
    return {hop["process"] for hop in trace(invoke(hostler, b"", endpoint)["Body"])[1]}


@pytest.mark.machine
def test_kill_9_of_the_middle_container_fails_only_calls_in_flight_there(tmp_path: Path):
    config = mapped_config(tmp_path, *THREE)
    with hostler_up(tmp_path / "up", config=config) as hostler:
        deploy(hostler, "killed", hops(*THREE), count=2)

        async def kill_under_load() -> tuple[float, list[Call]]:
            async with keep_calling(hostler.url, "killed") as load:
                await load.next_calls(200)
                victim = hop_processes(hostler, "second")[0]
                victim.kill()
                await asyncio.to_thread(eventually, lambda: not victim.is_running(), 60, "it has ended")
                killed = time.monotonic()
                await load.next_calls(500)
            return killed, load.calls

        killed, calls = asyncio.run(asyncio.wait_for(kill_under_load(), 600))
        failed = [call for call in calls if not call.correct]
        assert len(failed) <= 2 * 8  # each caller's call in flight, and its next one before the route had changed
        # When a call that was sent after the death was answered: the gateway has met the death by then.
        noticed = min(call.ended for call in calls if call.correct and call.sent > killed)
        for call in failed:
            assert call.sent < noticed
            assert call.answer.status == 424
            assert b"from second with message" in call.answer.body
        assert {tuple(hop_names(call.answer.body)) for call in calls if call.correct} == {tuple(THREE)}


# --- load ---------------------------------------------------------------------------------------------------------


def test_the_bodies_of_a_hundred_callers_go_through_fifteen_containers_in_order(hostler: Hostler):
    begun = time.monotonic()
    deploy(hostler, "fifteen", hops(*FIFTEEN))
    print(f"15 containers (Serial): InService after {time.monotonic() - begun:.1f} s")

    async def call_three_times(number: int) -> None:
        async with Caller(hostler.url) as caller:
            for count in range(3):
                body = b"caller %d, call %d" % (number, count)
                answer = await call_endpoint(caller, "fifteen", body)
                assert (answer.status, trace(answer.body)[0], hop_names(answer.body)) == (200, body, FIFTEEN)

    async def all_callers() -> None:
        await asyncio.gather(*map(call_three_times, range(100)))

    asyncio.run(asyncio.wait_for(all_callers(), 120))
    hostler.sm.delete_endpoint(EndpointName="fifteen")


# --- with a multi-model container ---------------------------------------------------------------------------------


def test_a_preprocessor_and_a_multi_model_container_through_boto3_and_the_cli(hostler: Hostler, shell: Shell):
    for city in ("Houston_TX", "Chicago_IL"):
        hostler.put(f"cities/{city}.tar.gz", targets.archive({"name": city.encode()}))
    answers = shell.python(f"""
import boto3, json
sm, rt = boto3.client("sagemaker"), boto3.client("sagemaker-runtime")
preprocessor = {{"Image": {image("first")!r}}}
multi = {{"Image": {image("second")!r}, "ModelDataUrl": "s3://{BUCKET}/cities/", "Mode": "MultiModel"}}
sm.create_model(ModelName="cities", ExecutionRoleArn={ROLE!r}, Containers=[preprocessor, multi])
sm.create_endpoint_config(EndpointConfigName="cities", ProductionVariants=[{{"InstanceType": "ml.m4.xlarge",
    "InitialInstanceCount": 2, "InitialVariantWeight": 1, "ModelName": "cities", "VariantName": "AllTraffic"}}])
sm.create_endpoint(EndpointName="cities", EndpointConfigName="cities")
sm.get_waiter("endpoint_in_service").wait(EndpointName="cities")
answers = [rt.invoke_endpoint(EndpointName="cities", ContentType="text/csv", TargetModel=target, Body="1,2")
           for target in ("Houston_TX.tar.gz", "Chicago_IL.tar.gz", "Houston_TX.tar.gz")]
print(json.dumps([answer["Body"].read().decode() for answer in answers]))
""")
    for answer, city in zip(answers, ("Houston_TX", "Chicago_IL", "Houston_TX"), strict=True):
        sent, seen = trace(answer.encode())
        assert sent == b"1,2"
        assert [(hop["name"], hop["model"]) for hop in seen] == [("first", None), ("second", city)]
        assert seen[0]["path"] == "/invocations"
        assert re.fullmatch(r"/models/[^/]+/invoke", seen[1]["path"])
        assert seen[1]["type"] == "application/x-first"
        assert seen[1]["target"] == f"{city}.tar.gz"

    answer, body = shell.folder / "answer", shell.folder / "body.csv"
    body.write_text("3,4")
    request = ("--endpoint-name", "cities", "--content-type", "text/csv", "--body", f"fileb://{body}")
    target = ("--target-model", "Chicago_IL.tar.gz")
    shell.run(AWS, "sagemaker-runtime", "invoke-endpoint", *request, *target, answer)
    sent, seen = trace(answer.read_bytes())
    assert (sent, seen[1]["model"]) == (b"3,4", "Chicago_IL")

    with pytest.raises(ClientError) as missing:
        invoke(hostler, b"", "cities")
    assert missing.value.response["Error"]["Code"] == "ValidationError"
    assert "is missing a target model header" in missing.value.response["Error"]["Message"]
    hostler.sm.delete_endpoint(EndpointName="cities")
