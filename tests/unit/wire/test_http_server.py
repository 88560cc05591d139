from __future__ import annotations

import asyncio
import contextlib
import socket
import struct
import tempfile
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from turns import GUARD, settle, until

from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_request import Request
from hostler.wire.http_server import Server, serve

READ = 262_144  # bytes that a loop reads at once
HOST = b"Host: localhost\r\n"


def echo(request: Request) -> None:
    request.answer(200, f"{request.method} {request.path} ".encode() + request.body, "text/plain")


class Peer:
    """A client that writes what it likes."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader, self.writer = reader, writer

    def send(self, data: bytes) -> None:
        self.writer.write(data)

    async def until(self, mark: bytes) -> bytes:
        return await self.reader.readuntil(mark)

    async def rest(self) -> bytes:
        """Everything up to the end of the connection, which must come, and not as a reset."""
        return await self.reader.read()


class Served:
    """A server on a socket, and its peers."""

    def __init__(self, server: Server, path: Path) -> None:
        self.server = server
        self.path = path
        self.peers: list[Peer] = []

    async def connect(self) -> Peer:
        self.peers.append(Peer(*await asyncio.open_unix_connection(str(self.path), limit=2**24)))
        return self.peers[-1]


@asynccontextmanager
async def serving(handler: Callable[[Request], None], limits: ConnectionLimits | None = None) -> AsyncIterator[Served]:
    with tempfile.TemporaryDirectory(prefix="hw", dir="/tmp") as folder:
        path = Path(folder) / "s"
        served = Served(await serve(handler, path=str(path), limits=limits), path)
        try:
            async with asyncio.timeout(2 * GUARD):
                yield served
        finally:
            for peer in served.peers:
                peer.writer.close()
            await served.server.close()


def request(body: bytes = b"", *, path: str = "/x", more: bytes = b"", method: str = "POST") -> bytes:
    head = f"{method} {path} HTTP/1.1\r\n".encode() + HOST + more
    return head + b"Content-Length: %d\r\n\r\n" % len(body) + body


CHUNKED = b"Transfer-Encoding: chunked\r\n"

REFUSED = {
    "content-length with chunked": b"POST / HTTP/1.1\r\n"
    + HOST
    + b"Content-Length: 5\r\n"
    + CHUNKED
    + b"\r\n0\r\n\r\n",
    "chunked with content-length": b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"Content-Length: 5\r\n\r\n0\r\n\r\n",
    "the same length twice": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 1\r\n\r\na",
    "two lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1\r\nContent-Length: 2\r\n\r\nab",
    "a list of lengths": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1, 1\r\n\r\na",
    "a signed length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: +2\r\n\r\nab",
    "a negative length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: -2\r\n\r\nab",
    "an empty length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: \r\n\r\n",
    "a huge length": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 99999999999999999999999\r\n\r\n",
    "coding identity": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: identity\r\n\r\n",
    "coding xchunked": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: xchunked\r\n\r\n0\r\n\r\n",
    "chunked is not last": b"POST / HTTP/1.1\r\n" + HOST + b"Transfer-Encoding: chunked, identity\r\n\r\n0\r\n\r\n",
    "chunked twice": b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + CHUNKED + b"\r\n0\r\n\r\n",
    "space before colon": b"GET / HTTP/1.1\r\nHost : localhost\r\n\r\n",
    "folded line": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n b\r\n\r\n",
    "bare line feed": b"GET / HTTP/1.1\nHost: localhost\n\n",
    "bare carriage return": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\rb\r\n\r\n",
    "NUL in a value": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\0b\r\n\r\n",
    "NUL in a name": b"GET / HTTP/1.1\r\n" + HOST + b"X\0: ab\r\n\r\n",
    "bad header name": b"GET / HTTP/1.1\r\n" + HOST + b"X(y): 1\r\n\r\n",
    "chunk size ends in bare LF": b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n1\na\r\n0\r\n\r\n",
    "chunk size overflows": b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\nfffffffffffffffff\r\n",
    "chunk size is negative": b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n-1\r\n",
    "chunk longer than said": b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n1\r\nabc\r\n0\r\n\r\n",
    "unknown version": b"GET / HTTP/9.9\r\n" + HOST + b"\r\n",
    "HTTP/2 without upgrade": b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
    "version 2.0": b"GET / HTTP/2.0\r\n" + HOST + b"\r\n",
    "version 2.0 that keeps alive": b"GET / HTTP/2.0\r\n" + HOST + b"Connection: keep-alive\r\n\r\n",
    "HTTP/0.9": b"GET /\r\n\r\n",
    "no host": b"GET / HTTP/1.1\r\n\r\n",
    "no host, with a connection header": b"GET / HTTP/1.1\r\nConnection: keep-alive\r\n\r\n",
    "two hosts": b"GET / HTTP/1.1\r\n" + HOST + HOST + b"\r\n",
    "HTTP/1.0 with chunks": b"POST / HTTP/1.0\r\n" + HOST + CHUNKED + b"\r\n0\r\n\r\n",
    "a fragment": b"GET /a#b HTTP/1.1\r\n" + HOST + b"\r\n",
    "a target that is no path": b"GET a HTTP/1.1\r\n" + HOST + b"\r\n",
    "connect": b"CONNECT a:1 HTTP/1.1\r\n" + HOST + b"\r\n",
    "upgrade with a body": (
        b"POST / HTTP/1.1\r\n" + HOST + b"Upgrade: h2c\r\nConnection: upgrade\r\nContent-Length: 1\r\n\r\na"
    ),
    "a line of garbage": b"\x16\x03\x01\x02\x00\x01\r\n\r\n",
    "a header of 1 MB": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 2**20 + b"\r\n\r\n",
    "a header of 70 KB": b"GET / HTTP/1.1\r\n" + HOST + b"X: " + b"a" * 70_000 + b"\r\n\r\n",
    "a target of 70 KB": b"GET /" + b"a" * 70_000 + b" HTTP/1.1\r\n" + HOST + b"\r\n",
    "5000 headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: a\r\n" % n for n in range(5000)) + b"\r\n",
    "101 headers": b"GET / HTTP/1.1\r\n" + HOST + b"".join(b"X-%d: a\r\n" % n for n in range(100)) + b"\r\n",
    "a header 40000 times": b"GET / HTTP/1.1\r\n" + HOST + b"X: a\r\n" * 40_000 + b"\r\n",
    "another expectation": b"POST / HTTP/1.1\r\n" + HOST + b"Expect: tea\r\nContent-Length: 1\r\n\r\na",
    "a body over the limit": b"POST / HTTP/1.1\r\n" + HOST + b"Content-Length: 1001\r\n\r\n" + b"a" * 1001,
    "chunks over the limit": b"POST / HTTP/1.1\r\n"
    + HOST
    + CHUNKED
    + b"\r\n"
    + b"200\r\n"
    + b"a" * 512
    + b"\r\n200\r\n"
    + b"a" * 512,
    "endless chunk extensions": b"POST / HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n1;" + b"a" * 2**20,
    "endless trailers": (
        b"POST / HTTP/1.1\r\n"
        + HOST
        + CHUNKED
        + b"\r\n1\r\na\r\n0\r\n"
        + b"".join(b"X: %d\r\n" % n for n in range(2**16))
    ),
}


@pytest.mark.parametrize("name", REFUSED)
async def test_a_hostile_request_is_refused_and_never_handled(name: str) -> None:
    handled: list[str] = []

    def handler(one: Request) -> None:
        handled.append(one.path)
        echo(one)

    async with serving(handler, ConnectionLimits(body=1000)) as served:
        peer = await served.connect()
        peer.send(request(b"before"))
        assert (await peer.until(b"before")).startswith(b"HTTP/1.1 200")
        peer.send(REFUSED[name])
        reply = await peer.rest()
        assert reply.startswith((b"HTTP/1.1 4", b"HTTP/1.1 505"))
        assert reply.count(b"HTTP/1.1 ") == 1
        assert b"Connection: close\r\n" in reply
        assert handled == ["/x"]


ACCEPTED = {
    "no body": (b"GET /a?b=c HTTP/1.1\r\n" + HOST + b"\r\n", b"GET /a "),
    "an empty header": (b"GET /a HTTP/1.1\r\n" + HOST + b"X:\r\n\r\n", b"GET /a "),
    "absolute form": (b"GET http://other:1/a HTTP/1.1\r\n" + HOST + b"\r\n", b"GET /a "),
    "absolute form without a path": (b"GET http://other?q HTTP/1.1\r\n" + HOST + b"\r\n", b"GET / "),
    "asterisk": (b"OPTIONS * HTTP/1.1\r\n" + HOST + b"\r\n", b"OPTIONS * "),
    "upgrade without a body": (
        b"GET /a HTTP/1.1\r\n" + HOST + b"Upgrade: h2c\r\nConnection: upgrade\r\n\r\n",
        b"GET /a ",
    ),
    "chunks": (
        b"POST /a HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n3\r\nabc\r\n2;x=y\r\nde\r\n0\r\n\r\n",
        b"POST /a abcde",
    ),
    "trailers": (b"POST /a HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n1\r\na\r\n0\r\nHost: evil\r\n\r\n", b"POST /a a"),
    "trailers that repeat a header": (
        b"POST /a HTTP/1.1\r\n" + HOST + CHUNKED + b"\r\n1\r\na\r\n0\r\nHost: evil\r\nHost: evil\r\nX:1\r\nX:2\r\n\r\n",
        b"POST /a a",
    ),
    "leading empty lines": (b"\r\n\r\nGET /a HTTP/1.1\r\n" + HOST + b"\r\n", b"GET /a "),
    "HTTP/1.0 that keeps alive": (b"GET /a HTTP/1.0\r\nConnection: keep-alive\r\n\r\n", b"GET /a "),
}


@pytest.mark.parametrize("name", ACCEPTED)
@pytest.mark.parametrize("size", [1, 10_000])
async def test_an_unusual_request_is_answered_whatever_its_pieces(name: str, size: int) -> None:
    sent, expected = ACCEPTED[name]
    hosts: list[str] = []

    def handler(one: Request) -> None:
        hosts.append(one.headers.get("host", ""))
        echo(one)

    async with serving(handler) as served:
        peer = await served.connect()
        for start in range(0, len(sent), size):
            peer.send(sent[start : start + size])
            await asyncio.sleep(0)
        assert (await peer.until(expected)).startswith(b"HTTP/1.1 200 OK\r\n")
        peer.send(request(b"after"))
        assert await peer.until(b"POST /x after")
        assert hosts[0] == ("other" if "without a path" in name else "other:1" if "absolute" in name else hosts[0])
        assert "evil" not in hosts[0]


async def test_pipelined_requests_are_handled_one_by_one_and_answered_in_order() -> None:
    waiting: list[Request] = []
    async with serving(waiting.append) as served:
        peer = await served.connect()
        peer.send(b"".join(request(b"%d" % n) for n in range(5)))
        for n in range(5):
            await until(lambda: waiting)
            assert len(waiting) == 1
            waiting.pop().answer(200, b"<%d>" % n)
            assert await peer.until(b"<%d>" % n)


async def test_pipelining_ends_at_its_bound_with_a_close() -> None:
    async with serving(echo) as served:
        peer = await served.connect()
        peer.send(b"".join(request(b"%d" % n) for n in range(150)))
        replies = await peer.rest()
        assert replies.count(b"HTTP/1.1 200") == 100
        assert replies.count(b"Connection: close") == 1
        assert replies.endswith(b"POST /x 99")


async def test_a_bad_request_behind_a_slow_one_waits_for_its_turn() -> None:
    waiting: list[Request] = []
    async with serving(waiting.append) as served:
        peer = await served.connect()
        peer.send(request(b"good") + b"BAD\r\n\r\n")
        await until(lambda: waiting)
        waiting[0].answer(200, b"first")
        reply = await peer.rest()
        assert reply.index(b"first") < reply.index(b"HTTP/1.1 400")


async def test_100_continue_is_said_only_to_a_request_that_may_come() -> None:
    async with serving(echo, ConnectionLimits(body=1000)) as served:
        peer = await served.connect()
        expect = b"Expect: 100-continue\r\n"
        peer.send(request(b"body", more=expect)[:-4])
        assert await peer.until(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
        peer.send(b"body")
        assert await peer.until(b"POST /x body")
        peer.send(b"POST /x HTTP/1.1\r\n" + HOST + expect + b"Content-Length: 9999\r\n\r\n")
        assert (await peer.rest()).startswith(b"HTTP/1.1 413 ")


async def test_an_early_answer_reaches_a_peer_that_is_still_sending() -> None:
    async with serving(lambda one: one.answer(200, b"no thanks"), ConnectionLimits(body=None, buffer=65_536)) as served:
        peer = await served.connect()
        peer.send(request(b"x" * 4_000_000))
        reply = await peer.rest()
        assert reply.startswith(b"HTTP/1.1 200 OK\r\n")
        assert b"Connection: close\r\n" in reply
        assert reply.endswith(b"\r\n\r\nno thanks")


async def test_a_rest_without_end_is_not_read_for_ever() -> None:
    limits = ConnectionLimits(body=None, buffer=65_536, linger_bytes=1_000_000)
    async with serving(lambda one: one.answer(200, b"no thanks"), limits) as served:
        peer = await served.connect()
        peer.send(request(b"x" * 4_000_000))
        while not peer.writer.transport.is_closing():
            peer.send(b"x" * 65_536)
            with contextlib.suppress(ConnectionError):
                await peer.writer.drain()


@pytest.mark.parametrize("half", [True, False])
async def test_a_peer_that_leaves_is_reported_once_and_its_answer_goes_nowhere(half: bool) -> None:
    waiting: list[Request] = []
    left: list[int] = []

    def handler(one: Request) -> None:
        one.on_disconnect = lambda: left.append(1)
        waiting.append(one)

    async with serving(handler) as served:
        peer = await served.connect()
        peer.send(request(b"1") + request(b"2"))
        await until(lambda: waiting)
        if half:
            peer.writer.write_eof()
        else:
            peer.writer.transport.abort()
        await until(lambda: left)
        assert waiting[0].disconnected
        waiting[0].answer(200, b"late")
        await until(lambda: not served.server.connections)
        assert (len(waiting), left) == (1, [1])


async def test_a_handler_that_fails_is_a_500_and_the_connection_lives(caplog: pytest.LogCaptureFixture) -> None:
    def handler(one: Request) -> None:
        if one.body == b"boom":
            raise LookupError("a bug")
        echo(one)

    async with serving(handler) as served:
        peer = await served.connect()
        peer.send(request(b"boom") + request(b"fine"))
        reply = await peer.until(b"POST /x fine")
        assert reply.startswith(b"HTTP/1.1 500")
        assert b"a bug" not in reply
    assert "a bug" in caplog.text


async def test_a_header_with_a_line_end_is_never_sent() -> None:
    def handler(one: Request) -> None:
        for value in ("a\r\nSet-Cookie: b", "a\nb", "a\rb", "a\0"):
            with pytest.raises(ValueError, match="line end"):
                one.answer(200, b"", value)
            with pytest.raises(ValueError, match="line end"):
                one.answer(200, headers=[("X", value)])
            with pytest.raises(ValueError, match="line end"):
                one.answer(200, headers=[(value, "x")])
            with pytest.raises(ValueError, match="line end"):
                one.start(200, [("X", value)], None)
        one.answer(200, b"refused")

    async with serving(handler) as served:
        peer = await served.connect()
        peer.send(request())
        assert b"Set-Cookie" not in await peer.until(b"refused")


async def test_a_request_is_answered_only_once() -> None:
    def handler(one: Request) -> None:
        one.answer(200)
        with pytest.raises(RuntimeError):
            one.answer(200)

    async with serving(handler) as served:
        peer = await served.connect()
        peer.send(request(more=b"Connection: close\r\n"))
        assert (await peer.rest()).count(b"HTTP/1.1") == 1


# --- deadlines: limits below zero are over at once, and the sweep is called by hand


@pytest.mark.parametrize(
    ("sent", "limits", "expected"),
    [
        (b"", ConnectionLimits(idle_time=-1), b""),
        (b"POST / HT", ConnectionLimits(header_time=-1), b"HTTP/1.1 408"),
        (request(b"12345")[:-1], ConnectionLimits(body_time=-1), b"HTTP/1.1 408"),
    ],
    ids=["idle", "head", "body"],
)
async def test_a_slow_peer_is_dropped(sent: bytes, limits: ConnectionLimits, expected: bytes) -> None:
    async with serving(echo, limits) as served:
        peer = await served.connect()
        peer.send(sent)
        await until(lambda: served.server.connections)
        await settle()
        served.server.sweep()
        reply = await peer.rest()
        assert reply.startswith(expected)
        assert expected or not reply


async def test_a_slow_handler_is_not_the_peers_fault() -> None:
    waiting: list[Request] = []
    async with serving(waiting.append, ConnectionLimits(body_time=-1, header_time=-1)) as served:
        peer = await served.connect()
        peer.send(request(b"x"))
        await until(lambda: waiting)
        served.server.sweep()
        waiting[0].answer(200, b"at last")
        assert await peer.until(b"at last")


async def test_a_peer_that_never_reads_is_dropped() -> None:
    async with serving(lambda one: one.answer(200, b"x" * 10_000_000), ConnectionLimits(write_time=-1)) as served:
        peer = await served.connect()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.send(request(b"x"))
        (connection,) = await until(lambda: served.server.connections)
        await until(lambda: connection.write_deadline < 1e9)
        served.server.sweep()
        await until(lambda: not served.server.connections)


# --- connections and closing


async def test_a_connection_too_many_gets_an_error() -> None:
    async with serving(echo, ConnectionLimits(connections=1)) as served:
        first, second = await served.connect(), await served.connect()
        await until(lambda: served.server.connections)
        assert (await second.rest()).startswith(b"HTTP/1.1 503")
        first.send(request(b"still served"))
        assert await first.until(b"still served")


async def test_a_connection_too_many_of_one_address_gets_an_error_and_another_address_is_served() -> None:
    server = await serve(echo, port=0, limits=ConnectionLimits(connections_of_one=1))

    async def answer(source: str) -> bytes:
        reader, writer = await asyncio.open_connection("127.0.0.1", server.port, local_addr=(source, 0))
        stack.callback(writer.close)
        writer.write(request(b"x"))
        return await asyncio.wait_for(reader.readexactly(12), GUARD)

    with contextlib.ExitStack() as stack:
        assert await answer("127.0.0.1") == b"HTTP/1.1 200"
        assert await answer("127.0.0.1") == b"HTTP/1.1 503"
        assert await answer("127.0.0.2") == b"HTTP/1.1 200"
    await server.close()


@pytest.mark.usefixtures("either_loop")
async def test_a_connection_that_is_gone_before_it_is_seen_leaves_the_others_served() -> None:
    server = await serve(echo, port=0, limits=ConnectionLimits(connections_of_one=2))
    gone = socket.create_connection(("127.0.0.1", server.port), GUARD)
    gone.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    gone.close()  # with a reset, before the loop accepts it
    reader, writer = await asyncio.open_connection("127.0.0.1", server.port)
    writer.write(request(b"x"))
    assert await asyncio.wait_for(reader.readexactly(12), GUARD) == b"HTTP/1.1 200"
    await until(lambda: len(server.connections) == 1)
    await server.close()
    writer.close()
    with contextlib.suppress(ConnectionError):
        await writer.wait_closed()


async def test_closing_lets_requests_end_and_idle_connections_go() -> None:
    waiting: list[Request] = []
    async with serving(waiting.append) as served:
        idle, busy = await served.connect(), await served.connect()
        busy.send(request(b"x"))
        await until(lambda: waiting and len(served.server.connections) == 2)
        closing = asyncio.create_task(served.server.close(GUARD))
        assert await idle.rest() == b""
        with pytest.raises(OSError, match="refused"):
            await served.connect()
        waiting[0].answer(200, b"done")
        reply = await busy.rest()
        assert b"Connection: close\r\n" in reply
        assert reply.endswith(b"done")
        await closing


async def test_closing_does_not_wait_for_ever() -> None:
    waiting: list[Request] = []
    async with serving(waiting.append) as served:
        peer = await served.connect()
        peer.send(request(b"x"))
        await until(lambda: waiting)
        await served.server.close(0.01)
        assert not served.server.connections


# --- bodies that stream


async def test_a_long_body_is_never_buffered_whole() -> None:
    size, buffer = 5_000_000, 65_536
    pieces: list[int] = []

    taken: list[Any] = []
    async with serving(taken.append, ConnectionLimits(body=None, buffer=buffer)) as served:
        peer = await served.connect()
        peer.send(request(b"x" * size))
        one = await until(lambda: taken and taken[0])
        (connection,) = served.server.connections
        await until(lambda: connection.paused)
        assert buffer < one.buffered <= buffer + READ

        def piece(data: bytes) -> None:
            pieces.append(len(data))
            one.pause()
            asyncio.get_running_loop().call_soon(one.resume)

        one.stream(piece, lambda: one.answer(200, b"%d" % sum(pieces)))
        assert await peer.until(b"5000000")
        assert max(pieces) <= READ


async def test_a_body_that_nobody_read_yet_flows_on_when_somebody_does() -> None:
    taken: list[Request] = []
    async with serving(taken.append, ConnectionLimits(body=None, buffer=65_536)) as served:
        peer = await served.connect()
        peer.send(request(b"x" * 5_000_000))
        await until(lambda: any(connection.paused for connection in served.server.connections))
        one, sizes = taken[0], []
        one.stream(lambda data: sizes.append(len(data)), lambda: one.answer(200, b"%d" % sum(sizes)))
        assert await peer.until(b"5000000")


async def test_a_short_body_comes_whole_even_where_long_ones_stream() -> None:
    async with serving(echo, ConnectionLimits(body=None, buffer=65_536)) as served:
        peer = await served.connect()
        peer.send(request(b"abcdef")[:-3])
        await until(lambda: served.server.connections)
        peer.send(b"def")
        assert await peer.until(b"POST /x abcdef")


async def test_a_streamed_answer_is_chunked_and_the_connection_goes_on() -> None:
    def handler(one: Request) -> None:
        one.start(200, [("Content-Type", "text/plain")], None)
        one.write(b"one")
        one.write(b"")
        one.write(b"two")
        one.end()

    async with serving(handler) as served:
        peer = await served.connect()
        for _ in range(2):
            peer.send(request())
            reply = await peer.until(b"\r\n0\r\n\r\n")
            assert reply.endswith(b"\r\n\r\n3\r\none\r\n3\r\ntwo\r\n0\r\n\r\n")
        old = await served.connect()
        old.send(b"GET / HTTP/1.0\r\nConnection: keep-alive\r\n\r\n")
        assert (await old.rest()).endswith(b"\r\n\r\nonetwo")


async def test_a_handler_hears_when_its_peer_reads_too_slowly() -> None:
    clogs: list[bool] = []
    taken: list[Request] = []

    def handler(one: Request) -> None:
        taken.append(one)
        one.on_write_blocked = clogs.append
        one.start(200, [], 10_000_000)
        one.write(b"x" * 5_000_000)

    async with serving(handler) as served:
        peer = await served.connect()
        peer.writer.transport.pause_reading()  # type: ignore[attr-defined]
        peer.send(request())
        await until(lambda: clogs == [True])
        peer.writer.transport.resume_reading()  # type: ignore[attr-defined]
        await until(lambda: clogs == [True, False])
        taken[0].write(b"x" * 4_999_999 + b"!")
        taken[0].end()
        assert (await peer.until(b"!")).endswith(b"x!")


async def test_a_cut_answer_breaks_the_connection() -> None:
    def handler(one: Request) -> None:
        one.start(200, [], 100)
        one.write(b"half")
        one.abort()

    async with serving(handler) as served:
        peer = await served.connect()
        peer.send(request())
        with pytest.raises((asyncio.IncompleteReadError, ConnectionError)):
            await peer.reader.readexactly(1000)


@pytest.mark.uvloop
async def test_a_server_that_closes_leaves_the_file_of_a_socket_that_another_serves() -> None:
    with tempfile.TemporaryDirectory(prefix="hw", dir="/tmp") as folder, socket.socket(socket.AF_UNIX) as listening:
        path = Path(folder) / "s"
        listening.bind(str(path))
        listening.listen()
        one, other = [await serve(echo, sock=listening.dup()) for _ in range(2)]
        await one.close()
        peer = Peer(*await asyncio.open_unix_connection(str(path)))
        peer.send(request(b"still served"))
        assert await peer.until(b"still served")
        peer.writer.close()
        await other.close()
