"""Containers of several processes: each request to the one with the fewest, or to the container if that one is gone."""

from __future__ import annotations

import asyncio
from typing import Any

import pytest
from rig import Container, Rig, pool, until

from hostler.wire import gateway_messages
from hostler.wire.http_request import Request


def addresses(*containers: Container) -> tuple[str, ...]:
    return tuple(one.address for one in containers)


def place(front: Container, *workers: Container) -> gateway_messages.Route:
    """An endpoint of one instance of one container."""
    there = gateway_messages.InstanceAddress("i1", (front.address,), (addresses(*workers),))
    return gateway_messages.Route(
        "us-east-1/ep", (gateway_messages.Variant("v", 1.0, (gateway_messages.Container("primary"),), pool(there)),)
    )


async def crew(rig: Rig, script: Any = None) -> list[Container]:
    return [await rig.container(name, script) for name in ("s", "w0", "w1")]


async def test_requests_go_to_the_worker_with_the_fewest_and_none_to_the_container_itself(rig: Rig) -> None:
    kept: list[Request] = []
    front, *workers = await crew(rig, kept.append)
    await rig.start(place(front, *workers))
    calls = [asyncio.create_task(rig.invoke()) for _ in range(10)]
    await until(lambda: len(kept) == 10)
    assert [len(one.seen) for one in (front, *workers)] == [0, 5, 5]
    for request in workers[0].seen:
        request.answer(200)
    await until(lambda: sum(call.done() for call in calls) == 5)
    calls += [asyncio.create_task(rig.invoke()) for _ in range(5)]
    await until(lambda: len(workers[0].seen) == 10)
    for one in workers:
        for request in one.seen[-5:]:
            request.answer(200)
    assert {reply.status for reply in await asyncio.gather(*calls)} == {200}
    assert not rig.in_flight


async def test_calls_of_all_targets_count_at_a_worker(rig: Rig) -> None:
    kept: list[Request] = []
    front, *workers = await crew(rig, kept.append)
    await rig.start(rig.route("s", multi_model=True))
    for target in ("a", "b", "c", "d"):
        await rig.control.resident(rig.resident(target, "s", workers=addresses(*workers)))
    calls = [asyncio.create_task(rig.invoke(target=target)) for target in ("a", "b", "c", "d")]
    await until(lambda: len(kept) == 4)
    assert [len(one.seen) for one in (front, *workers)] == [0, 2, 2]
    assert {request.path for request in kept} == {f"/models/m-{target}/invoke" for target in "abcd"}
    for request in kept:
        request.answer(200)
    await asyncio.gather(*calls)


@pytest.mark.parametrize("multi_model", [False, True])
async def test_where_a_worker_takes_no_connection_the_container_itself_is_asked(rig: Rig, multi_model: bool) -> None:
    front, *workers = await crew(rig)
    if multi_model:
        await rig.start(rig.route("s", multi_model=True))
        await rig.control.resident(rig.resident("a", "s", workers=addresses(*workers)))
    else:
        await rig.start(place(front, *workers))
    for one in workers:
        await one.stop()
    reply = await rig.invoke(b"x", "a" if multi_model else "")
    assert (reply.status, reply.body) == (200, b"echo:x")
    assert len(front.seen) == 1
    assert rig.control.received.empty()  # it has the target still, as far as anybody knows
    await front.stop()
    reply = asyncio.create_task(rig.invoke(b"x", "a" if multi_model else ""))
    if multi_model:
        assert (await rig.control.receives(gateway_messages.TargetMissing)).status == 0
        reply.cancel()
    else:
        assert (await reply).status == 424


async def test_a_chain_chooses_a_worker_of_each_container_and_stays_with_the_instance(rig: Rig) -> None:
    kept: list[Request] = []
    fronts = [await rig.container(name) for name in ("a", "b")]
    first = [await rig.container(name) for name in ("a0", "a1")]
    second = [await rig.container(name, kept.append) for name in ("b0", "b1")]
    there = gateway_messages.InstanceAddress("i1", addresses(*fronts), (addresses(*first), addresses(*second)))
    containers = (gateway_messages.Container("a"), gateway_messages.Container("b"))
    await rig.start(
        gateway_messages.Route("us-east-1/ep", (gateway_messages.Variant("v", 1.0, containers, pool(there)),))
    )
    calls = [asyncio.create_task(rig.invoke()) for _ in range(6)]
    await until(lambda: len(kept) == 6)
    assert [len(one.seen) for one in second] == [3, 3]
    assert sum(len(one.seen) for one in first) == 6
    for request in kept:
        request.answer(200)
    assert {reply.status for reply in await asyncio.gather(*calls)} == {200}
    await second[0].stop()
    await second[1].stop()
    assert (await rig.invoke(b"x")).body == b"echo:echo:x"
    assert [len(one.seen) for one in fronts] == [0, 1]
    assert not rig.in_flight


async def test_a_worker_is_counted_for_as_long_as_its_caller_stays(rig: Rig) -> None:
    front, *workers = await crew(rig, lambda request: None)
    await rig.start(place(front, *workers))
    for _ in range(4):
        call = asyncio.create_task(rig.invoke())
        await until(lambda: rig.in_flight)
        call.cancel()
        await asyncio.gather(call, return_exceptions=True)
        await until(lambda: not rig.in_flight)
    (variant,) = rig.gateway.context.routes.endpoints["us-east-1/ep"].variants.values()
    assert [worker.count for worker in variant.pools[0].backends[0].upstreams[0].workers] == [0, 0]
