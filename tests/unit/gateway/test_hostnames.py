"""Several containers behind one endpoint, each called by its hostname."""

from __future__ import annotations

import asyncio

from rig import Rig, error
from runtime_client import failure, invoke, status

from hostler.wire.http_request import Request

HOSTNAME = "X_Amzn_SageMaker_Target_Container_Hostname"


async def test_the_container_that_is_named_answers_and_no_other(rig: Rig) -> None:
    names = [f"c{n}" for n in range(15)]
    containers = await rig.instance("i1", *[lambda request, n=name: request.answer(200, n.encode()) for name in names])
    await rig.start(rig.several("i1", labels=" ".join(names), mode="Direct"))
    replies = await asyncio.gather(*(rig.invoke(b"x", **{HOSTNAME: names[n % 15]}) for n in range(150)))
    assert [reply.body.decode() for reply in replies] == [names[n % 15] for n in range(150)]
    for container in containers:
        assert [(request.path, request.body) for request in container.seen] == [("/invocations", b"x")] * 10
        assert set(container.seen[0].headers) == {"host", "content-length"}


async def test_the_three_mistakes_of_direct_calls_are_validation_errors_that_name_the_containers(rig: Rig) -> None:
    containers = [*await rig.instance("i1", None, None), *await rig.instance("i2", None, None)]
    await rig.start(
        rig.several("i1", labels="firstContainer secondContainer", mode="Direct"),
        rig.several("i2", name="serial"),
        rig.route("i3", name="plain"),
    )
    failed = await failure(rig, TargetContainerHostname="third")
    assert failed["Error"]["Message"] == (
        "Container third of endpoint ep of account 123456789012 not found. "
        "Its containers are firstContainer, secondContainer."
    )
    failed = await failure(rig)
    assert failed["Error"]["Message"] == (
        f"Request {failed['ResponseMetadata']['RequestId']} is missing a target container hostname header. "
        "Endpoint ep invokes its containers directly: set TargetContainerHostname to one of "
        "firstContainer, secondContainer."
    )
    for name in ("serial", "plain"):
        failed = await failure(rig, EndpointName=name, TargetContainerHostname="a")
        assert (status(failed), failed["Class"]) == (400, "ValidationError")
        assert failed["Error"]["Message"].startswith(f"Endpoint {name} does not invoke its containers directly")
    codes = [
        error(await rig.invoke(name=name, **headers))["ErrorCode"]
        for name, headers in (("ep", {HOSTNAME: "third"}), ("ep", {}), ("serial", {HOSTNAME: "a"}))
    ]
    assert codes == [
        "TARGET_CONTAINER_HOSTNAME_NOT_FOUND",
        "TARGET_CONTAINER_HOSTNAME_HEADER_MISSING",
        "TARGET_CONTAINER_HOSTNAME_HEADER_NOT_SUPPORTED",
    ]
    assert not any(container.seen for container in containers)


async def test_a_direct_endpoint_has_no_target_models(rig: Rig) -> None:
    await rig.instance("i1", None, None)
    await rig.start(rig.several("i1", mode="Direct"))
    failed = await failure(rig, TargetContainerHostname="a", TargetModel="m.tar.gz")
    assert "is not a multi-model endpoint" in failed["Error"]["Message"]


async def test_errors_name_the_container_that_was_called(rig: Rig) -> None:
    def fail(request: Request) -> None:
        request.answer(500, b"boom")

    def time_out(request: Request) -> None:
        asyncio.get_running_loop().call_soon(rig.expire)

    await rig.instance("i1", fail, lambda request: request.abort(), time_out)
    await rig.start(rig.several("i1", labels="a b c", mode="Direct"))
    words = {
        "a": 'Received server error (500) from a with message "boom"',
        "b": 'Received server error (0) from b with message "Amazon SageMaker could not get a response from the ep',
        "c": 'Received server error (0) from c with message "Your invocation timed out while waiting for a '
        "response from container c. ",
    }
    for name, expected in words.items():
        failed = await failure(rig, TargetContainerHostname=name)
        assert (status(failed), failed["Class"]) == (424, "ModelError")
        assert failed["Error"]["Message"].startswith(expected)


async def test_boto3_calls_a_container_by_its_hostname(rig: Rig) -> None:
    await rig.instance("i1", None, lambda request: request.answer(200, b"second"))
    await rig.start(rig.several("i1", labels="firstContainer secondContainer", mode="Direct"))
    answer = await invoke(rig, TargetContainerHostname="secondContainer", ContentType="text/csv")
    assert (answer["Body"].read(), answer["InvokedProductionVariant"]) == (b"second", "v")
