"""The gate of a gateway that verifies: who passes, and how each API says that somebody does not."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from hashlib import sha256
from pathlib import Path
from xml.etree import ElementTree

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from rig import GUARD, Rig, running, until

from hostler.aws.classify import classify
from hostler.contract import MAX_BODY
from hostler.errors import UserError
from hostler.gateway.main import Gateway
from hostler.settings import Settings
from hostler.wire.http_call import Reply, call
from hostler.wire.http_request import Request

KEY, SECRET = "AKIDEXAMPLE", "its secret"
INVOKE = "/endpoints/ep/invocations"
SIGNERS = {"s3": S3SigV4Auth, "presigned": S3SigV4QueryAuth}
JSON = {"X-Amz-Target": "SageMaker.ListModels", "Content-Type": "application/x-amz-json-1.1"}
FORM = {"Content-Type": "application/x-www-form-urlencoded"}


@pytest.fixture
def keys(tmp_path: Path) -> str:
    path = tmp_path / "keys.toml"
    path.write_text(f'{KEY} = "{SECRET}"\n')
    path.chmod(0o600)
    return str(path)


class Caller:
    """Signs, and calls the rig's port. `passed`: what has reached control."""

    def __init__(self, rig: Rig) -> None:
        self.rig = rig
        self.passed: list[Request] = []

    def control(self, request: Request) -> None:
        self.passed.append(request)
        request.stream(lambda data: None, lambda: request.answer(200, b"{}"))

    def signed(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        service: str = "sagemaker",
        secret: str = SECRET,
        key: str = KEY,
        **headers: str,
    ) -> tuple[str, dict[str, str]]:
        """The target and the headers."""
        lines = {name.replace("_", "-"): value for name, value in headers.items()}
        request = AWSRequest(method, f"http://localhost{path}", lines, body)
        signer = SIGNERS.get(service, SigV4Auth)
        signer(Credentials(key, secret), service.replace("presigned", "s3"), "us-east-1").add_auth(request)
        return request.url.removeprefix("http://localhost"), dict(request.headers.items())

    async def send(self, method: str, target: str, headers: dict[str, str], body: bytes = b"") -> Reply:
        return await call(f"tcp:127.0.0.1:{self.rig.port}", method, target, headers=headers, body=body, timeout=GUARD)

    async def ask(self, method: str, path: str, body: bytes = b"", **more: str) -> Reply:
        target, headers = self.signed(method, path, body, **more)
        return await self.send(method, target, headers, body)

    async def raw(self, text: bytes) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", self.rig.port)
        writer.write(text)
        reply = await reader.read()
        writer.close()
        return reply


@asynccontextmanager
async def verifying(keys: str) -> AsyncIterator[Caller]:
    async with running(signatures="verify", keys_file=keys) as rig:
        caller = Caller(rig)
        await rig.container("i1")
        await rig.start(rig.route("i1"), handler=caller.control)
        yield caller


@pytest.fixture
def caller(keys: str) -> AbstractAsyncContextManager[Caller]:
    """In front of a gateway that verifies, with an endpoint `ep`."""
    return verifying(keys)


# --- who passes -------------------------------------------------------------------------------------------------------


async def test_what_is_signed_passes_whole(caller: Caller) -> None:

    for size in (0, 100, 300_000, MAX_BODY):
        body = b"x" * size
        reply = await caller.ask("POST", INVOKE, body, Content_Type="text/csv")
        assert (reply.status, reply.body) == (200, b"echo:" + body)
    reply = await caller.ask("POST", "/", b"{}", **JSON)
    assert (reply.status, caller.passed[-1].path) == (200, "/")
    assert (await caller.ask("POST", "/", b"Action=GetCallerIdentity", service="sts", **FORM)).status == 200
    assert (await caller.ask("GET", "/_hostler/endpoints?a=b")).status == 200
    assert (await caller.ask("PUT", "/bucket/a%20key?x=1", b"y" * 400_000, service="s3")).status == 200
    assert (await caller.ask("GET", "/bucket/key", service="presigned")).status == 200
    assert len(caller.passed) == 5


async def test_a_body_without_a_length_is_gathered_and_proven(caller: Caller) -> None:

    for size in (5, 300_000):
        body = b"x" * size
        _, headers = caller.signed("POST", INVOKE, body)
        head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        for sent, status in ((body, b"200"), (body[:-1] + b"y", b"403")):
            text = f"{head}Transfer-Encoding: chunked\r\n\r\n{size:x}\r\n".encode() + sent + b"\r\n0\r\n\r\n"
            assert (await caller.raw(text)).startswith(b"HTTP/1.1 " + status)
    assert len(caller.rig.containers["i1"].seen) == 2


async def test_blanks_in_a_header_are_signed_as_one_and_a_folded_header_is_none(caller: Caller) -> None:

    name = "X-Amzn-SageMaker-Custom-Attributes"
    _, headers = caller.signed("POST", INVOKE, b"1", X_Amzn_SageMaker_Custom_Attributes="a b c")
    del headers[name]
    head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\nContent-Length: 1\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    for value, status in (("  a   b c  ", b"200"), ("a b  d", b"403"), ("a\r\n b c", b"400")):
        reply = await caller.raw(f"{head}{name}:{value}\r\n\r\n1".encode())
        assert reply.startswith(b"HTTP/1.1 " + status)


async def test_a_caller_that_expects_continue_gets_it_only_if_the_head_is_good(caller: Caller) -> None:

    for secret in (SECRET, "guessed"):
        _, headers = caller.signed("POST", INVOKE, b"1,2", secret=secret)
        head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nExpect: 100-continue\r\n"
        head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        reader, writer = await asyncio.open_connection("127.0.0.1", caller.rig.port)
        writer.write(f"{head}\r\n".encode())
        assert (await reader.readuntil(b"\r\n\r\n")).startswith(b"HTTP/1.1 100 ")
        writer.write(b"1,2")
        status = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        assert status == (b"200" if secret == SECRET else b"403")
        writer.close()
    reply = await caller.raw(f"{head.replace(KEY, 'NOBODY')}\r\n".encode())
    assert reply.startswith(b"HTTP/1.1 403 ")


async def test_of_a_long_body_nothing_goes_on_before_it_is_proven(caller: Caller) -> None:

    body = b"x" * 1_000_000
    target, headers = caller.signed("POST", INVOKE, body)
    reply = await caller.send("POST", target, headers, body[:-1] + b"y")
    assert (reply.status, reply.headers["x-amzn-errortype"]) == (403, "InvalidSignatureException")
    assert caller.rig.containers["i1"].seen == []


async def test_a_body_past_the_limit_is_413_whoever_sends_it(caller: Caller) -> None:

    body = b"x" * (MAX_BODY + 1)
    for path, headers in ((INVOKE, {}), ("/", JSON)):
        reply = await caller.ask("POST", path, body, **headers)
        assert reply.status == 413
    _, lines = caller.signed("POST", INVOKE, body)
    head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nConnection: close\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in lines.items())
    text = f"{head}Transfer-Encoding: chunked\r\n\r\n{len(body):x}\r\n".encode() + body + b"\r\n0\r\n\r\n"
    assert (await caller.raw(text)).startswith(b"HTTP/1.1 413 ")
    assert caller.rig.containers["i1"].seen == caller.passed == []


async def test_whoever_hangs_up_while_a_body_is_gathered_leaves_nothing(caller: Caller) -> None:

    _, headers = caller.signed("POST", INVOKE, b"x" * 1_000_000)
    _, writer = await asyncio.open_connection("127.0.0.1", caller.rig.port)
    head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1000000\r\n"
    head += "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    writer.write(f"{head}\r\n".encode() + b"x" * 500_000)
    await writer.drain()
    writer.close()
    assert (await caller.ask("POST", INVOKE, b"1")).status == 200
    assert len(caller.rig.containers["i1"].seen) == 1


async def test_the_sum_of_bodies_that_are_not_proven_yet_is_bounded(caller: Caller) -> None:

    gate = caller.rig.gateway.handle.__self__  # type: ignore[attr-defined]
    gate.room = room = 1_500_000
    body = b"x" * 1_000_000
    target, headers = caller.signed("POST", INVOKE, body)
    head = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
    head = f"POST {INVOKE} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n{head}\r\n"
    reader, writer = await asyncio.open_connection("127.0.0.1", caller.rig.port)
    writer.write(head.encode() + body[:-1])
    await until(lambda: gate.room == room - len(body) + 1)
    reply = await caller.send("POST", target, headers, body)
    assert (reply.status, reply.headers["x-amzn-errortype"]) == (503, "ServiceUnavailable")
    assert gate.room == room - len(body) + 1  # of the one that still arrives
    writer.write(body[-1:])
    assert (await reader.readline()).startswith(b"HTTP/1.1 200 ")
    assert gate.room == room
    assert (await caller.send("POST", target, headers, body)).status == 200
    assert (await caller.send("POST", target, headers, b"y" * len(body))).status == 403
    writer.write(head.encode() + body[:-1])
    await until(lambda: gate.room < room)
    writer.close()
    await until(lambda: gate.room == room)


async def test_only_whether_it_is_there_may_everybody_ask(caller: Caller) -> None:

    for path in ("/_hostler/health", "/_hostler/ready", "/_localstack/health"):
        assert (await caller.send("GET", path, {})).status == 200
    for method, path in (
        ("GET", "/_hostler/metrics"), ("GET", "/_hostler/endpoints"), ("GET", "/_hostler/logs?endpoint=ep"),
        ("POST", "/_hostler/health"), ("GET", "/_hostler/health/"), ("GET", "/_hostler/%68ealth"),
        ("GET", "//_hostler/health"), ("OPTIONS", "*"), ("GET", "/"), ("POST", "/"), ("GET", INVOKE),
        ("POST", "/endpoints/ep/async-invocations"), ("POST", "/endpoints/ep/"), ("DELETE", "/bucket/key"),
    ):  # fmt: skip
        assert (await caller.send(method, path, {})).status == 403, path
    assert len(caller.passed) == 3


async def test_a_signature_is_no_way_round_the_guard(caller: Caller) -> None:

    reply = await caller.ask("POST", INVOKE, b"1", Origin="https://evil.com")
    assert (reply.status, reply.headers["x-amzn-errortype"]) == (403, "AccessDeniedException")


# --- how each API refuses ---------------------------------------------------------------------------------------------

FLAWS: list[tuple[str, dict[str, str]]] = [
    ("missing", {}),
    ("incomplete", {"Authorization": "AWS4-HMAC-SHA256 Credential=a"}),
    ("unknown", {"key": "NOBODY"}),
    ("wrong", {"secret": "guessed"}),
    ("old", {"X-Amz-Date": "20200101T000000Z"}),
]
CODES = {
    "runtime": {
        "missing": (403, "MissingAuthenticationTokenException"),
        "incomplete": (403, "IncompleteSignatureException"),
        "unknown": (403, "UnrecognizedClientException"),
        "wrong": (403, "InvalidSignatureException"),
        "old": (403, "InvalidSignatureException"),
    },
    "json": {
        "missing": (400, "MissingAuthenticationTokenException"),
        "incomplete": (400, "IncompleteSignatureException"),
        "unknown": (400, "UnrecognizedClientException"),
        "wrong": (400, "InvalidSignatureException"),
        "old": (400, "InvalidSignatureException"),
    },
    "sts": {
        "missing": (403, "MissingAuthenticationToken"),
        "incomplete": (400, "IncompleteSignature"),
        "unknown": (403, "InvalidClientTokenId"),
        "wrong": (403, "SignatureDoesNotMatch"),
        "old": (403, "SignatureDoesNotMatch"),
    },
    "s3": {
        "missing": (403, "AccessDenied"),
        "incomplete": (400, "AuthorizationHeaderMalformed"),
        "unknown": (403, "InvalidAccessKeyId"),
        "wrong": (403, "SignatureDoesNotMatch"),
        "old": (403, "RequestTimeTooSkewed"),
    },
}
CALLS: dict[str, tuple[str, str, dict[str, str]]] = {
    "runtime": ("POST", INVOKE, {}),
    "json": ("POST", "/", JSON),
    "sts": ("POST", "/", FORM),
    "s3": ("PUT", "/bucket/key", {}),
}


def code(api: str, reply: Reply) -> str:
    """As a client's parser finds it."""
    if api == "runtime":
        assert list(json.loads(reply.body)) == ["message"]
        return reply.headers["x-amzn-errortype"]
    if api == "json":
        return str(json.loads(reply.body)["__type"])
    return next(
        str(element.text) for element in ElementTree.fromstring(reply.body).iter() if element.tag.endswith("Code")
    )


@pytest.mark.parametrize("api", CALLS)
async def test_each_api_refuses_in_its_own_words(caller: Caller, api: str) -> None:

    method, path, lines = CALLS[api]
    service = api if api in ("sts", "s3") else "sagemaker"
    for flaw, change in FLAWS:
        pair = {name: change[name] for name in ("key", "secret") if name in change}
        target, headers = caller.signed(method, path, b"1", service, **pair, **lines)
        headers.update({name: value for name, value in change.items() if name not in pair})
        if flaw == "missing":
            del headers["Authorization"]
        reply = await caller.send(method, target, headers, b"1")
        assert (reply.status, code(api, reply)) == CODES[api][flaw]
        assert SECRET.encode() not in reply.body
        assert {"x-amzn-requestid", "x-amz-request-id"} & reply.headers.keys()
    assert caller.passed == caller.rig.containers["i1"].seen == []


async def test_a_signature_for_one_service_is_none_for_another(caller: Caller) -> None:

    for api, service in (("runtime", "s3"), ("json", "sts")):
        method, path, lines = CALLS[api]
        reply = await caller.ask(method, path, b"1", service=service, **lines)
        assert code(api, reply) == "InvalidSignatureException"
    assert caller.passed == caller.rig.containers["i1"].seen == []


async def test_what_nothing_but_its_signature_tells_is_a_call_of_the_service_it_is_signed_for(caller: Caller) -> None:

    for api, service in (("sts", "iam"), ("s3", "lambda")):
        method, path, lines = CALLS[api]
        assert (await caller.ask(method, path, b"1", service=service, **lines)).status == 200
        request = caller.passed[-1]
        assert classify(request.method, request.path, request.query, request.headers).service == service
        reply = await caller.ask(method, path, b"1", service=service, secret="guessed", **lines)
        assert reply.status == 403


async def test_an_s3_upload_that_is_refused_is_not_read(caller: Caller) -> None:

    head = "PUT /b/k HTTP/1.1\r\nHost: localhost\r\nContent-Length: 9999999\r\n"
    assert (await caller.raw(f"{head}Expect: 100-continue\r\n\r\n".encode())).startswith(b"HTTP/1.1 403 ")


async def test_of_s3_the_payload_is_named_in_a_header(caller: Caller) -> None:

    name = "X-Amz-Content-SHA256"
    for named in ("UNSIGNED-PAYLOAD", "STREAMING-AWS4-HMAC-SHA256-PAYLOAD", sha256(b"1").hexdigest()):
        request = AWSRequest("PUT", "http://localhost/b/k", {name: named}, b"1")
        SigV4Auth(Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(request)
        signed = dict(request.headers.items())
        assert (await caller.send("PUT", "/b/k", signed, b"1")).status == 200
        signed[name] = "UNSIGNED-PAYLOAD" if named != "UNSIGNED-PAYLOAD" else sha256(b"1").hexdigest()
        assert code("s3", await caller.send("PUT", "/b/k", signed, b"1")) == "SignatureDoesNotMatch"
    request = AWSRequest("PUT", "http://localhost/b/k", {}, b"1")
    SigV4Auth(Credentials(KEY, SECRET), "s3", "us-east-1").add_auth(request)
    reply = await caller.send("PUT", "/b/k", dict(request.headers.items()), b"1")
    assert (reply.status, code("s3", reply)) == (400, "AuthorizationHeaderMalformed")


async def test_an_older_signature_of_s3_gets_the_one_to_use(caller: Caller) -> None:

    for target, headers in (
        ("/b/k?AWSAccessKeyId=A&Signature=b&Expires=9999999999", {}),
        ("/b/k", {"Authorization": "AWS A:b="}),
    ):
        reply = await caller.send("GET", target, headers)
        assert (reply.status, code("s3", reply)) == (400, "InvalidRequest")
        assert b"Please use AWS4-HMAC-SHA256" in reply.body
    reply = await caller.send("GET", "/b/k?X-Amz-Signature=1", {})
    assert (reply.status, code("s3", reply)) == (400, "AuthorizationQueryParametersError")


async def test_a_gateway_that_verifies_does_not_start_without_keys(tmp_path: Path) -> None:
    with pytest.raises(UserError, match="keys_file"):
        Gateway(tmp_path, "g1", Settings(signatures="verify"))
