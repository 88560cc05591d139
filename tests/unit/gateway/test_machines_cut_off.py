"""Real machines, as far as one can have several: network namespaces, of which a packet filter cuts one off."""

from __future__ import annotations

import asyncio
import contextlib
import socket
import time
from collections import Counter
from collections.abc import AsyncIterator

import msgspec
import pytest
from rig import Rig, pool, until

from hostler.wire import gateway_messages, silence
from hostler.wire.http_call import call
from hostler.wire.http_client import ConnectionPool
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_request import Request
from hostler.wire.http_server import serve
from machines import Machine, machines

pytestmark = [pytest.mark.slow, pytest.mark.require("iptables")]

CALLERS = 20
GUARD = 60.0  # seconds after which a test that hangs fails


class Place:
    """An instance on a machine: its container, and a beat. `kept`: the requests that it has not answered."""

    def __init__(self, id: str, machine: Machine) -> None:
        self.id = id
        self.machine = machine
        self.answers = True
        self.kept: list[Request] = []
        self.calls = 0

    def handle(self, request: Request) -> None:
        self.calls += 1
        if self.answers:
            request.answer(200, self.id.encode())
        else:
            self.kept.append(request)

    @contextlib.asynccontextmanager
    async def serves(self) -> AsyncIterator[None]:
        limits = ConnectionLimits(body=None)
        container = await serve(self.handle, sock=self.machine.listen(8080), limits=limits)
        agent = await serve(self.handle, sock=self.machine.listen(7901), limits=limits)
        try:
            yield
        finally:
            await container.close()
            await agent.close()

    @property
    def address(self) -> gateway_messages.InstanceAddress:
        host = self.machine.address
        return gateway_messages.InstanceAddress(self.id, (f"tcp:{host}:8080",), beat=f"tcp:{host}:7901")


def route(*places: gateway_messages.InstanceAddress) -> gateway_messages.Route:
    containers = (gateway_messages.Container("primary"),)
    return gateway_messages.Route(
        "us-east-1/ep", (gateway_messages.Variant("v", 1.0, containers, pool(*places), routing="RANDOM"),)
    )


class Load:
    """Calls the endpoint from many callers, each again as soon as it is answered."""

    def __init__(self, rig: Rig) -> None:
        self.answers: list[tuple[float, int]] = []  # when each call began, and its status
        self._url = f"tcp:127.0.0.1:{rig.port}"
        self._ending = False
        self._answered = asyncio.Semaphore(0)
        self._callers: list[asyncio.Task[None]] = []

    async def begin(self) -> None:
        self._callers = [asyncio.create_task(self._call()) for _ in range(CALLERS)]

    async def more(self, count: int) -> None:
        """Return once so many more calls were answered."""
        async with asyncio.timeout(10 * GUARD):
            until = len(self.answers) + count
            while len(self.answers) < until:
                await self._answered.acquire()

    async def end(self) -> None:
        self._ending = True
        await asyncio.gather(*self._callers)

    async def _call(self) -> None:
        connections = ConnectionPool()
        while not self._ending:
            began = time.monotonic()
            reply = await call(
                self._url, "POST", "/endpoints/ep/invocations", body=b"1,2", timeout=GUARD, pool=connections
            )
            self.answers.append((began, reply.status))
            self._answered.release()
        connections.close()


async def test_a_machine_that_is_cut_off_costs_the_calls_that_are_there_and_no_other(rig: Rig) -> None:
    with machines(3) as there:
        places = [Place(f"i{number}", machine) for number, machine in enumerate(there)]
        async with contextlib.AsyncExitStack() as stack:
            for place in places:
                await stack.enter_async_context(place.serves())
            await rig.start(route(*(place.address for place in places)))
            load, (lost, *_) = Load(rig), places
            await load.begin()
            await load.more(5_000)
            lost.machine.cut_off()
            await until(lambda: rig.gateway.context.down == {lost.id})
            known = time.monotonic()
            await load.more(10_000)
            lost.machine.come_back()
            await until(lambda: not rig.gateway.context.down)
            calls = lost.calls
            await load.more(5_000)
            assert lost.calls > calls, "it gets calls again"
            await load.end()
            ends = Counter(status for _, status in load.answers)
            assert ends[200] + ends[424] == len(load.answers) >= 20_000
            assert ends[424] <= CALLERS, "those that were on their way"
            assert all(status == 200 for began, status in load.answers if began >= known)


async def test_calls_that_wait_on_a_machine_without_a_beat_end_as_soon_as_it_is_gone(rig: Rig) -> None:
    with machines(1) as (machine,):
        place = Place("i1", machine)
        place.answers = False
        async with place.serves():
            await rig.start(route(msgspec.structs.replace(place.address, beat="")))
            waiting = asyncio.create_task(rig.invoke())
            await until(lambda: place.kept)
            machine.cut_off()
            assert (await waiting).status == 424, "long before its time is up"
            machine.come_back()


async def test_a_container_that_reads_late_gets_the_whole_of_a_large_body(rig: Rig) -> None:
    body = b"x" * 5_000_000
    with socket.create_server(("127.0.0.1", 0)) as listening:
        address = f"tcp:127.0.0.1:{listening.getsockname()[1]}"
        await rig.start(route(gateway_messages.InstanceAddress("i1", (address,), beat=address)))
        asking = asyncio.create_task(rig.invoke(body))
        await asyncio.sleep(2 * silence.PATIENCE)  # it is busy: its window is shut
        limits = ConnectionLimits(body=None, buffer=2 * len(body))
        server = await serve(lambda request: request.answer(200, request.body[-1:]), sock=listening, limits=limits)
        reply = await asking
        assert (reply.status, reply.body) == (200, b"x")
        await server.close()


async def test_only_silence_is_taken_for_silence() -> None:
    with machines(1) as (machine,), machine.listen(7901) as listening:
        address = f"tcp:{machine.address}:7901"
        assert not await silence.is_silent(address, GUARD)
        machine.cut_off()
        assert await silence.is_silent(address, 1.0)
        machine.come_back()
        listening.close()
        assert not await silence.is_silent(address, GUARD), "a refusal is an answer"
