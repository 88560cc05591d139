"""What a target in the server's own process does with calls: together, in order, and never in the way of others."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import AbstractAsyncContextManager, asynccontextmanager
from pathlib import Path

import pytest

from hostler.servers import environment
from hostler.servers.frameworks.predictor import LONG_BODY, Call, Predictor, Reply
from hostler.servers.runners.inline import SLOW, InlineRunner
from hostler.wire.http_request import Request
from hostler.wire.http_server import serve

ENVIRONMENT = environment.read({})
PATIENCE = 120.0  # seconds, past which a test hangs


class Model:
    """Answers a call with its body; `during` is what it does meanwhile. It remembers its calls, and where they ran."""

    def __init__(self, during: Callable[[bytes], object] = len, max_batch: int = 1) -> None:
        self.max_batch = max_batch
        self.calls: list[list[bytes]] = []
        self.on_loop: list[bool] = []
        self._during = during
        self._loops = threading.get_ident()

    def predict(self, calls: Sequence[Call]) -> Sequence[Reply]:
        self.calls.append([call.body for call in calls])
        self.on_loop.append(threading.get_ident() == self._loops)
        for call in calls:
            self._during(call.body)
        return [Reply(200, call.body, "text/plain") for call in calls]


class Clock:
    """Time passes when a model says so."""

    now = 0.0

    def __call__(self) -> float:
        return self.now

    def slowly(self, _: bytes) -> None:
        self.now += 2 * SLOW


async def release(predictor: Predictor, size: int) -> None:
    """Nobody measures memory here."""


class Stable:
    """Targets behind a server on a socket. A request names its target by its path."""

    def __init__(self, path: Path, threads: ThreadPoolExecutor) -> None:
        self.path = path
        self.threads = threads
        self.clock = Clock()
        self.targets: dict[str, InlineRunner] = {}
        self.requests: list[Request] = []
        self.gathered: list[Request] = []
        self.wanted = 1  # requests that are waited for, to reach their targets in one turn

    def add(self, name: str, model: Predictor) -> InlineRunner:
        self.targets[name] = InlineRunner(model, 0, ENVIRONMENT, self.threads, release, self.clock)
        return self.targets[name]

    def handle(self, request: Request) -> None:
        self.requests.append(request)
        self.gathered.append(request)
        if len(self.gathered) < self.wanted:
            return
        gathered, self.gathered = self.gathered, []
        for one in gathered:
            self.targets[one.path[1:]].invoke(one, self.handle)

    async def send(self, name: str, body: bytes) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
        reader, writer = await asyncio.open_unix_connection(str(self.path))
        head = f"POST /{name} HTTP/1.1\r\nHost: h\r\nContent-Length: {len(body)}\r\nConnection: close\r\n\r\n"
        writer.write(head.encode() + body)
        return reader, writer

    async def call(self, name: str, body: bytes = b"x") -> bytes:
        """The body of the answer, which is the request's."""
        reader, writer = await self.send(name, body)
        answer = await reader.read()
        writer.close()
        assert answer.startswith(b"HTTP/1.1 200 "), answer
        return answer.partition(b"\r\n\r\n")[2]

    async def arrived(self, name: str, calls: int) -> None:
        while self.targets[name].running < calls:  # noqa: ASYNC110 - nothing tells
            await asyncio.sleep(0)

    async def made_slow(self, name: str, length: int = 1) -> None:
        for _ in range(2):
            await self.call(name, b"x" * length)


@asynccontextmanager
async def stable(folder: Path) -> AsyncIterator[Stable]:
    with ThreadPoolExecutor(1) as threads:
        found = Stable(folder / "s", threads)
        server = await serve(found.handle, path=str(found.path))
        try:
            async with asyncio.timeout(PATIENCE):
                yield found
        finally:
            await server.close(PATIENCE)


@pytest.fixture
def here(tmp_path: Path) -> AbstractAsyncContextManager[Stable]:
    return stable(tmp_path)


@pytest.mark.parametrize(("max_batch", "wanted"), [(64, [16]), (5, [5, 5, 5, 1]), (1, [1] * 16)])
async def test_calls_of_one_turn_of_the_loop_are_predicted_in_batches(
    here: Stable, max_batch: int, wanted: list[int]
) -> None:
    models = {name: Model(max_batch=max_batch) for name in "ab"}
    for name, model in models.items():
        here.add(name, model)
    here.wanted = 32
    bodies = [b"%d" % number for number in range(32)]
    calls = [here.call("ab"[number % 2], body) for number, body in enumerate(bodies)]
    assert await asyncio.gather(*calls) == bodies
    for name, model in models.items():
        assert [len(calls) for calls in model.calls] == wanted, name


async def test_a_slow_target_is_called_on_a_thread_and_others_are_answered_meanwhile(here: Stable) -> None:
    answered = threading.Event()
    seen: list[bool] = []

    def during(body: bytes) -> None:
        here.clock.slowly(body)
        if body == b"last":
            seen.append(answered.wait(PATIENCE))  # on the loop, nobody would ever set it

    slow, quick = Model(during), Model()
    here.add("slow", slow)
    here.add("quick", quick)
    await here.made_slow("slow", len(b"last"))
    last = asyncio.ensure_future(here.call("slow", b"last"))
    await here.arrived("slow", 1)
    assert await here.call("quick", b"first") == b"first"
    answered.set()
    assert await last == b"last"
    assert seen == [True]
    assert slow.on_loop == [True, True, False]
    assert quick.on_loop == [True]


async def test_slow_calls_of_one_turn_do_not_run_one_after_the_other_on_the_loop(here: Stable) -> None:
    slow = Model(here.clock.slowly)
    here.add("slow", slow)
    here.wanted = 8
    bodies = [b"%d" % number for number in range(8)]
    assert await asyncio.gather(*(here.call("slow", body) for body in bodies)) == bodies
    assert slow.on_loop == [True] * 2 + [False] * 6


async def test_a_quick_call_brings_a_target_back_to_the_loop_and_other_lengths_never_left_it(here: Stable) -> None:
    model = Model(lambda body: here.clock.slowly(body) if body.startswith(b"slow") else None)
    here.add("m", model)
    for body in (b"slow", b"slow", b"short", b"slow" * 9, b"slow", b"quick", b"quick"):
        assert await here.call("m", body) == body
    assert model.on_loop == [True, True, False, True, True, True, True]
    model.on_loop.clear()
    for body in (b"slow", b"slow", b"slow", b"n", b"slow", b"okay", b"slow"):
        assert await here.call("m", body) == body
    assert model.on_loop == [True, True, False, True, False, False, True]


async def test_a_quick_target_stays_on_the_loop(here: Stable) -> None:
    model = Model()
    here.add("m", model)
    for _ in range(100):
        await here.call("m")
    assert all(model.on_loop)


async def test_slow_targets_take_turns_and_each_keeps_its_order(here: Stable) -> None:
    order: list[bytes] = []
    go = threading.Event()

    def during(body: bytes) -> None:
        here.clock.slowly(body)
        if body != b"xx":
            go.wait(PATIENCE)
            order.append(body)

    for name in "ab":
        here.add(name, Model(during))
        await here.made_slow(name, len(b"a1"))
    calls = []
    for name, number in (("a", 1), ("a", 2), ("a", 3), ("b", 1), ("b", 2)):
        calls.append(asyncio.ensure_future(here.call(name, f"{name}{number}".encode())))
        await here.arrived(name, number)
    go.set()
    await asyncio.gather(*calls)
    assert order == [b"a1", b"b1", b"a2", b"b2", b"a3"]


async def test_long_bodies_go_to_the_thread_and_do_not_count_for_short_ones(here: Stable) -> None:
    model = Model(lambda body: here.clock.slowly(body) if len(body) > LONG_BODY else None)
    here.add("m", model)
    long = bytes(LONG_BODY + 1)
    for body in (long, long, long, bytes(LONG_BODY)):
        assert await here.call("m", body) == body
    assert model.on_loop == [False, False, False, True]


async def test_a_target_that_is_unloaded_answers_its_calls_first_also_slow_ones(here: Stable) -> None:
    go = threading.Event()

    def during(body: bytes) -> None:
        here.clock.slowly(body)
        if body != b"x":
            go.wait(PATIENCE)

    model = Model(during)
    target = here.add("m", model)
    await here.made_slow("m")
    calls = [asyncio.ensure_future(here.call("m", b"%d" % number)) for number in range(3)]
    await here.arrived("m", 3)
    closing = asyncio.ensure_future(target.drain())
    go.set()
    assert await closing is model
    assert len(model.calls) == 5
    assert await asyncio.gather(*calls) == [b"0", b"1", b"2"]


async def test_a_caller_that_disconnects_in_the_threads_queue_is_skipped(here: Stable) -> None:
    go = threading.Event()

    def during(body: bytes) -> None:
        here.clock.slowly(body)
        if body == b"0":
            go.wait(PATIENCE)

    model = Model(during)
    target = here.add("m", model)
    await here.made_slow("m")
    first = asyncio.ensure_future(here.call("m", b"0"))
    await here.arrived("m", 1)
    left = []
    for number in (1, 2, 4):
        _, writer = await here.send("m", b"%d" % number)
        await here.arrived("m", 1 + len(left) + 1)
        left.append(writer)
    stays = asyncio.ensure_future(here.call("m", b"3"))
    await here.arrived("m", 5)
    for writer in left:
        writer.close()
        await writer.wait_closed()
    waiting = [request for request in here.requests if request.body in (b"1", b"2", b"4")]
    while not all(request.disconnected for request in waiting):  # noqa: ASYNC110 - nothing tells
        await asyncio.sleep(0)
    go.set()
    assert await asyncio.gather(first, stays) == [b"0", b"3"]
    assert model.calls[2:] == [[b"0"], [b"3"]]
    assert target.running == 0
