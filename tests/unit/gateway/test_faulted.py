"""Faults on purpose at a gateway, each beside a real failure of its kind."""

from __future__ import annotations

import asyncio
import contextlib
import json
import re
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from dataclasses import replace
from typing import Any

import botocore.exceptions
import pytest
from botocore.eventstream import EventStreamBuffer
from rig import GUARD, Rig, error, running, until
from runtime_client import client, failure, status

from hostler.core.faults import Event, Rule, RuleBook
from hostler.gateway.dispatch import PLAIN
from hostler.wire import gateway_messages
from hostler.wire.gateway_messages import FaultDecision, FaultQuery, FaultScope, Refused, SetFaults
from hostler.wire.http_call import Reply
from hostler.wire.http_request import Request

STREAM = "invocations-response-stream"


class Faults:
    """Control, as far as it decides about faults."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.book = RuleBook()
        self.queries: list[FaultQuery] = []
        self.held = False  # it answers no query
        self._version = 1000

    async def set(self, *rules: Rule) -> None:
        """Replace the rules; return when the gateway knows of them."""
        self.book.remove([placed.rule.id for placed in self.book])
        for rule in rules:
            self.book.put(replace(rule, id=rule.id or "f1"), "")
        self._version += 1
        scopes = tuple(FaultScope(p.rule.id, p.rule.region, p.rule.endpoint) for p in self.book)
        self.rig.control.send(SetFaults(self._version, scopes))
        await until(lambda: self.rig.gateway.link.faults.scopes == scopes)

    async def decide(self) -> None:
        """Answer each query; take in all else."""
        while True:
            query = await self.rig.control.received.get()
            if not isinstance(query, FaultQuery):
                continue
            self.queries.append(query)
            if not self.held:
                self.rig.control.send(FaultDecision(query.request_id, self._rule(query)))

    def _rule(self, query: FaultQuery) -> Rule | None:
        region, _, endpoint = query.key.partition("/")
        occasion = "stream" if query.stream else "call"
        return self.book.decide(
            Event(occasion, region, endpoint, query.variant, query.target, query.containers)  # type: ignore[arg-type]
        )


@asynccontextmanager
async def meeting(rig: Rig, *rules: Rule) -> AsyncIterator[Faults]:
    """While there are these faults at a rig that runs."""
    faults = Faults(rig)
    await faults.set(*rules)
    deciding = asyncio.create_task(faults.decide())
    try:
        yield faults
    finally:
        deciding.cancel()
        with contextlib.suppress(asyncio.CancelledError):
            await deciding
        await faults.set()
        assert rig.gateway._dispatcher.kinds is PLAIN


def shown(reply: Reply) -> tuple[int, dict[str, str], bytes]:
    """What a caller sees, without ids and times."""
    headers = {**reply.headers}
    headers.pop("x-amzn-requestid")
    headers["server-timing"] = re.sub(r"[\d.]+|, fault;desc=f1$", "", headers["server-timing"])
    return reply.status, headers, re.sub(rb"req-[0-9a-f-]+", b"", reply.body)


async def expired(rig: Rig, calling: asyncio.Task[Reply]) -> Reply:
    """The answer of a call that waits, or is with a container, once its time is up."""
    await until(lambda: rig.gateway.context.pending.waiting() or rig.sent())
    rig.expire()
    return await calling


# --- each error beside a real one ---------------------------------------------------------------------------------


@pytest.mark.parametrize("answered", [415, 500, 302, 507])
async def test_a_model_error_is_that_of_a_container(rig: Rig, answered: int) -> None:
    await rig.container("i1", lambda request: request.answer(answered, b'no "luck"\nhere', "text/plain"))
    await rig.start(rig.route("i1"))
    real = await rig.invoke()
    rule = Rule("ModelError", status=answered, message='no "luck"\nhere')
    async with meeting(rig, rule):
        fault = await rig.invoke()
    assert shown(fault) == shown(real)
    assert fault.headers["server-timing"].endswith(", fault;desc=f1")
    if answered == 507:
        async with meeting(rig, Rule("OutOfMemory", message=rule.message)):
            assert shown(await rig.invoke()) == shown(real)
    assert len(rig.containers["i1"].seen) == 1


async def test_a_model_that_is_not_ready_is_that_of_a_load_that_takes_too_long(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    real = await expired(rig, asyncio.create_task(rig.invoke(target="a.tar.gz")))
    async with meeting(rig, Rule("ModelNotReadyException")):
        fault = await rig.invoke(target="a.tar.gz")
    assert fault.status == 429
    assert (fault.status, fault.body) == (real.status, real.body)
    assert fault.headers["x-amzn-errortype"] == real.headers["x-amzn-errortype"] == "ModelNotReadyException"


@pytest.mark.parametrize(
    ("effect", "kind"), [("OutOfMemory", "no_memory"), ("InternalDependencyException", "unavailable")]
)
async def test_an_error_of_a_load_is_that_which_control_sends(rig: Rig, effect: Any, kind: Any) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    calling = asyncio.create_task(rig.invoke(target="a.tar.gz"))
    asked = await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(Refused(asked.key, asked.variant, asked.fleet, asked.target, kind, "It is so."))
    real = await calling
    async with meeting(rig, Rule(effect, message="It is so.")):
        fault = await rig.invoke(target="a.tar.gz")
    assert (fault.status, fault.body) == (real.status, real.body)
    assert fault.headers["x-amzn-errortype"] == real.headers["x-amzn-errortype"]


async def test_an_unavailable_service_is_a_variant_without_an_instance(rig: Rig) -> None:
    await rig.start(rig.route())
    real = await expired(rig, asyncio.create_task(rig.invoke()))
    async with meeting(rig, Rule("ServiceUnavailable")):
        assert shown(await rig.invoke()) == shown(real)
    assert real.status == 503


async def test_a_killed_container_is_one_that_ends_under_a_call(rig: Rig) -> None:
    await rig.container("i1", lambda request: request.abort())
    await rig.start(rig.route("i1"))
    real = await rig.invoke()
    async with meeting(rig, Rule("ContainerKilled")):
        assert shown(await rig.invoke()) == shown(real)
    assert (real.status, error(real)["OriginalStatusCode"]) == (424, 0)


async def test_an_answer_that_is_too_slow_is_that_of_a_container_that_hangs() -> None:
    async with running(invoke_timeout=0.1) as rig:
        await rig.container("i1", lambda request: None)
        await rig.start(rig.route("i1"))
        real = await rig.invoke()
        async with meeting(rig, Rule("SlowAnswer", seconds=100.0)):
            assert shown(await rig.invoke()) == shown(real)
        assert len(rig.containers["i1"].seen) == 1


@pytest.mark.parametrize("operation", ["invocations", STREAM])
async def test_both_operations_have_the_error(rig: Rig, operation: str) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    async with meeting(rig, Rule("ThrottlingException")):
        reply = await rig.invoke(operation=operation)
    assert (reply.status, reply.headers["x-amzn-errortype"]) == (400, "ThrottlingException")
    assert error(reply) == {"Message": "Rate exceeded"}


CLASSES = [
    ("ModelNotReadyException", 429, "ModelNotReadyException"),
    ("ModelError", 424, "ModelError"),
    ("ServiceUnavailable", 503, "ServiceUnavailable"),
    ("ThrottlingException", 400, "ClientError"),  # not modeled for this operation
    ("InternalFailure", 500, "InternalFailure"),
    ("InternalDependencyException", 530, "InternalDependencyException"),
    ("OutOfMemory", 424, "ModelError"),
    ("ContainerKilled", 424, "ModelError"),
]


@pytest.mark.parametrize(("effect", "code", "name"), CLASSES)
async def test_boto3_raises_the_class_of_awss_shape(rig: Rig, effect: Any, code: int, name: str) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    async with meeting(rig, Rule(effect)):
        failed = await failure(rig)
    assert (status(failed), failed["Class"]) == (code, name)
    assert failed["Error"]["Code"] == (effect if code != 424 else "ModelError")
    assert len(failed["ResponseMetadata"]["RequestId"]) == 36
    if name == "ModelError":
        assert failed["OriginalStatusCode"] == {"ModelError": 500, "OutOfMemory": 507, "ContainerKilled": 0}[effect]
        assert failed["OriginalMessage"] in failed["Error"]["Message"]
        assert failed["LogStreamArn"] == "arn:aws:logs:us-east-1:123456789012:log-group:/aws/sagemaker/Endpoints/ep"


@pytest.mark.parametrize(("container", "label"), [("", "a"), ("b", "b")])
async def test_a_fault_names_the_container_that_its_rule_names(rig: Rig, container: str, label: str) -> None:
    await rig.instance("i1", None, None)
    await rig.start(rig.several("i1"))
    async with meeting(rig, Rule("ModelError", container=container)) as faults:
        reply = await rig.invoke()
    assert error(reply)["Message"].startswith(f"Received server error (500) from {label} with message")
    assert faults.queries[0].containers == ("a", "b")


async def test_a_direct_call_meets_the_faults_of_the_container_that_it_names(rig: Rig) -> None:
    await rig.instance("i1", None, None)
    await rig.start(rig.several("i1", mode="Direct"))
    async with meeting(rig, Rule("ModelError", container="b")):
        named = [await rig.invoke(X_Amzn_SageMaker_Target_Container_Hostname=label) for label in "ab"]
    assert [reply.status for reply in named] == [200, 424]
    assert " from b with message " in error(named[1])["Message"]


async def test_a_slow_answer_of_a_pipeline_is_the_first_containers_time(rig: Rig) -> None:
    await rig.instance("i1", None, None)
    await rig.start(rig.several("i1"))
    async with meeting(rig, Rule("SlowAnswer", seconds=0.05)):
        assert (await rig.invoke()).status == 200
    await rig.gateway.stop(0.0)
    (line,) = [json.loads(line) for line in (rig.run / "logs" / "access" / "g1.log").read_text().splitlines()]
    assert line["fault"] == "f1"
    assert line["container_ms"]["a"] > 25  # the loop's clock is coarse
    assert line["model_ms"] == pytest.approx(sum(line["container_ms"].values()), abs=0.01)


@pytest.mark.parametrize(
    ("effect", "counted"),
    [
        ("ModelError", (1, 1, 0)),
        ("OutOfMemory", (1, 0, 1)),
        ("ThrottlingException", (0, 0, 1)),
        ("SlowAnswer", (0, 1, 0)),
    ],
)
async def test_counters_have_errors_hits_and_misses(rig: Rig, effect: Any, counted: tuple[int, ...]) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    await rig.control.resident(rig.resident("a.tar.gz", "i1"))
    async with meeting(rig, Rule(effect, seconds=0.0 if effect == "SlowAnswer" else None)):
        await rig.invoke(target="a.tar.gz")
    (count,) = rig.gateway.counts().variants
    assert count.invocations == 1
    assert (count.model_errors, count.cache_hits, count.cache_misses) == counted


# --- answers that come late or end early --------------------------------------------------------------------------


async def test_a_slow_answer_comes_at_once_when_its_fault_is_gone(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    async with meeting(rig, Rule("SlowAnswer", seconds=50.0), Rule("ModelError", id="other", endpoint="x")) as faults:
        calling = asyncio.create_task(rig.invoke())
        await until(lambda: rig.gateway.link.faults.delayed)
        assert not rig.containers["i1"].seen
        await faults.set(Rule("ModelError", id="other", endpoint="x"))
        reply = await calling
    assert (reply.status, reply.body) == (200, b"echo:1,2")
    assert reply.headers["server-timing"].endswith(", fault;desc=f1")


async def test_a_slow_answer_counts_as_the_models_time(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    async with meeting(rig, Rule("SlowAnswer", seconds=0.05)):
        reply = await rig.invoke()
    assert reply.body == b"echo:1,2"
    assert (
        float(reply.headers["server-timing"].partition("infer;dur=")[2].partition(",")[0]) > 25
    )  # the loop's clock is coarse


async def cut_reply(rig: Rig, operation: str = "invocations") -> tuple[bytes, bytes]:
    """The head and the body, as far as they come, of one call by a bare socket."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(
        b"POST /endpoints/ep/%b HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1\r\n\r\nx"
        % operation.encode()
    )
    head = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), GUARD)
    body = await asyncio.wait_for(reader.read(), GUARD)
    writer.close()
    return head, body


@pytest.mark.parametrize("size", [10, 300_000])
async def test_an_answer_is_cut_after_so_many_bytes(rig: Rig, size: int) -> None:
    whole = bytes(range(250)) * (size // 250 + 1)
    await rig.container("i1", lambda request: request.answer(200, whole[:size], "text/csv"))
    await rig.start(rig.route("i1"))
    for after in (0, 7, size - 1):
        async with meeting(rig, Rule("TruncatedAnswer", after=after)):
            head, body = await cut_reply(rig)
        assert b"HTTP/1.1 200" in head
        assert b"Content-Length: %d\r\n" % size in head
        assert b", fault;desc=f1\r\n" in head
        assert body == whole[:after]
    async with meeting(rig, Rule("TruncatedAnswer", after=size)):
        assert (await rig.invoke()).body == whole[:size]


async def test_boto3_sees_that_an_answer_is_cut(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))

    def read() -> None:
        client(rig).invoke_endpoint(EndpointName="ep", Body=b"1,2")["Body"].read()

    async with meeting(rig, Rule("TruncatedAnswer", after=3)):
        with pytest.raises((botocore.exceptions.IncompleteReadError, botocore.exceptions.ResponseStreamingError)):
            await asyncio.to_thread(read)


def parts(request: Request) -> None:
    request.start(200, [("Content-Type", "text/event-stream")], None)
    for letter in (b"one", b"two", b"three"):
        request.write(letter)
    request.end()


def frames(body: bytes) -> list[dict[str, str]]:
    """The headers of the frames in a chunked body that came whole or not."""
    buffer, rest = EventStreamBuffer(), body
    while rest and not rest.startswith(b"0\r\n"):
        size, _, rest = rest.partition(b"\r\n")
        buffer.add_data(rest[: int(size, 16)])
        rest = rest[int(size, 16) + 2 :]
    return [frame.headers for frame in buffer]


def last_chunks(body: bytes) -> bytes:
    """A chunked body without its first chunk."""
    size, _, rest = body.partition(b"\r\n")
    return rest[int(size, 16) + 2 :]


@pytest.mark.parametrize("after", [0, 4, 7])
async def test_a_stream_is_cut_between_frames(rig: Rig, after: int) -> None:
    await rig.container("i1", parts)
    await rig.start(rig.route("i1"))
    async with meeting(rig, Rule("TruncatedAnswer", after=after)):
        head, body = await cut_reply(rig, STREAM)
    assert b"HTTP/1.1 200" in head
    assert not body.endswith(b"0\r\n\r\n")
    assert {frame[":event-type"] for frame in frames(body)} == ({"PayloadPart"} if after else set())


async def stream_error(rig: Rig) -> tuple[int, str, str]:
    """The number of parts that boto3 reads before the error; its code and its message."""

    def call() -> tuple[int, str, str]:
        read = 0
        body = client(rig).invoke_endpoint_with_response_stream(EndpointName="ep", Body=b"1,2")["Body"]
        try:
            with contextlib.closing(body):
                for _ in body:
                    read += 1
        except botocore.exceptions.EventStreamError as failed:
            return read, failed.response["Error"]["Code"], failed.response["Error"]["Message"]
        raise AssertionError("the stream ended well")

    return await asyncio.to_thread(call)


async def test_a_broken_stream_is_that_of_a_container_that_breaks_off(rig: Rig) -> None:
    def broken(request: Request) -> None:
        request.start(200, [], None)
        request.write(b"one")
        asyncio.get_running_loop().call_later(0.05, request.abort)

    await rig.container("i1", broken)
    await rig.start(rig.route("i1"))
    real = await cut_reply(rig, STREAM)
    assert (await stream_error(rig))[1] == "ModelStreamError"
    rig.containers["i1"].script = parts
    async with meeting(rig, Rule("ModelStreamError")):
        fault = await cut_reply(rig, STREAM)
        assert [frames(fault[1])[0][":exception-type"], fault[1]] == ["ModelStreamError", last_chunks(real[1])]
        assert (await stream_error(rig))[:2] == (0, "ModelStreamError")


@pytest.mark.parametrize("effect", ["ModelStreamError", "InternalStreamFailure"])
@pytest.mark.parametrize("after", [0, 1, 9])
async def test_an_exception_ends_a_stream_after_so_many_parts(rig: Rig, effect: Any, after: int) -> None:
    def slowly(request: Request) -> None:
        request.start(200, [], None)
        request.write(b"one")
        asyncio.get_running_loop().call_later(0.05, lambda: (request.write(b"two"), request.end()))

    await rig.container("i1", slowly)
    await rig.start(rig.route("i1"))
    async with meeting(rig, Rule(effect, after=after)):
        read, code, message = await stream_error(rig)
    assert (read, code) == (min(after, 2), effect)
    assert message


async def test_a_stream_that_took_too_long_says_so(rig: Rig) -> None:
    await rig.container("i1", parts)
    await rig.start(rig.route("i1"))
    async with meeting(rig, Rule("ModelStreamError", code="ModelInvocationTimeExceeded")):
        _, body = await cut_reply(rig, STREAM)
    assert b"Container primary did not finish its answer within 480 seconds." in body


# --- the rules come and go ----------------------------------------------------------------------------------------


async def test_only_calls_in_a_scope_ask_control(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    elsewhere = (
        Rule("ModelError", region="us-east-1", endpoint="other"),
        Rule("ModelError", id="f2", region="eu-west-1"),
    )
    async with meeting(rig, *elsewhere) as faults:
        assert (await rig.invoke()).status == 200
        assert faults.queries == []
        await faults.set(Rule("ModelError", variant="w"))
        reply = await rig.invoke(b"x" * 100_000)
        assert (reply.status, len(reply.body)) == (200, 100_005)
        assert "fault" not in reply.headers["server-timing"]
        assert len(faults.queries) == 1
        await faults.set()
        assert (await rig.invoke()).status == 200
        assert len(faults.queries) == 1


async def test_a_refused_request_meets_no_fault(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    async with meeting(rig, Rule("ModelError")) as faults:
        assert (await rig.invoke(name="unknown")).status == 400
        assert (await rig.invoke(target="a.tar.gz")).status == 400
        assert faults.queries == []


async def test_calls_go_on_without_a_fault_when_control_is_gone(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    faults = Faults(rig)
    await faults.set(Rule("SlowAnswer", seconds=50.0))
    asked, delayed = asyncio.create_task(rig.invoke()), asyncio.create_task(rig.invoke())
    await rig.control.receives(FaultQuery)
    query = await rig.control.receives(FaultQuery)
    rig.control.send(FaultDecision(query.request_id, Rule("SlowAnswer", id="f1", seconds=50.0)))
    await until(lambda: rig.gateway.link.faults.delayed)
    await rig.control.stop()
    assert [(await asked).status, (await delayed).status] == [200, 200]
    assert rig.gateway._dispatcher.kinds is PLAIN
    assert (await rig.invoke()).status == 200


async def test_a_snapshot_brings_the_faults_and_the_next_one_may_have_none(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    for epoch, faults in (("e2", (FaultScope("f1", "", ""),)), ("e3", ())):
        rig.control.send(gateway_messages.Snapshot(epoch, 0, (rig.route("i1"),), (), faults))
        await rig.control.receives(gateway_messages.Ack)
        assert (rig.gateway._dispatcher.kinds is PLAIN) == (not faults)


@pytest.mark.parametrize("held", [True, False], ids=["asked", "delayed"])
async def test_a_caller_that_leaves_leaves_nothing_behind(rig: Rig, held: bool) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    async with meeting(rig, Rule("SlowAnswer", seconds=50.0)) as faults:
        faults.held = held
        _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
        writer.write(b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n\r\nx")
        await until(lambda: faults.queries if held else rig.gateway.link.faults.delayed)
        writer.close()
        await until(lambda: rig.in_flight == 0)
        assert not rig.gateway.link.faults.delayed
        assert not rig.gateway.link.faults._waiting
    assert not rig.containers["i1"].seen


@pytest.mark.parametrize("effect", ["ModelError", "SlowAnswer"])
async def test_a_body_that_still_arrives_is_no_obstacle(rig: Rig, effect: Any) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    rule = Rule(effect, seconds=0.01 if effect == "SlowAnswer" else None)
    async with meeting(rig, rule) as faults:
        for chunked in (False, True):
            half = b"x" * 500_000
            first, second = (b"%x\r\n%b\r\n" % (len(half), half), b"0\r\n\r\n") if chunked else (half, half)
            framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: 1000000"
            reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
            writer.write(b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: localhost\r\n%b\r\n\r\n" % framing)
            writer.write(first)
            if not chunked:
                await until(lambda: faults.queries)
            writer.write(second)
            answered = await asyncio.wait_for(reader.readuntil(b"\r\n\r\n"), GUARD)
            assert (b" 424 " if effect == "ModelError" else b" 200 ") in answered
            writer.close()
    assert [len(request.body) for request in rig.containers["i1"].seen] == (
        [] if effect == "ModelError" else [1_000_000, 500_000]
    )
