"""InvokeEndpointWithResponseStream, as botocore and a bare socket see it."""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from typing import Any

import botocore.exceptions
import pytest
from botocore.eventstream import EventStreamBuffer
from rig import GUARD, Rig, error, until
from runtime_client import client

from hostler import contract
from hostler.wire.http_request import Request

OPERATION = "invocations-response-stream"
ATTRIBUTES = "X-Amzn-SageMaker-Custom-Attributes"


def begin(request: Request, *parts: bytes, headers: tuple[tuple[str, str], ...] = ()) -> None:
    request.start(200, [("Content-Type", "text/event-stream"), *headers], None)
    for part in parts:
        request.write(part)


class Caller:
    """One streamed call through a bare socket: what it has got, frame by frame."""

    def __init__(self) -> None:
        self.buffer = EventStreamBuffer()
        self.reader: asyncio.StreamReader
        self.writer: asyncio.StreamWriter
        self.head = b""

    async def begin(self, rig: Rig, body: bytes = b"x", **more: Any) -> Caller:
        self.reader, self.writer = await asyncio.open_connection("127.0.0.1", rig.port, **more)
        self.writer.write(
            b"POST /endpoints/ep/%b HTTP/1.1\r\nHost: localhost\r\nContent-Length: %d\r\n\r\n%b"
            % (OPERATION.encode(), len(body), body)
        )
        return self

    async def headed(self) -> Caller:
        self.head = await asyncio.wait_for(self.reader.readuntil(b"\r\n\r\n"), GUARD)
        return self

    async def chunk(self) -> bytes:
        """The next chunk of the body; empty at its end."""
        size = int(await asyncio.wait_for(self.reader.readuntil(b"\r\n"), GUARD), 16)
        return (await asyncio.wait_for(self.reader.readexactly(size + 2), GUARD))[:-2]

    async def part(self) -> bytes:
        self.buffer.add_data(await self.chunk())
        (frame,) = self.buffer
        assert frame.headers[":event-type"] == "PayloadPart"
        payload: bytes = frame.payload
        return payload


async def stream(rig: Rig, **parameters: Any) -> tuple[dict[str, Any], list[bytes]]:
    """A whole call by boto3: the answer and its parts."""

    def calling() -> tuple[dict[str, Any], list[bytes]]:
        answer = client(rig).invoke_endpoint_with_response_stream(
            **{"EndpointName": "ep", "Body": b"1,2", **parameters}
        )
        with contextlib.closing(answer["Body"]) as body:
            return answer, [event["PayloadPart"]["Bytes"] for event in body]

    return await asyncio.to_thread(calling)


async def test_boto3_reads_every_member_and_every_part(rig: Rig) -> None:
    def script(request: Request) -> None:
        begin(request, b"one", b"two", headers=((ATTRIBUTES, "a=1"),))
        request.end()

    container = await rig.container("i1", script)
    await rig.start(rig.route("i1"))
    answer, parts = await stream(rig, ContentType="text/csv", Accept="a/b", CustomAttributes="mine", InferenceId="7")
    assert b"".join(parts) == b"onetwo"
    assert answer["ContentType"] == "text/event-stream"
    assert answer["InvokedProductionVariant"] == "v"
    assert answer["CustomAttributes"] == "a=1"
    headers = answer["ResponseMetadata"]["HTTPHeaders"]
    assert headers["content-type"] == "application/vnd.amazon.eventstream"
    assert len(headers["x-amzn-requestid"]) == 36
    (seen,) = container.seen
    assert seen.path == "/invocations"
    assert seen.headers == {
        "host": "localhost",
        "content-type": "text/csv",
        "accept": "a/b",
        "x-amzn-sagemaker-custom-attributes": "mine",
        "x-amzn-sagemaker-inference-id": "7",
        "content-length": "3",
    }
    (sums,) = rig.gateway.counts().variants
    assert (sums.invocations, sums.model_errors) == (1, 0)


async def test_each_piece_is_a_part_and_comes_as_soon_as_the_container_gives_it(rig: Rig) -> None:
    streams: list[Request] = []
    await rig.container("i1", streams.append)
    await rig.start(rig.route("i1"))
    caller = await Caller().begin(rig)
    await until(lambda: streams)
    begin(streams[0], b"token 0")
    await caller.headed()
    assert await caller.part() == b"token 0"
    for n in range(1, 5):
        streams[0].write(b"token %d" % n)
        assert await caller.part() == b"token %d" % n
    assert rig.in_flight == 2
    streams[0].end()
    assert await caller.chunk() == b""
    caller.writer.close()


@pytest.mark.parametrize("length", [None, 0, 5])
async def test_a_container_that_does_not_stream_is_answered_all_the_same(rig: Rig, length: int | None) -> None:
    def script(request: Request) -> None:
        if length is None:
            request.answer(204)
        else:
            request.answer(200, b"x" * length, "text/plain")

    await rig.container("i1", script)
    await rig.start(rig.route("i1"))
    answer, parts = await stream(rig)
    assert b"".join(parts) == b"x" * (length or 0)
    assert answer["ContentType"] == ("application/octet-stream" if length is None else "text/plain")


def _say(status: int, text: bytes) -> Callable[[Request], None]:
    return lambda request: request.answer(status, text)


def _slowly(request: Request) -> None:
    request.start(500, [], 10)
    request.write(b"hello")
    asyncio.get_running_loop().call_later(0.01, lambda: (request.write(b"world"), request.end()))


def _for_ever(request: Request) -> None:
    request.start(500, [], None)
    for _ in range(100):
        request.write(b"x" * 10_000)


def _head_then_cut(request: Request) -> None:
    begin(request)
    asyncio.get_running_loop().call_later(0.01, request.abort)


def _error_then_cut(request: Request) -> None:
    request.start(503, [], 100)
    request.write(b"half")
    asyncio.get_running_loop().call_later(0.01, request.abort)


FAILURES = [
    (_say(415, b"no"), 415, 'Received client error (415) from primary with message "no"'),
    (_slowly, 500, 'Received server error (500) from primary with message "helloworld"'),
    (_for_ever, 500, 'Received server error (500) from primary with message "xxx'),
    (_error_then_cut, 503, 'Received server error (503) from primary with message "half"'),
    (lambda request: request.abort(), 0, "Received server error (0) from primary with message"),
    (_head_then_cut, 500, "Received server error (500) from primary and could not load the entire response body"),
    (lambda request: None, 0, 'Received server error (0) from primary with message "Your invocation timed out'),
    (begin, 0, 'Received server error (0) from primary with message "Your invocation timed out'),
]


@pytest.mark.parametrize("number", range(len(FAILURES)))
async def test_what_fails_before_the_first_byte_is_an_ordinary_error(rig: Rig, number: int) -> None:
    script, original, words = FAILURES[number]
    container = await rig.container("i1", script)
    await rig.start(rig.route("i1"))
    calling = asyncio.create_task(stream(rig))
    if "timed out" in words:
        await container.arrived.wait()
        (exchange,) = rig.gateway.context.connections.active
        await until(lambda: script is not begin or exchange.status)
        rig.expire()
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await calling
    response: Any = caught.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] == original
    assert response["Error"]["Message"].startswith(words)
    (sums,) = rig.gateway.counts().variants
    assert (sums.invocations, sums.model_errors) == (1, 1)


def _cut(request: Request) -> None:
    request.abort()


def _nothing(request: Request) -> None:
    pass


@pytest.mark.parametrize(
    ("then", "code"), [(_cut, "StreamBroken"), (_nothing, "ModelInvocationTimeExceeded")], ids=["cut", "too long"]
)
async def test_what_fails_later_is_a_frame_and_a_proper_end(
    rig: Rig, then: Callable[[Request], None], code: str
) -> None:
    streams: list[Request] = []
    await rig.container("i1", streams.append)
    await rig.start(rig.route("i1"))
    caller = await Caller().begin(rig)
    await until(lambda: streams)
    begin(streams[0], b"first")
    await caller.headed()
    assert await caller.part() == b"first"
    if code == "ModelInvocationTimeExceeded":  # eight minutes have gone
        for exchange in rig.gateway.context.connections.active:
            assert exchange.deadline > rig.gateway.context.time() + contract.MAX_STREAM - GUARD
        rig.expire()
    then(streams[0])
    caller.buffer.add_data(await caller.chunk())
    (frame,) = caller.buffer
    assert frame.headers[":exception-type"] == "ModelStreamError"
    assert code.encode() in frame.payload
    assert await caller.chunk() == b""
    caller.writer.close()
    (sums,) = rig.gateway.counts().variants
    assert (sums.invocations, sums.model_errors, sums.errors_5xx) == (1, 1, 1)


async def test_boto3_raises_what_failed_in_the_middle(rig: Rig) -> None:
    def script(request: Request) -> None:
        begin(request, b"first")
        asyncio.get_running_loop().call_later(0.01, request.abort)

    await rig.container("i1", script)
    await rig.start(rig.route("i1"))
    with pytest.raises(botocore.exceptions.EventStreamError, match="ModelStreamError") as caught:
        await stream(rig)
    assert "The connection to container primary ended" in str(caught.value)


async def test_a_caller_that_leaves_ends_the_containers_work_at_once(rig: Rig) -> None:
    streams: list[Request] = []
    await rig.container("i1", streams.append)
    await rig.start(rig.route("i1"))
    for begun in (True, False):
        caller = await Caller().begin(rig)
        await until(lambda: streams)
        if begun:
            begin(streams[0], b"token")
            await caller.headed()
        caller.writer.close()
        await until(lambda: streams[0].disconnected)
        assert rig.in_flight == 0
        streams.clear()


async def test_a_slow_caller_slows_the_container(rig: Rig) -> None:
    streams: list[Request] = []
    size = 20_000_000

    def script(request: Request) -> None:
        streams.append(request)
        begin(request, *[b"x" * 1_000_000] * (size // 1_000_000))
        request.end()

    await rig.container("i1", script)
    await rig.start(rig.route("i1"))
    caller = await Caller().begin(rig, limit=65_536)
    await until(lambda: streams)
    await caller.headed()
    pool = rig.gateway.context.connections
    await until(lambda: all(exchange.paused for exchange in pool.active))
    assert streams[0].unsent > size // 2
    got = 0
    while chunk := await caller.chunk():
        caller.buffer.add_data(chunk)
        got += sum(len(frame.payload) for frame in caller.buffer)
    assert got == size
    caller.writer.close()


@pytest.mark.parametrize("target", ["", "t"])
async def test_a_multi_model_endpoint_cannot_be_streamed_from(rig: Rig, target: str) -> None:
    await rig.start(rig.route("i1", multi_model=True), rig.several("i2", name="pipe", multi_model="b"))
    for name in ("ep", "pipe"):
        reply = await rig.invoke(target=target, name=name, operation=OPERATION)
        assert (reply.status, reply.headers["x-amzn-errortype"]) == (400, "ValidationError")
        assert "InvokeEndpointWithResponseStream has no TargetModel" in error(reply)["Message"]


@pytest.mark.parametrize("target", ["", "t"])
async def test_target_model_and_sessions_are_refused(rig: Rig, target: str) -> None:
    await rig.start(rig.route("i1"))
    headers = {} if target else {"X_Amzn_SageMaker_Session_Id": "mine"}
    reply = await rig.invoke(target=target, operation=OPERATION, **headers)
    words = "is not a multi-model endpoint" if target else "does not support stateful sessions"
    assert reply.status == 400
    assert words in error(reply)["Message"]


async def test_an_accept_that_is_too_long_is_refused(rig: Rig) -> None:
    await rig.start(rig.route("i1"))
    with pytest.raises(botocore.exceptions.ClientError, match="at 'accept' failed to satisfy constraint"):
        await stream(rig, Accept="x" * 1025)


async def test_a_direct_container_streams_and_the_last_of_a_chain(rig: Rig) -> None:
    def script(request: Request) -> None:
        begin(request, request.body, b">b")
        request.end()

    await rig.instance("i1", lambda request: request.answer(200, request.body + b">a", "text/a"), script)
    await rig.start(rig.several("i1", mode="Direct"), rig.several("i1", name="pipe"))
    _, parts = await stream(rig, TargetContainerHostname="b", Body=b"x")
    assert b"".join(parts) == b"x>b"
    _, parts = await stream(rig, EndpointName="pipe", Body=b"x")
    assert b"".join(parts) == b"x>a>b"
    assert rig.containers["i1.1"].seen[1].headers["content-type"] == "text/a"
    with pytest.raises(botocore.exceptions.ClientError, match="missing a target container hostname"):
        await stream(rig)


async def test_an_error_in_the_middle_of_a_chain_is_an_ordinary_one(rig: Rig) -> None:
    await rig.instance("i1", lambda request: request.answer(400, b"bad"), None)
    await rig.start(rig.several("i1"))
    with pytest.raises(botocore.exceptions.ClientError, match=r"client error \(400\) from a"):
        await stream(rig)
