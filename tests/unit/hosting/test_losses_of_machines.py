"""A machine that is gone: what control makes of the gateways' word, and of its own."""

from __future__ import annotations

import asyncio

import pytest
from ground import KEY, Ground, passes, record, status

from hostler.hosting import clock
from hostler.hosting.witnesses import HEARD, Witnesses
from hostler.wire import gateway_messages
from silent_ports import refusing, silent

pytestmark = pytest.mark.simulated


async def test_an_instance_on_a_machine_that_all_call_silent_is_replaced_at_once_beside_it(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        first, second, new = f"{uid}.1.0.0.0", f"{uid}.1.0.1.0", f"{uid}.1.0.1.1"
        with silent() as beat:
            ground.engine.report(second, beat=beat, machine="node-2/zone-b")
            await gateway.until(lambda: beat in gateway.routes[KEY].beats().values())
            ground.containers[f"{second}.0"].ping = 0
            ground.engine.cannot_stop.add(second)
            begun = clock.now()
            gateway.call_down(second)
            await gateway.until(lambda: gateway.places() == [first, new])
            assert clock.now() - begun < 5.0
            assert (ground.engine.avoided[first], ground.engine.avoided[new]) == ((), ("node-2/zone-b",))
            assert reconciler.instances[second].reason.startswith("The machine node-2/zone-b of an instance of")
            assert record(reconciler, uid).status == "InService"
        ground.engine.cannot_stop.clear()
        await passes(reconciler, lambda: second not in reconciler.instances)


async def test_an_instance_that_control_alone_does_not_reach_serves_on(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        id = f"{uid}.1.0.0.0"
        with silent() as beat:
            ground.engine.report(id, beat=beat)
            ground.containers[f"{id}.0"].ping = 0
            await passes(reconciler, lambda: reconciler.instances[id].unheard)
            await asyncio.sleep(60.0)
            assert gateway.places() == [id]


async def test_an_instance_that_gateways_alone_call_down_serves_on(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        id = f"{uid}.1.0.0.0"
        ground.engine.report(id, beat=refusing())
        gateway.call_down(id)
        await asyncio.sleep(60.0)
        assert (gateway.places(), reconciler.instances[id].state) == ([id], "ready")


async def test_half_of_the_instances_at_most_are_given_up_until_these_are_replaced(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint(count=4)
        await status(reconciler, uid, "InService")
        olds = [f"{uid}.1.0.{slot}.0" for slot in range(4)]
        with silent() as beat:
            ground.engine.may_prepare.clear()
            for id in olds:
                ground.engine.report(id, beat=beat)
                ground.containers[f"{id}.0"].ping = 0
            gateway.call_down(*olds)
            await gateway.until(lambda: len(gateway.places()) == 2)
            await asyncio.sleep(60.0)
            assert len(gateway.places()) == 2, "it may be control, and these gateways, that are cut off"
            ground.engine.may_prepare.set()
            await gateway.until(lambda: len(gateway.places()) == 4 and not {*olds} & {*gateway.places()})
            gateway.call_down()


async def test_a_target_that_is_waited_for_is_loaded_where_the_machine_is_up(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a.tar.gz")
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        gateway.need("a.tar.gz")
        await gateway.until(lambda: gateway.where("a.tar.gz"))
        [home] = gateway.where("a.tar.gz")
        [other] = {f"{uid}.1.0.0.0", f"{uid}.1.0.1.0"} - {home}
        gateway.call_down(home)
        gateway.need("a.tar.gz")
        await gateway.until(lambda: gateway.where("a.tar.gz") == [home, other])
        gateway.call_down(home, other)
        gateway.need("a.tar.gz")  # it is published again where it is: nothing is better
        await asyncio.sleep(10.0)
        assert gateway.where("a.tar.gz") == [home, other]


async def test_a_target_is_hot_past_two_calls_for_each_processor_of_its_instance_and_gateway(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        (variant,) = gateway.routes[KEY].variants
        assert variant.hot == 2, "the fake engine's instances have one processor"


async def test_the_word_of_a_gateway_counts_for_a_while(ground: Ground) -> None:
    witnesses = Witnesses()
    assert not witnesses.agree("i1"), "nobody has said anything"
    witnesses.hear("g1", ["i1"])
    witnesses.hear("g2", [])
    assert (witnesses.agree("i1"), witnesses.down()) == (False, {"i1"})
    await asyncio.sleep(HEARD / 2)
    witnesses.hear("g1", ["i1", "i2"])
    await asyncio.sleep(HEARD / 2 + 0.01)
    assert witnesses.agree("i1"), "g2 is silent itself"
    assert witnesses.down() == {"i1", "i2"}
    witnesses.forget("g1")
    assert not witnesses.agree("i1")
    assert witnesses.down() == set()
    assert gateway_messages.Counts((), 0, 0).down == (), "what an older gateway says"
