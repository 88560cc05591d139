"""The front door: who is let in, what goes to control, and what hostile callers do."""

from __future__ import annotations

import asyncio
import json
from typing import Any

import pytest
from rig import GUARD, Rig, error, until

from hostler.contract import MAX_BODY
from hostler.gateway.dispatch import AwsHostCheck, HostCheck
from hostler.gateway.region import Regions
from hostler.wire.http_call import call
from hostler.wire.http_request import Request


async def ask(rig: Rig, method: str, path: str, body: bytes = b"", **headers: str) -> Any:
    lines = {name.replace("_", "-"): value for name, value in headers.items()}
    return await call(f"tcp:127.0.0.1:{rig.port}", method, path, headers=lines, body=body, timeout=GUARD)


async def talk(rig: Rig, *pieces: bytes) -> bytes:
    """Send raw bytes, piece by piece, and read to the end."""
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    for piece in pieces:
        writer.write(piece)
        await writer.drain()
    reply = await reader.read()
    writer.close()
    return reply


HOSTS = ["localhost", "localhost:4566", "LocalHost:1", "127.0.0.1", "127.9.9.9:80", "[::1]", "[::1]:80", "b.localhost"]
FOREIGN = [
    "evil.com",
    "localhost.evil.com",
    "10.0.0.1",
    "",
    "127.0.0.1.evil.com",
    "[::2]",
    "evil.com:80@localhost",
    "[::1",
]


@pytest.mark.parametrize("host", [*HOSTS, "my.name", "MY.name:80", "192.168.1.5:4566"])
def test_this_machines_names_and_configured_ones_are_let_in(host: str) -> None:
    guard = HostCheck(["192.168.1.5", "my.name"])
    for _ in range(2):
        assert guard.admits({"host": host}, "/")
    assert not guard.admits({"host": host, "origin": "null"}, "/")


@pytest.mark.parametrize("host", FOREIGN)
def test_foreign_names_are_not_let_in(host: str) -> None:
    guard = HostCheck(["my.name"])
    assert not guard.admits({"host": host}, "/")
    assert not guard.admits({"host": "localhost", "origin": f"http://{host}"}, "/")


@pytest.mark.parametrize(
    "origin", ["http://localhost:3000", "https://127.0.0.1", "http://[::1]:1", "http://a.localhost"]
)
def test_pages_of_this_machine_are_let_in(origin: str) -> None:
    assert HostCheck([]).admits({"host": "localhost", "origin": origin}, "/")


async def test_a_foreign_host_or_origin_gets_403_in_aws_shape_wherever_it_goes(rig: Rig) -> None:
    await rig.start(rig.route("i1"), handler=lambda request: request.answer(200))
    for path, code in (
        ("/endpoints/ep/invocations", b"x-amzn-ErrorType: AccessDeniedException\r\n"),
        ("/bucket/key", b"<Error><Code>AccessDenied</Code>"),
        ("/_hostler/endpoints", b"x-amzn-ErrorType: AccessDeniedException\r\n"),
    ):
        for request in ("Host: evil.com\r\n", "Host: localhost\r\nOrigin: https://evil.com\r\n"):
            raw = f"POST {path} HTTP/1.1\r\n{request}Content-Length: 0\r\nConnection: close\r\n\r\n".encode()
            reply = await talk(rig, raw)
            assert reply.startswith(b"HTTP/1.1 403 ")
            assert code in reply
    raw = b"POST http://evil.com/ HTTP/1.1\r\nHost: localhost\r\nContent-Length: 0\r\nConnection: close\r\n\r\n"
    assert (await talk(rig, raw)).startswith(b"HTTP/1.1 403 ")


@pytest.mark.parametrize(
    ("authorization", "region"),
    [
        (None, "us-east-1"),
        ("AWS4-HMAC-SHA256 Credential=AKID/20261121/eu-west-1/sagemaker/aws4_request, SignedHeaders=h", "eu-west-1"),
        ("AWS4-HMAC-SHA256 Credential=A+K=/20261121/us-gov-west-1/s3/aws4_request,SignedHeaders=h", "us-gov-west-1"),
        ("Basic dTpw", "us-east-1"),
        ("AWS4-HMAC-SHA256 Credential=AKID/20261121/../sagemaker/aws4_request, S", "us-east-1"),
        ("AWS4-HMAC-SHA256 Credential=AKID/2026/eu-west-1/sagemaker/aws4_request", "us-east-1"),
        ("", "us-east-1"),
    ],
)
def test_the_region_comes_from_the_signature_or_the_settings(authorization: str | None, region: str) -> None:
    regions = Regions("us-east-1")
    assert [regions.of(authorization) for _ in range(2)] == [region, region]


def test_only_short_and_good_credentials_are_remembered() -> None:
    regions = Regions("us-east-1")
    good = "AWS4-HMAC-SHA256 Credential=AKID/20261121/eu-west-1/sagemaker/aws4_request"
    padded = good.replace(" ", " " * 60_000)
    assert [regions.of(one) for one in (good, padded, "x" * 60_000)] == ["eu-west-1", "eu-west-1", "us-east-1"]
    assert list(regions.cached) == [good]


# --- what goes to control


async def test_what_is_not_an_invocation_reaches_control_as_it_came(rig: Rig) -> None:
    seen: list[Request] = []

    def control(request: Request) -> None:
        seen.append(request)
        request.answer(
            418, b"short and stout", "text/x", [("X-Amz-Thing", "1"), ("Connection", "x-hop"), ("X-Hop", "1")]
        )

    await rig.start(handler=control)
    raw = (
        b"PUT /bucket/a%2Fb%20c?x=%41&y HTTP/1.1\r\nHost: bucket.localhost:9\r\nAuthorization: A, B=c\r\n"
        b"Connection: close, X-Mine\r\nX-Mine: 1\r\nX-Amz-A: b\r\nTE: trailers\r\nContent-Length: 4\r\n\r\nbody"
    )
    head, _, body = (await talk(rig, raw)).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 418 ")
    assert b"x-amz-thing: 1" in head
    assert b"x-hop" not in head
    assert body == b"short and stout"
    one = seen[0]
    assert (one.method, one.path, one.query, one.body) == ("PUT", "/bucket/a%2Fb%20c", "x=%41&y", b"body")
    assert one.headers == {
        "host": "bucket.localhost:9",
        "authorization": "A, B=c",
        "x-amz-a": "b",
        "content-length": "4",
    }


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("GET", "/endpoints/ep/invocations"),
        ("POST", "/endpoints/ep"),
        ("POST", "/endpoints/ep/invocations/"),
        ("GET", "/"),
    ],
)
async def test_other_methods_and_paths_are_controls(rig: Rig, method: str, path: str) -> None:
    await rig.start(rig.route("i1"), handler=lambda request: request.answer(200, request.method.encode()))
    assert (await ask(rig, method, path)).body == method.encode()


async def test_head_and_empty_answers_pass_with_their_headers(rig: Rig) -> None:
    def control(request: Request) -> None:
        if request.method == "HEAD":
            request.start(200, [("Content-Length", "12345"), ("ETag", '"x"')], None)
            request.end()
        else:
            request.answer(204)

    await rig.start(handler=control)
    reply = await ask(rig, "HEAD", "/bucket/key")
    assert (reply.status, reply.headers["content-length"], reply.headers["etag"]) == (200, "12345", '"x"')
    reply = await ask(rig, "DELETE", "/bucket/key")
    assert (reply.status, reply.body) == (204, b"")
    assert "content-length" not in reply.headers


@pytest.mark.parametrize("chunked", [True, False])
async def test_a_long_upload_and_a_long_download_flow_through(rig: Rig, chunked: bool) -> None:
    size = 20_000_000
    got = 0

    def control(request: Request) -> None:
        def more(data: bytes) -> None:
            nonlocal got
            got += len(data)
            if len(data) == 262_144:
                request.pause()
                asyncio.get_running_loop().call_soon(request.resume)

        def end() -> None:
            request.start(200, [], None if chunked else size)
            for _ in range(size // 1_000_000):
                request.write(b"x" * 1_000_000)
            request.end()

        request.stream(more, end)

    await rig.start(handler=control)
    framing = b"Transfer-Encoding: chunked" if chunked else b"Content-Length: %d" % size
    head = b"PUT /b/k HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nExpect: 100-continue\r\n%b\r\n\r\n" % framing
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port, limit=2**26)
    writer.write(head)
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    piece = b"x" * 1_000_000
    for _ in range(size // len(piece)):
        writer.write(b"f4240\r\n" + piece + b"\r\n" if chunked else piece)
        await writer.drain()
    if chunked:
        writer.write(b"0\r\n\r\n")
    head, _, body = (await reader.read()).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 200")
    assert got == size
    assert body.count(b"x") == size
    writer.close()


async def test_a_control_that_restarts_is_waited_for_and_one_that_dies_is_a_503(rig: Rig) -> None:
    await rig.start()
    asking = asyncio.create_task(ask(rig, "GET", "/x"))
    await until(lambda: rig.gateway.passthrough.in_flight)
    await rig.control.stop()
    await rig.control.start(handler=lambda request: request.answer(200, b"back"))
    assert (await asking).body == b"back"
    await rig.control.stop()
    await rig.control.start(handler=lambda request: request.abort())
    reply = await ask(rig, "GET", "/x")
    assert reply.status == 503
    assert b"<Error><Code>ServiceUnavailable</Code>" in reply.body  # of S3's
    reply = await ask(rig, "POST", "/", x_amz_target="SageMaker.ListModels")
    assert (reply.status, json.loads(reply.body)["__type"]) == (503, "ServiceUnavailable")


async def test_a_caller_that_leaves_control_waiting_is_forgotten_there_too(rig: Rig) -> None:
    waiting: list[Request] = []
    await rig.start(handler=waiting.append)
    asking = asyncio.create_task(ask(rig, "GET", "/x"))
    await until(lambda: waiting)
    asking.cancel()
    await until(lambda: waiting[0].disconnected)


# --- invocations from hostile callers


async def test_a_caller_that_leaves_gives_its_count_back_and_breaks_the_call(rig: Rig) -> None:
    waiting: list[Request] = []
    await rig.container("i1", waiting.append)
    await rig.start(rig.route("i1"))
    calls = [asyncio.create_task(rig.invoke()) for _ in range(10)]
    await until(lambda: len(waiting) == 10)
    assert rig.in_flight == 20  # once in the gateway, once at the place
    for one in calls:
        one.cancel()
    await until(lambda: all(request.disconnected for request in waiting))
    assert rig.in_flight == 0


async def test_a_caller_that_leaves_in_the_middle_of_a_body_gives_its_count_back(rig: Rig) -> None:
    container = await rig.container("i1")
    await rig.start(rig.route("i1"))
    _, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    head = b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n\r\n"
    writer.write(head + b"x" * 500_000)
    await until(lambda: rig.in_flight)
    writer.close()
    await until(lambda: not rig.in_flight)
    assert container.seen == []


async def test_invocations_on_one_connection_are_answered_in_order(rig: Rig) -> None:
    waiting: list[Request] = []
    await rig.container("i1", waiting.append)
    await rig.start(rig.route("i1"))
    one = b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1\r\n%b\r\n%d"
    talking = asyncio.create_task(talk(rig, one % (b"", 1) + one % (b"", 2) + one % (b"Connection: close\r\n", 3)))
    for n in (1, 2, 3):
        await until(lambda: waiting)
        assert [request.body for request in waiting] == [b"%d" % n]
        waiting.pop().answer(200, b"<%d>" % n)
    reply = await talking
    assert reply.index(b"<1>") < reply.index(b"<2>") < reply.index(b"<3>")


CHUNKED = (
    b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: localhost\r\n"
    b"Transfer-Encoding: chunked\r\nConnection: close\r\n\r\n"
)


@pytest.mark.parametrize("size", [10, 1_000_000, MAX_BODY, MAX_BODY + 1])
async def test_a_chunked_body_reaches_the_container_with_its_length_or_is_refused(rig: Rig, size: int) -> None:
    container = await rig.container("i1", lambda request: request.answer(200, b"%d" % len(request.body)))
    await rig.start(rig.route("i1"))
    reply = await talk(rig, CHUNKED, b"%x\r\n" % size + b"x" * size + b"\r\n0\r\n\r\n")
    if size > MAX_BODY:
        assert reply.startswith(b"HTTP/1.1 413 ")
        assert container.seen == []
    else:
        assert reply.endswith(b"\r\n\r\n%d" % size)
        assert container.seen[0].headers["content-length"] == str(size)


async def test_a_container_that_answers_before_the_body_is_read_does_not_hang_anybody(rig: Rig) -> None:
    container = await rig.container("i1")
    await rig.start(rig.route("i1"))
    await container.stop()
    container.path.unlink(missing_ok=True)

    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 400 Bad Request\r\nContent-Length: 2\r\n\r\nno")
        await writer.drain()
        await reader.read()
        writer.close()

    server = await asyncio.start_unix_server(early, str(container.path))
    reply = await rig.invoke(b"x" * 5_000_000)
    assert (reply.status, error(reply)["OriginalMessage"]) == (424, "no")
    server.close()


async def test_a_long_answer_flows_and_a_cut_one_is_seen_to_be_cut(rig: Rig) -> None:
    size = 5_000_000

    def script(request: Request) -> None:
        request.start(200, [("Content-Type", "text/csv")], None if request.body == b"chunked" else size)
        for _ in range(5):
            request.write(b"x" * (size // 5))
        if request.body == b"cut":
            request.abort()
        else:
            request.end()

    await rig.container("i1", script)
    await rig.start(rig.route("i1"))
    for body in (b"length", b"chunked"):
        reply = await rig.invoke(body)
        assert (len(reply.body), reply.headers["content-type"]) == (size, "text/csv")


async def test_100_continue_is_said_once_a_request_may_come_and_not_before(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    head = "POST /endpoints/%s/invocations HTTP/1.1\r\nHost: a.localhost\r\nExpect: 100-continue\r\n"
    unknown = (head % "nope").encode() + b"Content-Length: 9\r\n\r\n"
    assert (await talk(rig, unknown)).startswith(b"HTTP/1.1 400 ")
    too_long = (head % "ep").encode() + b"Content-Length: 9999999\r\n\r\n"
    assert (await talk(rig, too_long)).startswith(b"HTTP/1.1 413 ")
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write((head % "ep").encode() + b"Content-Length: 4\r\nConnection: close\r\n\r\n")
    assert await reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    writer.write(b"body")
    assert (await reader.read()).endswith(b"\r\n\r\necho:body")
    writer.close()


async def test_bytes_that_are_no_http_get_an_answer_in_aws_shape(rig: Rig) -> None:
    await rig.start()
    head, _, body = (await talk(rig, b"GARBAGE\r\n\r\n")).partition(b"\r\n\r\n")
    assert head.startswith(b"HTTP/1.1 400 ")
    assert json.loads(body)["__type"] == "ValidationError"


async def test_stopping_lets_invocations_end(rig: Rig) -> None:
    waiting: list[Request] = []
    await rig.container("i1", waiting.append)
    await rig.start(rig.route("i1"))
    call = asyncio.create_task(rig.invoke())
    await until(lambda: waiting)
    stopping = asyncio.create_task(rig.gateway.stop(GUARD))
    await until(lambda: rig.gateway.servers and rig.gateway.servers[0].closing)
    waiting[0].answer(200, b"done")
    assert (await call).body == b"done"
    await stopping


# --- AWS's host names -------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "host", ["sts.us-east-1.amazonaws.com", "STS.amazonaws.com:443", "b.s3.amazonaws.com.", "amazonaws.com"]
)
def test_awss_host_names_are_let_in_from_the_proxy_and_nowhere_else(host: str) -> None:
    assert AwsHostCheck().admits({"host": host}, "/")
    assert not HostCheck([]).admits({"host": host}, "/")


@pytest.mark.parametrize("host", [*HOSTS, *FOREIGN, "amazonaws.com.cn", "amazonaws.com.evil.com", "amazonaws.com:x"])
def test_no_other_host_name_is_let_in_from_the_proxy(host: str) -> None:
    assert not AwsHostCheck().admits({"host": host}, "/")


@pytest.mark.parametrize("path", ["/_hostler/health", "/_hostler/", "/%5fhostler/metrics", "/_localstack/health"])
def test_our_own_pages_are_not_reached_from_the_proxy(path: str) -> None:
    assert not AwsHostCheck().admits({"host": "sts.amazonaws.com"}, path)
    assert AwsHostCheck().admits({"host": "sts.amazonaws.com"}, "/_hostlers")


def test_a_foreign_origin_is_not_let_in_from_the_proxy() -> None:
    headers = {"host": "sts.amazonaws.com", "origin": "https://evil.com"}
    assert not AwsHostCheck().admits(headers, "/")
    assert AwsHostCheck().admits(headers | {"origin": "http://localhost:8888"}, "/")
