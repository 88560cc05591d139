"""Misses, withdrawals, refusals, lost targets and a lost control: the link's flows as a gateway lives them."""

from __future__ import annotations

import asyncio

import pytest
from rig import GUARD, Rig, error, running, until

from hostler.contract import MAX_BODY
from hostler.wire import gateway_messages
from hostler.wire.door import Knock
from hostler.wire.http_request import Request

BIG = b"x" * 1_000_000  # longer than what is read ahead


async def test_hits_are_reported_soon_each_target_by_its_last_use_and_with_all_its_uses(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1"))
    await rig.control.resident(rig.resident("b", "i1"))
    for target in "abbba":
        await rig.invoke(target=target)
    await until(lambda: sum(hit.uses for hit in rig.control.hits) == 5)
    told: dict[str, int] = {}
    for hit in rig.control.hits:
        told[hit.target] = told.pop(hit.target, 0) + hit.uses  # to its end: it was used last
        assert hit == gateway_messages.Hit("i1", hit.target, hit.uses)
    assert list(told.items()) == [("b", 3), ("a", 2)]


async def test_a_need_carries_the_hits_before_it(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1"))
    await rig.invoke(target="a")
    call = asyncio.create_task(rig.invoke(target="b"))
    need = await rig.control.receives(gateway_messages.TargetRequest)
    assert [hit.target for hit in need.hits] == ["a"]
    rig.control.send(rig.resident("b", "i1"))
    await call


async def test_a_withdrawn_target_is_requested_again_and_busy_is_reported(rig: Rig) -> None:
    waiting: list[Request] = []
    await rig.container("i1", waiting.append)
    await rig.start(rig.route("i1", multi_model=True))
    resident = rig.resident("a", "i1")
    withdraw = gateway_messages.Withdraw("us-east-1/ep", "v", 1, "a", "i1", 1)
    await rig.control.resident(resident)
    first = asyncio.create_task(rig.invoke(b"1", "a"))
    await until(lambda: waiting)

    rig.control.send(withdraw)
    withdrawn = await rig.control.receives(gateway_messages.Withdrawn)
    assert (withdrawn.target, withdrawn.instance, withdrawn.generation, withdrawn.busy) == ("a", "i1", 1, True)
    assert [hit.target for hit in withdrawn.hits] == ["a"]

    second = asyncio.create_task(rig.invoke(b"2", "a"))
    await rig.control.receives(gateway_messages.TargetRequest)
    await rig.control.resident(resident)  # control takes it back: it was busy
    await until(lambda: len(waiting) == 2)
    for request in waiting:
        request.answer(200, request.body)
    assert [(await call).body for call in (first, second)] == [b"1", b"2"]

    rig.control.send(withdraw)
    assert not (await rig.control.receives(gateway_messages.Withdrawn)).busy


async def test_a_request_from_before_a_withdrawal_still_counts_after_it_is_published_again(rig: Rig) -> None:
    waiting: list[Request] = []
    await rig.container("i1", waiting.append)
    await rig.start(rig.route("i1", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1"))
    call = asyncio.create_task(rig.invoke(b"1", "a"))
    await until(lambda: waiting)
    for epoch in ("epoch-1", "epoch-2"):
        rig.control.send(gateway_messages.Withdraw("us-east-1/ep", "v", 1, "a", "i1", 1))
        assert (await rig.control.receives(gateway_messages.Withdrawn)).busy, epoch
        resident = rig.resident("a", "i1")
        rig.control.send(gateway_messages.Snapshot(epoch, 7, (rig.route("i1", multi_model=True),), (resident,)))
    waiting[0].answer(200)
    await call


async def test_an_old_withdrawal_does_not_hide_a_newer_load(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1", 2))
    await rig.control.resident(rig.resident("a", "i1", 1))
    rig.control.send(gateway_messages.Withdraw("us-east-1/ep", "v", 1, "a", "i1", 1))
    await rig.control.receives(gateway_messages.Withdrawn)
    assert (await rig.invoke(target="a")).status == 200


REFUSALS = [
    ("missing", 0, 400, "ValidationError", None, "S3 says no"),
    ("bad", 500, 424, "ModelError", 500, "Received server error (500) from primary with message"),
    ("bad", 400, 424, "ModelError", 400, "Received client error (400) from primary with message"),
    ("bad", 0, 424, "ModelError", 0, "Received server error (0) from primary with message"),
    ("too_big", 0, 424, "ModelError", 507, "Received server error (507) from primary with message"),
    ("no_memory", 507, 424, "ModelError", 507, "Received server error (507) from primary with message"),
    ("unavailable", 0, 530, "InternalDependencyException", None, "S3 says no"),
    ("not_ready", 0, 429, "ModelNotReadyException", None, "Model a for endpoint ep variant v is not ready"),
]


@pytest.mark.parametrize(("kind", "load", "status", "name", "original", "words"), REFUSALS)
async def test_a_refused_target_answers_everybody_who_waits(
    rig: Rig, kind: str, load: int, status: int, name: str, original: int | None, words: str
) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    calls = [asyncio.create_task(rig.invoke(target="a")) for _ in range(2)]
    await rig.control.receives(gateway_messages.TargetRequest)
    await until(lambda: len(rig.gateway.context.pending) == 2)
    rig.control.send(gateway_messages.Refused("us-east-1/ep", "v", 1, "a", kind, "S3 says no", load))  # type: ignore[arg-type]
    for reply in await asyncio.gather(*calls):
        assert (reply.status, reply.headers["x-amzn-errortype"]) == (status, name)
        assert words in error(reply)["Message"]
        assert error(reply).get("OriginalStatusCode") == original
        assert "cache;desc=miss" in reply.headers["server-timing"]


async def test_a_miss_past_its_time_is_not_ready_and_the_last_to_leave_says_so() -> None:
    async with running(invoke_timeout=0.01) as rig:
        await rig.container("i1")
        await rig.start(rig.route("i1", multi_model=True))
        reply = await rig.invoke(target="a")
        assert (reply.status, error(reply)["ErrorCode"]) == (429, "MODEL_NOT_READY")
        await rig.control.receives(gateway_messages.TargetRequest)
        assert await rig.control.receives(gateway_messages.Abandoned) == gateway_messages.Abandoned(
            "us-east-1/ep", "v", 1, "a"
        )


async def test_callers_that_leave_while_they_wait_leave_nothing_behind(rig: Rig) -> None:
    container = await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    calls = [asyncio.create_task(rig.invoke(target="a")) for _ in range(3)]
    await rig.control.receives(gateway_messages.TargetRequest)
    await until(lambda: len(rig.gateway.context.pending) == 3)
    calls[0].cancel()
    await until(lambda: len(rig.gateway.context.pending) == 2)
    assert rig.control.received.empty()
    calls[1].cancel()
    calls[2].cancel()
    await rig.control.receives(gateway_messages.Abandoned)
    rig.control.send(rig.resident("a", "i1"))
    await rig.control.settled()
    assert container.seen == []


async def test_bodies_that_wait_have_a_bounded_sum(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    rig.gateway.context.pending.room = 100_000
    first = asyncio.create_task(rig.invoke(b"x" * 90_000, "a"))
    await rig.control.receives(gateway_messages.TargetRequest)
    reply = await rig.invoke(b"x" * 90_000, "a")
    assert (reply.status, error(reply)["ErrorCode"]) == (429, "MODEL_NOT_READY")
    rig.control.send(rig.resident("a", "i1"))
    assert (await first).status == 200
    assert rig.gateway.context.pending.room == 100_000


async def test_a_long_body_waits_outside_and_arrives_whole(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    body = bytes(range(256)) * (MAX_BODY // 256)
    call = asyncio.create_task(rig.invoke(body, "a"))
    await rig.control.receives(gateway_messages.TargetRequest)
    (waiter,) = rig.gateway.context.pending.waiting()
    assert waiter.buffered < 1_000_000
    rig.control.send(rig.resident("a", "i1"))
    assert (await call).body == b"echo:" + body


# --- lost targets


@pytest.mark.parametrize("status", [404, 507])
async def test_a_container_that_lost_the_target_is_reported_and_asked_once_more(rig: Rig, status: int) -> None:
    def script(request: Request) -> None:
        first = len(rig.containers["i1"].seen) == 1
        request.answer(status if first else 200, b"lost" if first else b"found")

    await rig.container("i1", script)
    await rig.start(rig.route("i1", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1", 1))
    call = asyncio.create_task(rig.invoke(target="a"))
    gone = await rig.control.receives(gateway_messages.TargetMissing)
    assert (gone.target, gone.instance, gone.generation, gone.status) == ("a", "i1", 1, status)
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(rig.resident("a", "i1", 2))
    assert (await call).body == b"found"


async def test_a_404_of_the_users_own_is_not_asked_for_ever(rig: Rig) -> None:
    container = await rig.container("i1", lambda request: request.answer(404, b"no such row"))
    await rig.start(rig.route("i1", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1", 1))
    call = asyncio.create_task(rig.invoke(target="a"))
    await rig.control.receives(gateway_messages.TargetMissing)
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(rig.resident("a", "i1", 2))
    reply = await call
    assert (reply.status, error(reply)["OriginalStatusCode"]) == (424, 404)
    assert error(reply)["OriginalMessage"] == "no such row"
    assert len(container.seen) == 2
    assert rig.control.received.empty()


async def test_a_body_that_has_flowed_away_is_not_sent_twice(rig: Rig) -> None:
    await rig.container("i1", lambda request: request.answer(404, b"lost"))
    await rig.start(rig.route("i1", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1", 1))
    reply = await rig.invoke(BIG, "a")
    assert (reply.status, error(reply)["OriginalStatusCode"]) == (424, 404)
    await rig.control.receives(gateway_messages.TargetMissing)


async def test_a_target_on_a_dead_container_is_asked_for_elsewhere(rig: Rig) -> None:
    dead, alive = await rig.container("i1"), await rig.container("i2")
    await rig.start(rig.route("i1", "i2", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1"))
    await dead.stop()
    dead.path.unlink(missing_ok=True)
    for body in (b"short", BIG):
        call = asyncio.create_task(rig.invoke(body, "a"))
        assert (await rig.control.receives(gateway_messages.TargetMissing)).status == 0
        await rig.control.receives(gateway_messages.TargetRequest)
        rig.control.send(rig.resident("a", "i2"))
        assert (await call).body == b"echo:" + body
        rig.control.send(gateway_messages.Withdraw("us-east-1/ep", "v", 1, "a", "i2", 1))
        await rig.control.receives(gateway_messages.Withdrawn)
        await rig.control.resident(rig.resident("a", "i1"))
    assert len(alive.seen) == 2


async def test_a_control_that_insists_on_a_dead_container_is_not_believed_for_ever(rig: Rig) -> None:
    await rig.start(rig.route("i1", multi_model=True))
    call = asyncio.create_task(rig.invoke(target="a"))
    for generation in range(3):
        await rig.control.receives(gateway_messages.TargetRequest)
        rig.control.send(rig.resident("a", "i1", generation))
        await rig.control.receives(gateway_messages.TargetMissing)
    reply = await call
    assert (reply.status, error(reply)["OriginalStatusCode"]) == (424, 0)


# --- several instances


async def test_a_crowded_target_asks_for_one_more_copy_at_most_once_a_second(rig: Rig) -> None:
    waiting: list[Request] = []
    await rig.container("i1", waiting.append)
    await rig.start(rig.route("i1", "i2", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1"))
    begun = rig.gateway.context.time()
    calls = [asyncio.create_task(rig.invoke(target="a")) for _ in range(200)]
    need = await rig.control.receives(gateway_messages.TargetRequest)
    assert (need.target, need.hot) == ("a", True)
    await until(lambda: len(waiting) == 200)
    assert rig.control.received.qsize() <= rig.gateway.context.time() - begun  # one for each further second
    for request in waiting:
        request.answer(200)
    await asyncio.gather(*calls)


async def test_requests_go_where_fewest_are_in_flight(rig: Rig) -> None:
    waiting: list[Request] = []

    for name in ("i1", "i2", "i3"):
        await rig.container(name, waiting.append)
    await rig.start(rig.route("i1", "i2", "i3", routing="LEAST_OUTSTANDING_REQUESTS"))
    calls = [asyncio.create_task(rig.invoke()) for _ in range(30)]
    await until(lambda: len(waiting) == 30)
    assert [len(container.seen) for container in rig.containers.values()] == [10, 10, 10]
    for request in waiting:
        request.answer(200)
    await asyncio.gather(*calls)


async def test_a_new_route_forgets_residents_on_instances_that_are_gone(rig: Rig) -> None:
    await rig.container("i1")
    await rig.container("i2")
    await rig.start(rig.route("i1", "i2", multi_model=True))
    await rig.control.resident(rig.resident("a", "i1"))
    await rig.control.resident(rig.resident("a", "i2"))
    rig.control.send(gateway_messages.SetRoute(1, rig.route("i2", multi_model=True)))
    await rig.control.settled()
    for _ in range(5):
        assert (await rig.invoke(target="a")).status == 200
    assert rig.containers["i1"].seen == []
    rig.control.send(gateway_messages.SetRoute(2, rig.route("i1", multi_model=True)))
    await rig.control.settled()
    call = asyncio.create_task(rig.invoke(target="a"))
    await rig.control.receives(gateway_messages.TargetRequest)
    call.cancel()


# --- control away


async def test_residents_are_served_without_control_and_misses_are_asked_again(rig: Rig) -> None:
    await rig.container("i1")
    route = rig.route("i1", multi_model=True)
    await rig.start(route)
    await rig.control.resident(rig.resident("a", "i1"))
    await rig.control.stop()
    await until(lambda: not rig.gateway.link.connected)
    assert (await rig.invoke(target="a")).status == 200
    miss = asyncio.create_task(rig.invoke(target="b"))
    await until(lambda: len(rig.gateway.context.pending) == 1)
    await rig.control.start()
    await rig.control.receives(Knock)
    rig.control.send(gateway_messages.Snapshot("epoch-2", 40, (route,), ()))
    assert await rig.control.receives(gateway_messages.Ack) == gateway_messages.Ack("epoch-2", 40)
    assert (await rig.control.receives(gateway_messages.TargetRequest)).target == "b"
    rig.control.send(rig.resident("b", "i1"))
    assert (await miss).status == 200


async def test_a_control_that_another_one_has_replaced_is_not_heard(rig: Rig) -> None:
    await rig.container("i1")
    route = rig.route("i1")
    await rig.start(route)
    for term, heard in ((7, True), (6, False), (0, True), (7, True), (8, True), (7, False)):  # 0: an older version's
        await rig.control.stop()
        await until(lambda: not rig.gateway.link.connected)
        await rig.control.start()
        await rig.control.receives(Knock)
        routes = (route,) if heard else ()
        rig.control.send(gateway_messages.Snapshot(f"epoch-{term}", 40, routes, (), term=term))
        if heard:
            assert await rig.control.receives(gateway_messages.Ack) == gateway_messages.Ack(f"epoch-{term}", 40)
        else:
            await until(lambda: not rig.gateway.link.connected)
        assert (await rig.invoke()).status == 200


async def test_a_request_that_waits_for_an_endpoint_that_is_deleted_is_answered_that_it_is_unknown(rig: Rig) -> None:
    await rig.start(rig.route("i1", multi_model=True))
    call = asyncio.create_task(rig.invoke(target="a"))
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(gateway_messages.DropRoute(1, "us-east-1/ep"))
    reply = await call
    assert (reply.status, error(reply)["ErrorCode"]) == (400, "NO_SUCH_ENDPOINT")


async def test_a_gateway_without_routes_takes_no_connection(rig: Rig) -> None:
    await rig.container("i1")
    starting = asyncio.create_task(rig.start(rig.route("i1")))
    await until(lambda: rig.port)
    assert (await rig.invoke()).status == 200
    await starting


async def test_a_target_that_cannot_be_loaded_is_an_error_of_the_model_without_a_latency(rig: Rig) -> None:
    await rig.container("i1")
    await rig.start(rig.route("i1", multi_model=True))
    call = asyncio.create_task(rig.invoke(b"x", "a"))
    await rig.control.receives(gateway_messages.TargetRequest)
    rig.control.send(gateway_messages.Refused("us-east-1/ep", "v", 1, "a", "bad", "no such luck", 415))
    assert (await call).status == 424
    (sums,) = rig.gateway.counts().variants
    assert (sums.invocations, sums.errors_4xx, sums.model_errors, sums.cache_misses) == (1, 1, 1, 1)
    assert (sum(sums.buckets), sums.model_latency) == (0, 0)


async def test_counters_are_sums_and_come_every_second(rig: Rig) -> None:
    await rig.container("i1", lambda request: request.answer(int(request.body)))
    await rig.start(rig.route("i1"))
    for body in (b"200", b"200", b"400", b"500"):
        await rig.invoke(body)
    (sums,) = rig.gateway.counts().variants
    assert (sums.key, sums.variant) == ("us-east-1/ep", "v")
    assert (sums.invocations, sums.errors_4xx, sums.errors_5xx, sums.model_errors) == (4, 1, 1, 2)
    assert sum(sums.buckets) == 4
    assert 0 < sums.model_latency < GUARD
    await until(lambda: rig.control.counts)
    assert rig.control.counts
    assert rig.control.counts.in_flight == 0
