from __future__ import annotations

import asyncio
import contextlib
import math
import os
import socket
import sys
import tempfile
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import pytest
from turns import GUARD, settle, until

from free_ports import free_port
from hostler.wire.http_call import call
from hostler.wire.http_client import ConnectionPool
from hostler.wire.http_exchange import CallCut, CallFailed, CallTimedOut, Exchange
from hostler.wire.http_head import render

Script = Callable[[asyncio.StreamReader, asyncio.StreamWriter], Awaitable[None]]
POST = render("POST /x HTTP/1.1", [("Host", "h"), ("Content-Length", "4")])
STREAMED = render("POST /x HTTP/1.1", [("Host", "h"), ("Content-Length", "5000000")])
OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok"


class Caller:
    """Notes everything that it is told."""

    def __init__(self) -> None:
        self.events: list[str] = []
        self.body = b""
        self.error: CallFailed | None = None
        self.over = asyncio.Event()
        self.is_ready = asyncio.Event()

    def ready(self, exchange: Exchange) -> None:
        self.events.append("ready")
        self.is_ready.set()

    def replied(self, exchange: Exchange) -> None:
        self.events.append(f"replied {exchange.status}")
        self.body += exchange.body
        if exchange.complete:
            self.over.set()

    def received(self, exchange: Exchange, data: bytes) -> None:
        self.events.append("received")
        self.body += data

    def ended(self, exchange: Exchange) -> None:
        self.events.append("ended")
        self.over.set()

    def failed(self, exchange: Exchange, error: CallFailed) -> None:
        self.events.append("failed")
        self.error = error
        self.over.set()

    def write_blocked(self, exchange: Exchange, blocked: bool) -> None:
        self.events.append(f"write blocked {blocked}")

    async def end(self) -> None:
        await asyncio.wait_for(self.over.wait(), GUARD)


class Upstream:
    """A server by script: one script per connection, in order; the last one serves all further connections."""

    def __init__(self, address: str, pool: ConnectionPool) -> None:
        self.address = address
        self.pool = pool
        self.connections = 0

    def send(
        self, head: bytes = POST, body: bytes = b"body", deadline: float = math.inf, **more: Any
    ) -> tuple[Caller, Exchange]:
        caller = Caller()
        return caller, self.pool.send(caller, self.address, head, body, deadline=deadline, **more)

    async def ask(self, **more: Any) -> Caller:
        caller, _ = self.send(**more)
        await caller.end()
        return caller


@asynccontextmanager
async def serving(*scripts: Script, tcp: bool = False, **pool: Any) -> AsyncIterator[Upstream]:
    upstream = Upstream("", ConnectionPool(**pool))
    running: set[asyncio.Task[Any]] = set()

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task
        running.add(task)
        script = scripts[min(upstream.connections, len(scripts) - 1)]
        upstream.connections += 1
        try:
            await script(reader, writer)
        except (asyncio.IncompleteReadError, ConnectionError, asyncio.CancelledError):
            pass
        finally:
            running.discard(task)
            writer.close()

    with tempfile.TemporaryDirectory(prefix="hc", dir="/tmp") as folder:
        if tcp:
            server = await asyncio.start_server(serve, "127.0.0.1", 0, limit=2**24)
            upstream.address = f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}"
        else:
            server = await asyncio.start_unix_server(serve, f"{folder}/s", limit=2**24)
            upstream.address = f"unix:{folder}/s"
        try:
            async with asyncio.timeout(2 * GUARD):
                yield upstream
        finally:
            upstream.pool.close()
            server.close()
            for task in list(running):
                task.cancel()
            await asyncio.gather(*running)


async def read_request(reader: asyncio.StreamReader) -> bytes:
    return await reader.readexactly(len(POST) + 4)


def answering(*answers: bytes) -> Script:
    """Answer one request after another with these bytes, then close."""

    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        for answer in answers:
            await read_request(reader)
            writer.write(answer)
            await writer.drain()

    return script


async def forever(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    while True:
        await read_request(reader)
        writer.write(OK)


async def silent(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    await reader.read()


# --- call


@pytest.mark.parametrize("tcp", [True, False])
async def test_call_asks_and_gets_a_whole_reply(tcp: bool) -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        head = await reader.readuntil(b"\r\n\r\n")
        assert head.startswith(b"POST /models?a=b HTTP/1.1\r\n")
        assert b"X-A: 1\r\n" in head
        assert b"Content-Length: 4\r\n" in head
        assert await reader.readexactly(4) == b"body"
        writer.write(b"HTTP/1.1 201 Fine\r\nX-B: 2\r\nx-b: 3\r\nContent-Length: 3\r\n\r\nyes")

    async with serving(script, tcp=tcp) as upstream:
        reply = await call(upstream.address, "POST", "/models?a=b", headers={"X-A": "1"}, body=b"body", timeout=GUARD)
        assert (reply.status, reply.body, reply.headers["x-b"]) == (201, b"yes", "2, 3")


async def test_call_gathers_long_answers_and_ends_at_its_timeout() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        path = (await reader.readuntil(b"\r\n\r\n")).split()[1]
        if path == b"/slow":
            await reader.read()
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 3000000\r\n\r\n" + b"x" * 3_000_000)

    async with serving(script) as upstream:
        assert len((await call(upstream.address, "GET", "/", timeout=GUARD)).body) == 3_000_000
        with pytest.raises(CallTimedOut) as late:
            await call(upstream.address, "GET", "/slow", timeout=0.02)
        assert late.value.started
        with pytest.raises(ValueError, match="line end"):
            await call(upstream.address, "GET", "/a\r\nX: y", timeout=GUARD)


async def test_calls_of_a_pool_share_a_connection_but_for_one_that_timed_out() -> None:
    async def script(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        while (path := (await reader.readuntil(b"\r\n\r\n")).split()[1]) != b"/slow":
            writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % len(path) + path)
        await reader.read()

    async with serving(script) as upstream:

        async def ask(path: str, timeout: float = GUARD) -> bytes:
            return (await call(upstream.address, "GET", path, timeout=timeout, pool=upstream.pool)).body

        assert [await ask("/a"), await ask("/b")] == [b"/a", b"/b"]
        assert upstream.connections == 1
        with pytest.raises(CallTimedOut):
            await ask("/slow", timeout=0.02)
        assert await ask("/c") == b"/c"
        assert upstream.connections == 2
        assert not upstream.pool.active


async def test_call_says_that_nothing_was_sent_when_nobody_listens() -> None:
    for address in ("unix:/tmp/there-is-no-such-socket", f"tcp:127.0.0.1:{free_port()}", "smoke:signals"):
        with pytest.raises(CallFailed) as refused:
            await call(address, "GET", "/", timeout=GUARD)
        assert not refused.value.started


# --- the pool


async def test_a_server_that_closes_each_connection_at_once_fails_calls_and_keeps_none_waiting() -> None:
    resets = (  # as a proxy before a port on which nothing listens may do
        "import socket, struct, sys\n"
        "listener = socket.socket(fileno=0)\n"
        "while True:\n"
        "    accepted = listener.accept()[0]\n"
        "    accepted.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', 1, 0))\n"
        "    accepted.close()\n"
    )
    with socket.create_server(("127.0.0.1", 0)) as listener:
        server = await asyncio.create_subprocess_exec(sys.executable, "-c", resets, stdin=listener)
        address = f"tcp:127.0.0.1:{listener.getsockname()[1]}"
        try:
            for _ in range(100):
                outcomes = await asyncio.gather(
                    *(call(address, "GET", "/ping", timeout=GUARD) for _ in range(8)), return_exceptions=True
                )
                assert all(type(outcome) is CallFailed for outcome in outcomes), outcomes
        finally:
            server.kill()
            await server.wait()


async def test_connections_are_used_again() -> None:
    async with serving(forever) as upstream:
        for _ in range(5):
            assert (await upstream.ask()).body == b"ok"
        assert upstream.connections == 1


async def test_interim_answers_are_skipped() -> None:
    async with serving(
        answering(b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 103 Early Hints\r\nLink: x\r\n\r\n" + OK)
    ) as upstream:
        caller = await upstream.ask()
        assert (caller.events, caller.body) == (["replied 200"], b"ok")


@pytest.mark.parametrize(
    ("answer", "body"),
    [
        (b"HTTP/1.1 200 OK\r\n\r\nup to the end", b"up to the end"),
        (b"HTTP/1.0 200 OK\r\nContent-Length: 2\r\n\r\nok", b"ok"),
        (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\no\r\n1;a=b\r\nk\r\n0\r\nX: y\r\n\r\n", b"ok"),
        (b"HTTP/1.1 204 No Content\r\n\r\n", b""),
        (b"HTTP/1.1 304 Not Modified\r\nContent-Length: 9\r\n\r\n", b""),
    ],
    ids=["to the end", "1.0", "chunks", "204", "304"],
)
async def test_a_body_ends_where_its_framing_says(answer: bytes, body: bytes) -> None:
    async with serving(answering(answer)) as upstream:
        caller = await upstream.ask()
        assert (caller.error, caller.body) == (None, body)


async def test_the_answer_to_head_has_no_body_whatever_it_announces() -> None:
    async with serving(answering(b"HTTP/1.1 200 OK\r\nContent-Length: 99\r\n\r\n")) as upstream:
        for _ in range(2):
            caller = await upstream.ask(bodyless=True)
            assert (caller.events, caller.body) == (["replied 200"], b"")


@pytest.mark.parametrize(
    "answer",
    [
        b"HTTP/1.1 200 OK\r\nContent-Length: 10\r\n\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n9\r\nhalf",
        b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n4\r\nhalf\r\n",
    ],
)
async def test_a_cut_body_is_distinguished_from_a_whole_one(answer: bytes) -> None:
    async with serving(answering(answer)) as upstream:
        caller = await upstream.ask()
        assert caller.events == ["failed"]
        assert isinstance(caller.error, CallCut)


@pytest.mark.parametrize(
    "answer",
    [
        b"",
        b"HTTP/1.1 200 O",
        b"garbage\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nContent-Length: 1\r\nContent-Length: 2\r\n\r\nab",
        b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"HTTP/1.1 101 Switching\r\nUpgrade: x\r\nConnection: upgrade\r\n\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 70_000 + b"\r\n\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"X: a\r\n" * 300 + b"\r\n",
        b"HTTP/1.1 200 OK\r\n" + b"".join(b"X-%d: a\r\n" % n for n in range(201)) + b"\r\n",
        b"HTTP/1.1 200 OK\r\nX: " + b"a" * 1_000_000,
    ],
)
async def test_what_is_no_answer_fails_and_its_connection_is_not_kept(answer: bytes) -> None:
    async with serving(answering(answer), forever) as upstream:
        caller = await upstream.ask()
        assert caller.events == ["failed"]
        assert caller.error
        assert caller.error.started
        assert not isinstance(caller.error, CallCut)
        assert (await upstream.ask()).body == b"ok"
        assert upstream.connections == 2


async def test_what_follows_an_answer_unasked_spoils_the_connection() -> None:
    async with serving(answering(OK + OK, OK), forever) as upstream:
        assert (await upstream.ask()).body == b"ok"
        await until(lambda: not upstream.pool.idle_connections(upstream.address))
        assert (await upstream.ask()).body == b"ok"
        assert upstream.connections == 2


async def test_an_idle_connection_that_the_server_closed_is_not_used() -> None:
    async with serving(answering(OK), forever) as upstream:
        assert (await upstream.ask()).body == b"ok"
        await until(lambda: not upstream.pool.idle_connections(upstream.address))
        assert (await upstream.ask()).body == b"ok"
        assert upstream.connections == 2


@pytest.mark.usefixtures("either_loop")
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
async def test_a_close_that_crosses_the_request_is_tried_again_on_a_fresh_connection(tcp: bool) -> None:
    """The server's end has come to this machine, but our loop has not read it yet."""
    served = asyncio.Event()

    async def closes(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(OK)(reader, writer)
        closing.append(socket.socket(fileno=os.dup(writer.get_extra_info("socket").fileno())))
        served.set()
        await reader.read()

    closing: list[socket.socket] = []
    async with serving(closes, forever, tcp=tcp) as upstream:
        assert (await upstream.ask()).body == b"ok"
        await served.wait()
        closing[0].shutdown(socket.SHUT_RDWR)
        caller, _ = upstream.send()  # no turn of the loop between the close and this
        await caller.end()
        assert (caller.events, caller.body) == (["replied 200"], b"ok")
        closing[0].close()


async def test_a_request_that_the_server_may_have_seen_is_not_sent_again() -> None:
    async def takes_and_dies(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await answering(OK)(reader, writer)
        await read_request(reader)

    async with serving(takes_and_dies, forever) as upstream:
        assert (await upstream.ask()).body == b"ok"
        caller = await upstream.ask()
        assert caller.events == ["failed"]
        assert upstream.connections == 1


async def test_a_fresh_connection_that_dies_is_not_tried_again() -> None:
    async with serving(answering(b""), forever) as upstream:
        caller = await upstream.ask()
        assert caller.events == ["failed"]
        assert upstream.connections == 1


@pytest.mark.usefixtures("either_loop")
@pytest.mark.parametrize("length", [4, 3_000_000])
@pytest.mark.parametrize("reads", [0, 10, math.inf], ids=["nothing", "a part", "all of it"])
@pytest.mark.parametrize("kind", ["unix", "tcp, ours", "tcp"])
async def test_what_a_server_that_ends_has_not_read_to_its_end_it_cannot_have_handled(
    tmp_path: Path, length: int, reads: float, kind: str
) -> None:
    """A process that is killed: the system resets the connections from which it has not read all bytes."""
    head = render("POST /x HTTP/1.1", [("Host", "h"), ("Content-Length", str(length))])
    pool, loop, caller = ConnectionPool(), asyncio.get_running_loop(), Caller()
    unix, ours = kind == "unix", kind == "tcp, ours"
    with socket.socket(socket.AF_UNIX if unix else socket.AF_INET) as listening:
        listening.bind(str(tmp_path / "s") if unix else ("127.0.0.1", 0))
        listening.listen()
        address = f"unix:{tmp_path / 's'}" if unix else f"tcp:127.0.0.1:{listening.getsockname()[1]}"
        exchange = pool.send(caller, address, head, b"x" * length, deadline=math.inf, ours=ours)
        if reads:
            listening.setblocking(False)
            server, _ = await loop.sock_accept(listening)
            left = min(reads, len(head) + length)
            while left:
                left -= len(await loop.sock_recv(server, int(min(left, 65_536))))
            server.close()
        else:
            await until(lambda: exchange.started)
    await caller.end()
    assert caller.error
    assert (caller.error.started, caller.error.received) == (True, reads == math.inf or kind == "tcp")
    pool.close()


async def test_an_answer_that_comes_before_the_request_is_whole_ends_the_connection() -> None:
    async def early(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await reader.readuntil(b"\r\n\r\n")
        writer.write(b"HTTP/1.1 413 Too Large\r\nContent-Length: 2\r\n\r\nno")
        await reader.read()

    async with serving(early, forever) as upstream:
        caller, exchange = upstream.send(STREAMED, b"", streamed=True)
        await caller.is_ready.wait()
        exchange.write(b"x" * 1000)
        await caller.end()
        assert caller.events == ["ready", "replied 413"]
        exchange.write(b"x" * 1000)  # has nowhere to go, and does no harm
        exchange.end()
        assert (await upstream.ask()).body == b"ok"
        assert upstream.connections == 2


async def test_a_long_request_is_blocked_while_the_server_reads_too_slowly() -> None:
    go = asyncio.Event()
    size = 5_000_000

    async def slow(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        writer.transport.pause_reading()  # type: ignore[attr-defined]
        await go.wait()
        writer.transport.resume_reading()  # type: ignore[attr-defined]
        await reader.readexactly(len(STREAMED) + size)
        writer.write(OK)

    async with serving(slow) as upstream:
        caller, exchange = upstream.send(STREAMED, b"", streamed=True)
        await caller.is_ready.wait()
        exchange.write(b"x" * (size - 1))
        assert caller.events[-1] == "write blocked True"
        go.set()
        await until(lambda: "write blocked False" in caller.events)
        exchange.write(b"x")
        exchange.end()
        await caller.end()
        assert caller.body == b"ok"


async def test_a_long_answer_waits_for_its_reader() -> None:
    size = 5_000_000

    async def long(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: %d\r\n\r\n" % size + b"x" * size)
        await writer.drain()
        await reader.read()

    async with serving(long) as upstream:
        caller, exchange = upstream.send(buffer=100_000)
        await until(lambda: caller.body)
        exchange.pause()
        held = len(caller.body)
        await settle()
        assert len(caller.body) == held < size
        exchange.resume()
        await caller.end()
        assert len(caller.body) == size
        assert caller.events[0] == "replied 200"
        assert caller.events[-1] == "ended"


async def test_an_aborted_exchange_is_silent_and_its_connection_is_not_kept() -> None:
    async with serving(silent, forever) as upstream:
        caller, exchange = upstream.send()
        await until(lambda: upstream.connections)
        exchange.abort()
        assert (await upstream.ask()).body == b"ok"
        assert caller.events == []
        assert upstream.connections == 2
        assert not upstream.pool.active


async def test_an_exchange_aborted_while_connecting_leaves_a_good_connection() -> None:
    async with serving(forever) as upstream:
        caller, exchange = upstream.send()
        await asyncio.sleep(0)
        exchange.abort()
        await until(lambda: upstream.pool.idle_connections(upstream.address))
        assert (await upstream.ask()).body == b"ok"
        assert (caller.events, upstream.connections) == ([], 1)


async def test_a_trickling_server_does_not_move_the_deadline() -> None:
    async def trickle(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        await read_request(reader)
        writer.write(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n")
        while True:
            writer.write(b"x")
            await asyncio.sleep(0)

    async with serving(trickle) as upstream:
        caller, _ = upstream.send(deadline=asyncio.get_running_loop().time() - 1, buffer=0)
        await until(lambda: caller.body)
        upstream.pool.sweep()
        assert isinstance(caller.error, CallTimedOut)
        assert caller.error.started


async def test_a_server_that_starts_late_is_waited_for_if_wished() -> None:
    async with serving(silent) as upstream:
        path = upstream.address.removeprefix("unix:") + "2"
        loop = asyncio.get_running_loop()
        caller = Caller()
        upstream.pool.send(caller, f"unix:{path}", POST, b"body", deadline=math.inf, connect_until=loop.time() + GUARD)
        await settle()

        async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            await answering(OK)(reader, writer)
            writer.close()

        server = await asyncio.start_unix_server(serve, path)
        await caller.end()
        assert caller.body == b"ok"
        server.close()


async def test_a_server_whose_backlog_is_full_is_busy_not_dead() -> None:
    async with serving(silent) as upstream:
        path = upstream.address.removeprefix("unix:") + "2"
        with socket.socket(socket.AF_UNIX) as listening, contextlib.ExitStack() as fillers:
            listening.bind(path)
            listening.listen(0)
            with contextlib.suppress(BlockingIOError):
                while True:
                    filler = fillers.enter_context(socket.socket(socket.AF_UNIX))
                    filler.setblocking(False)
                    filler.connect(path)
            caller = Caller()
            upstream.pool.send(caller, f"unix:{path}", POST, b"body", deadline=math.inf)
            await settle()
            assert caller.events == []
            fillers.close()

            async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
                with contextlib.suppress(asyncio.IncompleteReadError):
                    await answering(OK)(reader, writer)
                writer.close()

            server = await asyncio.start_unix_server(serve, sock=listening)
            await caller.end()
            assert caller.body == b"ok"
            server.close()


@pytest.mark.usefixtures("either_loop")
@pytest.mark.parametrize("tcp", [True, False], ids=["tcp", "unix"])
async def test_a_loop_that_stood_still_does_not_take_that_for_a_server_that_hangs(tcp: bool) -> None:
    """A busy machine: whenever the loop comes to look, the time to connect is over."""

    async with serving(forever, tcp=tcp, connect_timeout=0.0) as upstream:
        callers = [upstream.send()[0] for _ in range(50)]
        for caller in callers:
            await caller.end()
        assert {caller.body for caller in callers} == {b"ok"}


async def test_a_connect_that_hangs_fails_at_its_timeout() -> None:
    async with serving(silent, connect_timeout=0.01) as upstream:
        with socket.create_server(("127.0.0.1", 0), backlog=0) as listening, contextlib.ExitStack() as fillers:
            address = listening.getsockname()
            for _ in range(2):  # a full backlog leaves a connect without an answer
                filler = fillers.enter_context(socket.socket())
                filler.setblocking(False)
                filler.connect_ex(address)
            caller = Caller()
            upstream.pool.send(caller, f"tcp:127.0.0.1:{address[1]}", POST, b"body", deadline=math.inf)
            await caller.end()
            assert str(caller.error) == "cannot connect: no connection in time"
            assert caller.error is not None
            assert not caller.error.started


@pytest.mark.parametrize(("tcp", "connections"), [(True, 2), (False, 1)])
async def test_only_tcp_connections_grow_old(tcp: bool, connections: int) -> None:
    async with serving(forever, tcp=tcp, idle=-1.0) as upstream:
        await upstream.ask()
        upstream.pool.sweep()
        await upstream.ask()
        assert upstream.connections == connections


async def test_a_pool_that_is_closed_while_it_connects_leaves_no_connection_open() -> None:
    opened = ended = 0

    async def serve(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        nonlocal opened, ended
        opened += 1
        with contextlib.suppress(ConnectionError):
            await reader.read()
        ended += 1
        writer.close()

    server = await asyncio.start_server(serve, "127.0.0.1")
    address = f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}"
    for turns in range(40):  # of the loop: whichever step the connecting has reached
        pool = ConnectionPool()
        pool.send(Caller(), address, POST, deadline=math.inf)
        for _ in range(turns):
            await asyncio.sleep(0)
        pool.close()
    await until(lambda: bool(opened) and opened == ended)
    server.close()
