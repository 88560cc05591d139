"""Faults on purpose in control: what gateways are told and answered, slow and failing loads, killed containers, and
when a rule is gone."""

from __future__ import annotations

import asyncio

import pytest
from ground import KEY, Container, Gateway, Ground, passes, status

from hostler.core.faults import Rule
from hostler.hosting import clock
from hostler.hosting.faults import Faults
from hostler.hosting.reconciler import Reconciler
from hostler.wire.gateway_messages import FaultQuery, FaultScope

pytestmark = pytest.mark.simulated

A = "a.tar.gz"


async def asked(gateway: Gateway, number: int = 1, **query: object) -> Rule | None:
    """The fault of one call."""
    id = f"request-{number}"
    given = {"variant": "v", "fleet": 1, "target": A, "containers": ("primary",), "stream": False, **query}
    gateway.frames.send(FaultQuery(id, KEY, **given))  # type: ignore[arg-type]
    await gateway.until(lambda: id in gateway.decisions)
    return gateway.decisions.pop(id).rule


async def until_published(gateway: Gateway, *ids: str) -> None:
    await gateway.until(lambda: tuple(scope.id for scope in gateway.faults) == ids)


async def in_service(ground: Ground, reconciler: Reconciler, count: int = 1) -> str:
    ground.put(f"p/{A}")
    uid = ground.endpoint(count)
    await status(reconciler, uid, "InService")
    return uid


async def test_a_rule_is_set_when_every_gateway_knows_it_and_their_calls_are_one_sequence(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler)
        faults = reconciler.faults
        await faults.put(Rule("ModelError", id="f", region="us-east-1", endpoint="ep", first=2), uid)
        assert gateway.faults == (FaultScope("f", "us-east-1", "ep"),)
        met = [await asked(gateway, number) for number in range(4)]
        assert [rule and rule.id for rule in met] == ["f", "f", None, None]
        assert faults.described()[0].items() >= {"seen": 4, "applied": 2}.items()
        assert faults.remove(["f", "unknown"]) == ["f"]
        assert await asked(gateway) is None
        await until_published(gateway)


async def test_a_gateway_that_is_silent_holds_a_rule_up_for_a_while_and_not_for_ever(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        await in_service(ground, reconciler)
        gateway.silent = True
        begun = clock.now()
        await reconciler.faults.put(Rule("ModelError", id="f"), "")
        assert 1 < clock.now() - begun < 10
        gateway.speak()


async def test_a_gateway_of_an_earlier_version_is_told_nothing(ground: Ground) -> None:
    async with ground.control(linking=False) as (reconciler, gateway):
        gateway.knows_faults = False
        gateway.link()
        await in_service(ground, reconciler)
        await reconciler.faults.put(Rule("ModelError", id="f"), "")
        reconciler.faults.remove()
        await reconciler.passed()
        assert gateway.faults == ()


async def test_a_gateway_that_links_later_gets_the_rules_with_its_snapshot(ground: Ground) -> None:
    async with ground.control(linking=False) as (reconciler, gateway):
        await reconciler.faults.put(Rule("ModelError", id="f"), "")
        gateway.link()
        await gateway.until(lambda: gateway.snapshot)
        assert gateway.faults == (FaultScope("f", "", ""),)


async def test_messages_that_only_a_load_words_have_the_loads_words(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.container = lambda: Container(huge=[A])
        await in_service(ground, reconciler)
        gateway.need(A)
        await gateway.until(lambda: gateway.refused)
        await reconciler.faults.put(Rule("OutOfMemory", id="f"), "")
        rule = await asked(gateway)
        assert rule is not None
        assert (gateway.refused[0].kind, rule.message) == ("no_memory", gateway.refused[0].message)
        await reconciler.faults.put(Rule("OutOfMemory", id="f", message="mine"), "")
        rule = await asked(gateway)
        assert rule is not None
        assert rule.message == "mine"


async def test_a_slow_load_is_as_slow_as_said_and_is_the_containers_own(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        await in_service(ground, reconciler)
        await reconciler.faults.put(Rule("SlowLoad", id="f", target=A, seconds=100.0), "")
        gateway.need(A)
        await gateway.until(lambda: gateway.where(A))
        (resident,) = gateway.residents.values()
        assert resident.timing.load == pytest.approx(100.0)


async def test_loads_that_are_slow_on_purpose_go_on_when_their_fault_is_gone(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        await in_service(ground, reconciler)
        await reconciler.faults.put(Rule("SlowLoad", id="f", seconds=300.0), "")
        gateway.need(A)
        await passes(reconciler, lambda: reconciler.faults.described()[0]["applied"])
        begun = clock.now()
        reconciler.faults.remove(["f"])
        await gateway.until(lambda: gateway.where(A))
        assert clock.now() - begun < 10


async def test_a_load_fails_as_a_containers_and_the_next_one_is_tried_at_once(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        await in_service(ground, reconciler)
        (container,) = ground.containers.values()
        await reconciler.faults.put(Rule("LoadFailed", id="f", status=500, message="no such luck", first=1), "")
        gateway.need(A)
        await gateway.until(lambda: gateway.refused)
        refused = gateway.refused.pop()
        assert (refused.kind, refused.status, refused.message) == ("bad", 500, "no such luck")
        assert container.loads == []
        gateway.need(A)
        await gateway.until(lambda: gateway.where(A))
        assert (container.loads, gateway.refused) == ([A], [])


async def test_a_load_without_memory_on_purpose_makes_another_target_leave(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/b.tar.gz")
        await in_service(ground, reconciler)
        gateway.need("b.tar.gz")
        await gateway.until(lambda: gateway.where("b.tar.gz"))
        await reconciler.faults.put(Rule("LoadFailed", id="f", target=A, status=507, first=1), "")
        gateway.need(A)
        await gateway.until(lambda: gateway.where(A))
        assert not gateway.where("b.tar.gz")


async def test_a_killed_container_has_ended_before_its_caller_is_answered_and_is_replaced(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        await in_service(ground, reconciler, 2)
        gateway.need(A)
        await gateway.until(lambda: gateway.where(A))
        (victim,) = gateway.where(A)
        await reconciler.faults.put(Rule("ContainerKilled", id="f", endpoint="ep", first=1), "")
        rule = await asked(gateway)
        assert rule is not None
        assert rule.effect == "ContainerKilled"
        fake = ground.engine.fake(f"{victim}.0")
        assert fake is None or fake.exit == -9
        assert victim not in gateway.places()
        await passes(reconciler, lambda: len(gateway.places()) == 2)


async def test_a_call_goes_on_when_there_is_nothing_to_kill(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        await in_service(ground, reconciler)
        await reconciler.faults.put(Rule("ContainerKilled", id="f"), "")
        assert await asked(gateway, variant="w") is None
        assert await asked(gateway, fleet=7) is None


async def test_a_rule_goes_with_the_endpoint_that_it_was_set_on(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler)
        await reconciler.faults.put(Rule("ModelError", id="mine", endpoint="ep"), uid)
        await reconciler.faults.put(Rule("ModelError", id="others", endpoint="ep"), "another")
        await reconciler.faults.put(Rule("ModelError", id="all"), "")
        ground.update(uid, {"v": 1})
        await passes(reconciler, lambda: reconciler.endpoints[uid].record.ready_revision == 2)
        assert len(gateway.faults) == 3
        ground.store.mark_deleting("us-east-1", "ep", 3.0)
        reconciler.wake()
        await until_published(gateway, "others", "all")


async def test_a_lifetime_ends_a_rule_and_one_that_replaces_it_has_its_own(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        await reconciler.faults.put(Rule("ModelError", id="f", lifetime=10.0), "")
        await reconciler.faults.put(Rule("ModelError", id="f", lifetime=60.0), "")
        await asyncio.sleep(30)
        assert [rule["id"] for rule in reconciler.faults.described()] == ["f"]
        await asyncio.sleep(31)
        assert reconciler.faults.described() == []
        await until_published(gateway)


class Nobody:
    """No gateway is linked."""

    def set_faults(self, scopes: object) -> int:
        return 1

    async def acknowledged(self, version: int, timeout: float) -> None: ...


async def test_a_rule_without_an_id_gets_one_that_nobody_has() -> None:
    faults = Faults(Nobody())  # type: ignore[arg-type]
    await faults.put(Rule("ModelError", id="fault-2"), "")
    assert [faults.new_id() for _ in range(3)] == ["fault-1", "fault-3", "fault-4"]
