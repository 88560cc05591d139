"""Calls that time out are counted for each container of an instance, in a row, and reported to control."""

from __future__ import annotations

import asyncio

from rig import Rig, running, until

from hostler.wire.gateway_messages import CallsTimedOut
from hostler.wire.http_call import Reply
from hostler.wire.http_request import Request


async def times_out(rig: Rig) -> tuple[Reply, CallsTimedOut]:
    """Make a call whose time is up while it is with a container."""
    call = asyncio.create_task(rig.invoke())
    await until(rig.sent)
    rig.expire()
    return await call, await rig.control.receives(CallsTimedOut)


async def test_calls_that_time_out_are_counted_until_an_answer(rig: Rig) -> None:
    kept: list[Request] = []
    container = await rig.container("i1", kept.append)
    await rig.start(rig.route("i1"))
    for number in (1, 2, 3):
        reply, report = await times_out(rig)
        assert reply.status == 424
        assert report == CallsTimedOut("i1", 0, number, reply.headers["x-amzn-requestid"])
    container.script = lambda request: request.answer(500, b"no")
    assert (await rig.invoke()).status == 424  # an error is an answer
    container.script = kept.append
    assert (await times_out(rig))[1].in_a_row == 1
    assert rig.control.received.empty()


async def test_each_container_of_a_chain_has_a_count_of_its_own(rig: Rig) -> None:
    kept: list[Request] = []
    await rig.instance("i1", None, kept.append)
    await rig.start(rig.several("i1"))
    for number in (1, 2):
        call = asyncio.create_task(rig.invoke())
        await until(lambda: kept)
        kept.clear()
        rig.expire()
        await call
        report = await rig.control.receives(CallsTimedOut)
        assert (report.container, report.in_a_row) == (1, number)


async def test_a_caller_with_the_same_time_out_may_leave_first_and_the_call_counts() -> None:
    """The container has the call for all of its time, whoever sees the end of it first."""
    async with running(invoke_timeout=0.1) as rig:
        await rig.container("i1", lambda request: None)
        await rig.start(rig.route("i1"))
        rig.gateway.context.timeout = 0.0  # of which the call has had the whole, when its caller leaves
        call = asyncio.create_task(rig.invoke())
        await until(rig.sent)
        call.cancel()
        assert (await rig.control.receives(CallsTimedOut)).in_a_row == 1


async def test_a_caller_that_leaves_early_does_not_count(rig: Rig) -> None:
    await rig.container("i1", lambda request: None)
    await rig.start(rig.route("i1"))
    call = asyncio.create_task(rig.invoke())
    await until(rig.sent)
    call.cancel()
    await until(lambda: not rig.in_flight)
    assert (await times_out(rig))[1].in_a_row == 1


async def test_a_container_that_was_not_sent_the_whole_request_has_let_nothing_time_out(rig: Rig) -> None:
    """Its caller was too slow."""
    await rig.container("i1", lambda request: None)
    await rig.start(rig.route("i1"))
    reader, writer = await asyncio.open_connection("127.0.0.1", rig.port)
    writer.write(
        b"POST /endpoints/ep/invocations HTTP/1.1\r\nHost: localhost\r\nContent-Length: 5000000\r\n\r\n"
        + bytes(300_000)
    )
    await until(rig.sent)
    rig.expire()
    assert b" 424 " in await reader.readline()
    writer.close()
    await rig.control.settled()
    assert rig.control.received.empty()
