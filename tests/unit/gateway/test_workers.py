"""Containers of several processes: each request to the one with the fewest, or to the container if that one is gone."""

from __future__ import annotations

import asyncio
import socket
import time
from typing import Any

import msgspec
import pytest
from rig import Container, Hung, Rig, pool, until

from hostler.contract import H_CALL, MAX_STREAM
from hostler.wire import gateway_messages
from hostler.wire.http_client import BUFFER
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


@pytest.mark.parametrize(("length", "status"), [(1, 200), (BUFFER, 200), (BUFFER + 1, 424)])
async def test_a_call_that_a_worker_had_not_read_when_it_was_killed_goes_to_the_container(
    rig: Rig, length: int, status: int
) -> None:
    """Unless its body was passed on as it came: then it is here no more."""
    front, worker = await rig.container("s"), Hung(rig.run / "w0")
    there = gateway_messages.InstanceAddress("i1", (front.address,), ((worker.address,),))
    containers = (gateway_messages.Container("primary"),)
    await rig.start(
        gateway_messages.Route("us-east-1/ep", (gateway_messages.Variant("v", 1.0, containers, pool(there)),))
    )
    call = asyncio.create_task(rig.invoke(bytes(length)))
    await until(rig.sent)
    worker.end()
    reply = await call
    assert reply.status == status
    assert len(front.seen) == (status == 200)


async def test_a_call_that_a_target_s_process_had_not_read_when_it_was_killed_goes_to_its_successor(rig: Rig) -> None:
    container, process = await rig.container("i1"), Hung(rig.run / "t1")
    await rig.start(rig.route("i1", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1", container="t1"))
    call = asyncio.create_task(rig.invoke(b"x", "a"))
    await until(rig.sent)
    process.end()
    missing = await rig.control.receives(gateway_messages.TargetMissing)
    assert (missing.instance, missing.generation, missing.status) == ("i1", 1, 0)
    await rig.control.receives(gateway_messages.TargetRequest)
    successor = await rig.container("t2")
    rig.control.send(rig.resident("a", "i1", 2, container="t2"))
    assert (await call).body == b"echo:x"
    assert (len(successor.seen), len(container.seen)) == (1, 0)


async def test_a_call_that_a_process_had_read_when_it_was_killed_is_answered_with_an_error(rig: Rig) -> None:
    async def read_all() -> None:
        reading, _ = await asyncio.get_running_loop().sock_accept(listening)
        await asyncio.get_running_loop().sock_recv(reading, 2**20)
        reading.close()

    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1", container="t1"))
    with socket.socket(socket.AF_UNIX) as listening:
        listening.setblocking(False)
        listening.bind(str(rig.run / "t1"))
        listening.listen()
        reply, _ = await asyncio.gather(rig.invoke(b"x", "a"), read_all())
    assert reply.status == 424
    assert rig.control.received.empty()


async def test_only_processes_of_our_own_get_a_call_s_id_and_the_times_at_which_its_time_is_up(rig: Rig) -> None:
    front, *workers = await crew(rig)
    target = await rig.container("t1")
    await rig.start(place(front, *workers), rig.route("s", multi_model=True, name="many"))
    targets = {"process": {"container": "t1"}, "replicas": {"workers": addresses(*workers)}, "inline": {}}
    for name, more in targets.items():
        resident = rig.resident(name, "s", **more)
        await rig.control.resident(msgspec.structs.replace(resident, key="us-east-1/many"))

    async def times(target_model: str, endpoint: str, operation: str = "invocations") -> list[float]:
        """The times that a call's container got, in seconds from now."""
        reply = await rig.invoke(b"x", target_model, name=endpoint, operation=operation, X_Hostler_Call="forged 1")
        seen = [request.headers[H_CALL].split() for one in (target, *workers) for request in one.seen]
        (words,) = [words for id, *words in seen if id == reply.headers["x-amzn-requestid"]]
        return [float(word) - time.time() for word in words]

    for name, endpoint in (("process", "many"), ("replicas", "many"), ("", "ep")):
        (until_answered,) = await times(name, endpoint)
        assert 0 < until_answered < 61
    until_begun, until_streamed = await times("", "ep", "invocations-response-stream")
    assert 0 < until_begun < 61 < until_streamed < MAX_STREAM + 1
    await rig.invoke(b"x", "inline", name="many", X_Hostler_Call="forged 1")
    assert H_CALL not in front.seen[-1].headers


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
