from __future__ import annotations

import asyncio

from rig import Rig, error, until

from hostler.wire import gateway_messages


async def test_a_single_model_endpoint_answers_with_what_its_container_says(rig: Rig) -> None:
    container = await rig.container("i1")
    await rig.start(rig.route("i1"))
    reply = await rig.invoke(b"1,2", content_type="text/csv", accept="text/plain")
    assert (reply.status, reply.body) == (200, b"echo:1,2")
    assert reply.headers["content-type"] == "text/plain"
    assert reply.headers["x-amzn-invoked-production-variant"] == "v"
    assert len(reply.headers["x-amzn-requestid"]) == 36
    assert reply.headers["server-timing"].startswith("infer;dur=")
    seen = container.seen[0]
    assert (seen.method, seen.path) == ("POST", "/invocations")
    assert seen.headers == {
        "host": "localhost",
        "content-type": "text/csv",
        "accept": "text/plain",
        "content-length": "3",
    }


async def test_a_miss_is_asked_for_once_and_everybody_is_answered(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    calls = [asyncio.create_task(rig.invoke(b"%d" % n, "a.tar.gz")) for n in range(20)]
    need = await rig.control.receives(gateway_messages.TargetRequest)
    assert (need.key, need.variant, need.target, need.hot) == ("us-east-1/ep", "v", "a.tar.gz", False)
    await until(lambda: len(rig.gateway.context.pending) == 20)
    rig.control.send(rig.resident("a.tar.gz", "i1", timing=gateway_messages.Timing(0.0, 0.1, 0.2, 0.3)))
    replies = await asyncio.gather(*calls)
    assert [reply.body for reply in replies] == [b"echo:%d" % n for n in range(20)]
    assert rig.control.received.empty()
    assert "download;dur=100.00, extract;dur=200.00, load;dur=300.00" in replies[0].headers["server-timing"]
    assert replies[0].headers["server-timing"].endswith("cache;desc=miss")
    hit = await rig.invoke(b"x", "/a.tar.gz")
    assert hit.headers["server-timing"].endswith("cache;desc=hit")


async def test_an_unknown_endpoint_is_a_validation_error(rig: Rig) -> None:
    await rig.start()
    reply = await rig.invoke(name="nope")
    assert (reply.status, reply.headers["x-amzn-errortype"]) == (400, "ValidationError")
    assert error(reply)["Message"] == "Endpoint nope of account 123456789012 not found."


async def test_while_every_instance_is_being_replaced_callers_wait_for_the_next_one(rig: Rig) -> None:
    await rig.container("i2")
    await rig.start(rig.route())
    calls = [asyncio.create_task(rig.invoke(b"%d" % n)) for n in range(5)]
    await until(lambda: len(rig.gateway.context.pending) == 5)
    rig.control.send(gateway_messages.SetRoute(1, rig.route("i2")))
    assert [reply.body for reply in await asyncio.gather(*calls)] == [b"echo:%d" % n for n in range(5)]
