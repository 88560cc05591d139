"""Instances on other machines: what a gateway does while one is silent, and how it learns of that."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from collections.abc import Callable
from functools import partial
from typing import Any

import msgspec
import pytest
from rig import Rig, error, until

from hostler.gateway.beats import Beats
from hostler.wire import gateway_messages
from hostler.wire.http_request import Request
from silent_ports import crowd

NONE: frozenset[str] = frozenset()


def with_beats(route: gateway_messages.Route, beats: dict[str, str]) -> gateway_messages.Route:
    """The route, with beats for its instances; of one variant and pool."""
    [variant] = route.variants
    [pool] = variant.pools
    instances = tuple(msgspec.structs.replace(each, beat=beats.get(each.instance, "")) for each in pool.instances)
    pool = msgspec.structs.replace(pool, instances=instances)
    return msgspec.structs.replace(route, variants=(msgspec.structs.replace(variant, pools=(pool,)),))


@pytest.mark.parametrize("routing", ["RANDOM", "LEAST_OUTSTANDING_REQUESTS"])
async def test_an_instance_that_is_down_gets_no_requests_while_another_is_up(rig: Rig, routing: Any) -> None:
    away, there = await rig.container("i1"), await rig.container("i2")
    await rig.start(rig.route("i1", "i2", routing=routing))
    rig.gateway.places_changed(frozenset({"i1"}), NONE)
    assert {(await rig.invoke()).status for _ in range(30)} == {200}
    assert (len(away.seen), len(there.seen)) == (0, 30)
    rig.gateway.places_changed(NONE, NONE)
    while not away.seen:
        await rig.invoke()


async def test_where_all_are_down_requests_are_sent_as_ever(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1"))
    rig.gateway.places_changed(frozenset({"i1"}), frozenset({"i1"}))
    assert (await rig.invoke()).status == 200


async def test_calls_that_are_with_an_instance_when_it_goes_silent_end_as_unreachable(rig: Rig) -> None:
    kept: list[Request] = []
    cut, other = await rig.container("i1", kept.append), await rig.container("i2", kept.append)
    await rig.start(rig.route("i1", "i2"))
    calls = [asyncio.create_task(rig.invoke()) for _ in range(20)]
    await until(lambda: len(kept) == 20)
    lost = len(cut.seen)
    assert lost
    rig.gateway.places_changed(frozenset({"i1"}), frozenset({"i1"}))
    await until(lambda: sum(call.done() for call in calls) == lost)
    for request in other.seen:
        request.answer(200)
    replies = await asyncio.gather(*calls)
    assert sorted(reply.status for reply in replies) == [200] * (20 - lost) + [424] * lost
    failed = error(next(reply for reply in replies if reply.status == 424))
    assert failed["Message"].startswith("Received server error (0) from primary with message")


async def test_a_call_that_no_container_has_yet_goes_to_another_instance(rig: Rig) -> None:
    other = await rig.container("i2")
    with socket.create_server(("127.0.0.1", 0), backlog=0) as crowded, crowd(crowded):
        port = crowded.getsockname()[1]
        full = gateway_messages.InstanceAddress("i1", (f"tcp:127.0.0.1:{port}",))
        [variant] = rig.route("i2").variants
        pools = (gateway_messages.Pool(1, 1.0, (full,)),)
        await rig.start(gateway_messages.Route("us-east-1/ep", (msgspec.structs.replace(variant, pools=pools),)))
        rig.gateway.context.connections.connect_timeout = 30.0
        call = asyncio.create_task(rig.invoke())
        await until(lambda: rig.gateway.context.connections.active)
        pools = (gateway_messages.Pool(1, 1.0, (full, rig.address("i2"))),)
        rig.control.swap(gateway_messages.Route("us-east-1/ep", (msgspec.structs.replace(variant, pools=pools),)))
        await rig.control.settled()
        rig.gateway.places_changed(frozenset({"i1"}), frozenset({"i1"}))
        assert (await call).status == 200
    assert len(other.seen) == 1


async def test_a_target_on_an_instance_that_is_down_is_requested_for_another(rig: Rig) -> None:
    away, there = await rig.container("i1"), await rig.container("i2")
    await rig.start(rig.route("i1", "i2", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1"))
    rig.gateway.places_changed(frozenset({"i1"}), NONE)
    call = asyncio.create_task(rig.invoke(target="a"))
    assert (await rig.control.receives(gateway_messages.TargetRequest)).target == "a"
    await rig.control.resident(rig.resident("a", "i2", 2))
    assert (await call).status == 200
    assert (len(away.seen), len(there.seen)) == (0, 1)


async def test_a_target_that_control_leaves_on_an_instance_that_is_down_is_called_there(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", "i2", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1"))
    rig.gateway.places_changed(frozenset({"i1"}), NONE)
    call = asyncio.create_task(rig.invoke(target="a"))
    await rig.control.receives(gateway_messages.TargetRequest)
    await rig.control.resident(rig.resident("a", "i1", 2))
    assert (await call).status == 200


async def test_control_is_told_at_once(rig: Rig) -> None:
    await rig.start(rig.route("i1", "i2"))
    for down in (("i1", "i2"), ("i2",), ()):
        rig.gateway.places_changed(frozenset(down), NONE)
        await until(lambda down=down: rig.control.counts and rig.control.counts.down == down)


@pytest.mark.parametrize("hot", [1, 3])
async def test_control_says_how_many_requests_make_a_target_hot(rig: Rig, hot: int) -> None:
    kept: list[Request] = []
    await rig.container("i1", kept.append)
    await rig.start(rig.route("i1", "i2", multi_model=True, hot=hot))
    await rig.control.resident(rig.resident("a", "i1"))
    calls = [asyncio.create_task(rig.invoke(target="a")) for _ in range(hot)]
    await until(lambda: len(kept) == hot)
    assert rig.control.received.empty()
    calls.append(asyncio.create_task(rig.invoke(target="a")))
    assert (await rig.control.receives(gateway_messages.TargetRequest)).hot
    await until(lambda: len(kept) == hot + 1)
    for request in kept:
        request.answer(200)
    await asyncio.gather(*calls)


# --- beats


async def test_the_beats_of_all_routes_are_held_and_those_of_no_route_are_closed(rig: Rig) -> None:
    async with listener() as (address, connections):
        beats = {"i1": address, "i2": address}
        await rig.start(with_beats(rig.route("i1"), beats), with_beats(rig.route("i2", name="other"), beats))
        await until(lambda: len(connections) == 1)
        await rig.control.settled()
        rig.control.swap(with_beats(rig.route("i2", name="other"), {}))
        await rig.control.settled()
        assert len(connections) == 1, "one is enough for two instances of one machine, and the other needs it still"
        rig.control.send(gateway_messages.DropRoute(99, "us-east-1/ep"))
        await until(lambda: not connections)
        rig.control.swap(with_beats(rig.route("i1"), beats))
        await until(lambda: connections)
        rig.control.send(gateway_messages.Snapshot("epoch-2", 1, (), ()))
        await until(lambda: not connections)


async def test_a_beat_that_is_refused_or_closed_was_answered() -> None:
    told = Told()
    with socket.socket() as bound:  # and does not listen
        bound.bind(("127.0.0.1", 0))
        port = bound.getsockname()[1]
        beats = Beats(told)
        beats.watch("k", {"i1": f"tcp:127.0.0.1:{port}"})
        await asyncio.sleep(0)
        bound.listen()
        bound.setblocking(False)
        loop = asyncio.get_running_loop()
        for _ in range(2):
            async with asyncio.timeout(60):
                connection, _ = await loop.sock_accept(bound)
            connection.close()
    await beats.close()
    assert not told.all


async def test_a_beat_whose_connect_nobody_answers_is_silent_until_one_does() -> None:
    told = Told()
    with socket.create_server(("127.0.0.1", 0), backlog=0) as listening:
        beats = Beats(told)
        with crowd(listening):
            beats.watch("k", {"i1": f"tcp:127.0.0.1:{listening.getsockname()[1]}"})
            await told.until(lambda: told.all == [(frozenset({"i1"}), NONE)])
        connections: set[asyncio.StreamWriter] = set()
        server = await asyncio.start_server(partial(hold, connections), sock=listening)
        await told.until(lambda: told.all[1:] == [(NONE, NONE)])
        await beats.close()
        await until(lambda: not connections)
        server.close()


class Told:
    """Notes what Beats say."""

    def __init__(self) -> None:
        self.all: list[tuple[frozenset[str], frozenset[str]]] = []
        self._told = asyncio.Event()

    def __call__(self, down: frozenset[str], cut: frozenset[str]) -> None:
        self.all.append((down, cut))
        self._told.set()

    async def until(self, condition: Callable[[], object]) -> None:
        async with asyncio.timeout(60):
            while not condition():
                await self._told.wait()
                self._told.clear()


async def hold(
    connections: set[asyncio.StreamWriter], reader: asyncio.StreamReader, writer: asyncio.StreamWriter
) -> None:
    """Take a beat, and keep it until the other end closes it."""
    connections.add(writer)
    await reader.read()
    connections.discard(writer)
    writer.close()
    await writer.wait_closed()


@contextlib.asynccontextmanager
async def listener() -> Any:
    """A page of an agent: its address, and the connections to it that are open."""
    connections: set[asyncio.StreamWriter] = set()
    server = await asyncio.start_server(partial(hold, connections), "127.0.0.1", 0)
    try:
        yield f"tcp:127.0.0.1:{server.sockets[0].getsockname()[1]}", connections
    finally:
        server.close()
