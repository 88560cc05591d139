"""Every error as botocore reads it: exception class, code, message, and ModelError's own members."""

from __future__ import annotations

import asyncio

import botocore.exceptions
import pytest
from rig import Rig, error, pool, running, until
from runtime_client import client, failure, invoke, status

from hostler.contract import MAX_BODY, MAX_MESSAGE
from hostler.wire import gateway_messages
from hostler.wire.http_request import Request


async def test_boto3_reads_every_member_of_an_answer(rig: Rig) -> None:
    def script(request: Request) -> None:
        attributes = request.headers["x-amzn-sagemaker-custom-attributes"]
        request.answer(201, b"[0.5]", "application/x", [("X-Amzn-SageMaker-Custom-Attributes", attributes + "!")])

    await rig.container("i1", script)
    await rig.start(rig.route("i1"))
    answer = await invoke(
        rig, ContentType="text/csv", Accept="a/b", CustomAttributes="trace=1", InferenceId="id 7", TargetVariant="v"
    )
    assert answer["Body"].read() == b"[0.5]"
    assert answer["ContentType"] == "application/x"
    assert answer["InvokedProductionVariant"] == "v"
    assert answer["CustomAttributes"] == "trace=1!"
    assert answer["ResponseMetadata"]["HTTPStatusCode"] == 200
    assert len(answer["ResponseMetadata"]["RequestId"]) == 36
    headers = rig.containers["i1"].seen[0].headers
    assert set(headers) == {
        *("host", "content-type", "accept", "content-length"),
        *("x-amzn-sagemaker-custom-attributes", "x-amzn-sagemaker-inference-id"),
    }


async def test_a_request_without_content_type_stays_without_and_an_answer_gets_one(rig: Rig) -> None:
    def script(request: Request) -> None:
        request.start(200, [], 2)
        request.write(b"ok")
        request.end()

    await rig.container("i1", script)
    await rig.start(rig.route("i1"))
    answer = await invoke(rig, Body=b"")
    assert (answer["ContentType"], answer["Body"].read()) == ("application/octet-stream", b"ok")
    assert "content-type" not in rig.containers["i1"].seen[0].headers
    assert "CustomAttributes" not in answer


async def test_the_region_of_the_signature_chooses_the_endpoint(rig: Rig) -> None:
    await rig.container("i1")
    route = gateway_messages.Route("eu-west-1/ep", rig.route("i1").variants)
    await rig.start(route)
    assert (await invoke(rig, region_name="eu-west-1"))["Body"].read() == b"echo:1,2"
    failed = await failure(rig)
    assert failed["Error"]["Message"] == "Endpoint ep of account 123456789012 not found."


VALIDATION = [
    ({"EndpointName": "EP"}, "Endpoint EP of account 123456789012 not found."),
    ({"EndpointName": "bad name!"}, "Value 'bad name!' at 'endpointName' failed to satisfy constraint"),
    ({"EndpointName": "a%2e%2e"}, "at 'endpointName' failed to satisfy constraint"),
    ({"EndpointName": "x" * 64}, "Member must have length less than or equal to 63"),
    ({"TargetVariant": "other"}, "Variant other"),
    ({"TargetVariant": "-x"}, "at 'targetVariant' failed to satisfy constraint"),
    ({"TargetModel": "a"}, "Endpoint ep is not a multi-model endpoint and does not support target model header."),
    ({"CustomAttributes": "x" * 1025}, "at 'customAttributes' failed to satisfy constraint"),
    ({"InferenceId": "x" * 65}, "at 'inferenceId' failed to satisfy constraint"),
    ({"ContentType": "x" * 1025}, "at 'contentType' failed to satisfy constraint"),
    ({"TargetContainerHostname": "c1"}, "Endpoint ep does not invoke its containers directly"),
    ({"InferenceComponentName": "c1"}, "Endpoint ep has no inference components."),
    ({"EnableExplanations": "`true`"}, "Endpoint ep has no explainer."),
    ({"SessionId": "NEW_SESSION"}, "Endpoint ep does not support stateful sessions."),
    ({"EndpointName": "mme"}, "is missing a target model header."),
    ({"EndpointName": "mme", "TargetModel": "../a"}, "TargetModel '../a' is not valid: it holds the segment '..'"),
    ({"EndpointName": "mme", "TargetModel": "a\\b"}, "it holds a backslash"),
    ({"EndpointName": "mme", "TargetModel": "//a"}, "it is absolute"),
    ({"EndpointName": "mme", "TargetModel": "/"}, "it is empty"),
    ({"EndpointName": "mme", "TargetModel": "a//b"}, "it holds the segment ''"),
    ({"EndpointName": "mme", "TargetModel": "x" * 1025}, "at 'targetModel' failed to satisfy constraint"),
]


async def test_bad_input_is_a_validation_error_that_says_what_is_wrong(rig: Rig) -> None:
    container = await rig.container("i1")
    await rig.start(rig.route("i1"), rig.route("i1", name="mme", multi_model=True))
    for parameters, words in VALIDATION:
        failed = await failure(rig, **parameters)
        assert (status(failed), failed["Class"]) == (400, "ValidationError"), parameters
        assert words in failed["Error"]["Message"], failed
        assert len(failed["ResponseMetadata"]["RequestId"]) == 36
    assert container.seen == []


async def test_an_oversized_body_is_a_bare_413_and_no_reset(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    failed = await failure(rig, Body=b"x" * (MAX_BODY + 1))
    assert (status(failed), failed["Error"]["Code"]) == (413, "413")
    assert failed["Error"]["Message"] == "HTTP content length exceeded 6291456 bytes."
    answer = await invoke(rig, Body=b"x" * MAX_BODY)
    assert len(await asyncio.to_thread(answer["Body"].read)) == MAX_BODY + 5


CONTAINER_ERRORS = [
    (415, "CLIENT_ERROR_FROM_MODEL", 'Received client error (415) from primary with message "oh "no"". See '),
    (500, "INTERNAL_FAILURE_FROM_MODEL", 'Received server error (500) from primary with message "oh "no"". See '),
    (302, "INTERNAL_FAILURE_FROM_MODEL", 'Received server error (302) from primary with message "oh "no"". See '),
    (404, "CLIENT_ERROR_FROM_MODEL", 'Received client error (404) from primary with message "oh "no"". See '),
]


@pytest.mark.parametrize(("answer", "code", "words"), CONTAINER_ERRORS)
async def test_a_containers_error_is_a_model_error_with_its_own_words(
    rig: Rig, answer: int, code: str, words: str
) -> None:
    await rig.container("i1", lambda request: request.answer(answer, b'oh "no"'))
    await rig.start(rig.route("i1"))
    failed = await failure(rig)
    assert (status(failed), failed["Class"]) == (424, "ModelError")
    assert failed["Error"]["Message"].startswith(words)
    assert failed["OriginalStatusCode"] == answer
    assert failed["OriginalMessage"] == 'oh "no"'
    assert failed["LogStreamArn"] == "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/ep"
    assert error(await rig.invoke())["ErrorCode"] == code


async def test_long_and_undecodable_errors_are_cut_to_what_the_model_allows(rig: Rig) -> None:
    await rig.container("i1", lambda request: request.answer(500, b"\xff" + b"x" * 300_000))
    await rig.start(rig.route("i1"))
    failed = await failure(rig)
    assert len(failed["Error"]["Message"]) == len(failed["OriginalMessage"]) == MAX_MESSAGE
    assert failed["OriginalMessage"].startswith("�xxx")
    assert failed["Error"]["Message"].endswith("in account 123456789012 for more information.")


async def test_a_silent_container_is_a_timeout_with_status_0() -> None:
    async with running(invoke_timeout=0.05) as rig:
        await rig.container("i1", lambda request: None)
        await rig.start(rig.route("i1"))
        failed = await failure(rig)
        assert (status(failed), failed["Class"], failed["OriginalStatusCode"]) == (424, "ModelError", 0)
        assert '(0) from primary with message "Your invocation timed out' in failed["Error"]["Message"]


async def test_a_container_that_dies_is_a_model_error_with_status_0(rig: Rig) -> None:
    await rig.container("i1", lambda request: request.abort())
    await rig.start(rig.route("i1"))
    failed = await failure(rig)
    assert (status(failed), failed["Class"], failed["OriginalStatusCode"]) == (424, "ModelError", 0)
    assert "could not get a response from the ep endpoint" in failed["Error"]["Message"]
    await rig.containers["i1"].stop()
    rig.containers["i1"].path.unlink(missing_ok=True)
    failed = await failure(rig)
    assert (status(failed), failed["OriginalStatusCode"]) == (424, 0)


async def test_a_cut_answer_is_a_model_error_that_says_so(rig: Rig) -> None:
    def script(request: Request) -> None:
        request.close = True  # once it has ended, though too early
        request.start(200, [("Content-Type", "text/csv")], 1000)
        request.write(b"half")
        request.end()

    await rig.container("i1", script)
    await rig.start(rig.route("i1"))
    failed = await failure(rig)
    assert (status(failed), failed["OriginalStatusCode"]) == (424, 500)
    assert "and could not load the entire response body" in failed["Error"]["Message"]


async def test_a_variant_whose_instances_do_not_come_back_in_time_is_unavailable() -> None:
    async with running(invoke_timeout=0.01) as rig:
        await rig.start(rig.route(), rig.route(name="mme", multi_model=True))
        for parameters, expected in (
            ({}, (503, "ServiceUnavailable")),
            ({"EndpointName": "mme", "TargetModel": "a"}, (429, "ModelNotReadyException")),
        ):
            failed = await failure(rig, **parameters)
            assert (status(failed), failed["Class"]) == expected


async def test_a_model_that_is_not_ready_is_its_own_exception() -> None:
    async with running(invoke_timeout=0.01) as rig:
        await rig.container("i1")
        await rig.start(rig.route("i1", multi_model=True))
        failed = await failure(rig, TargetModel="a.tar.gz")
        assert (status(failed), failed["Class"]) == (429, "ModelNotReadyException")
        words = "Model a.tar.gz for endpoint ep variant v is not ready for inference yet."
        assert failed["Error"]["Message"] == words


async def test_what_is_not_hosted_says_so(rig: Rig) -> None:
    await rig.start(rig.route("i1"))
    runtime = client(rig)
    with pytest.raises(botocore.exceptions.ClientError, match="InvokeEndpointAsync is not hosted by hostler") as caught:
        await asyncio.to_thread(runtime.invoke_endpoint_async, EndpointName="ep", InputLocation="s3://b/k")
    assert caught.value.response["Error"]["Code"] == "AccessDeniedException"


async def test_weights_share_requests_and_a_named_variant_overrides_them(rig: Rig) -> None:
    for name in ("i1", "i2", "i3"):
        await rig.container(name)
    weights = {"i1": 3.0, "i2": 1.0, "i3": 0.0}
    alone = (gateway_messages.Container("primary"),)
    variants = tuple(
        gateway_messages.Variant(name, weight, alone, pool(rig.address(name))) for name, weight in weights.items()
    )
    await rig.start(gateway_messages.Route("us-east-1/ep", variants))
    for _ in range(200):
        await rig.invoke()
    seen = [len(container.seen) for container in rig.containers.values()]
    assert seen[2] == 0
    assert 120 < seen[0] < 180
    answer = await invoke(rig, TargetVariant="i3")
    assert answer["InvokedProductionVariant"] == "i3"


async def test_a_multi_model_invocation_reaches_its_target(rig: Rig) -> None:
    container = await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    call = asyncio.create_task(invoke(rig, TargetModel="/a/b.tar.gz", Body=b"x"))
    need = await rig.control.receives(gateway_messages.TargetRequest)
    assert need.target == "a/b.tar.gz"
    rig.control.send(rig.resident("a/b.tar.gz", "i1"))
    assert (await call)["Body"].read() == b"echo:x"
    await until(lambda: container.seen)
    assert container.seen[0].path == "/models/m-a%2Fb.tar.gz/invoke"
    assert container.seen[0].headers["x-amzn-sagemaker-target-model"] == "/a/b.tar.gz"
