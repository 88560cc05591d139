"""Updates: a new fleet beside the old one, warmed, put in its place, and the old one drained; and what may go wrong."""

from __future__ import annotations

import asyncio
import time

import pytest
from ground import KEY, PATIENCE, Container, Gateway, Ground, passes, reason, record, seen, status

from hostler.core.endpoints.rollout import Ready
from hostler.core.endpoints.status import EndpointView, VariantView
from hostler.hosting.reconciler import Reconciler

pytestmark = pytest.mark.simulated


async def in_service(ground: Ground, reconciler: Reconciler, gateway: Gateway, *targets: str, count: int = 1) -> str:
    """The uid of an endpoint in service with these targets resident."""
    uid = ground.endpoint(count)
    await status(reconciler, uid, "InService")
    for target in targets:
        ground.put(f"p/{target}")
        gateway.need(target)
        await gateway.until(lambda target=target: gateway.where(target))
    return uid


async def only(reconciler: Reconciler, *ids: str) -> None:
    """Wait until these instances are there and nothing else is, also of what was known of others."""
    await passes(reconciler, lambda: sorted(reconciler.instances) == sorted(ids))
    runtimes, gateways = reconciler.runtimes, reconciler.gateways
    fleets = {(KEY, int(id.split(".")[1])) for id in ids}
    await passes(reconciler, lambda: {(key, number) for key, _, number in runtimes.all} <= fleets)
    assert runtimes.instances() <= set(ids)
    assert runtimes.fleets() <= fleets
    assert {instance for *_, instance in gateways.residents} <= set(ids)
    assert gateways.unanswered() == []
    assert {seen.id for seen in await reconciler.platform.engine.list()} == set(ids)


# --- a good update


async def test_an_update_brings_a_new_fleet_into_service_and_ends_the_old_one(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a", "b")
        ground.update(uid, {"v": 2})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert gateway.places() == [f"{uid}.2.0.0.0", f"{uid}.2.0.1.0"]
        assert len(gateway.where("a")) == len(gateway.where("b")) == 1
        await only(reconciler, *gateway.places())
        assert gateway.draining == [f"{uid}.1.0.0.0"]


async def test_nothing_is_left_after_many_updates(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a")
        for number in range(2, 7):
            ground.update(uid, {"v": 1})
            await status(reconciler, uid, "Updating")
            await status(reconciler, uid, "InService")
            assert gateway.where("a") == [f"{uid}.{number}.0.0.0"]
        await only(reconciler, f"{uid}.6.0.0.0")
        ground.store.mark_deleting("us-east-1", "ep", time.time())
        await status(reconciler, uid, "gone")
        await only(reconciler)


async def test_an_old_instance_ends_only_when_nothing_runs_there_any_more(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway)
        old = f"{uid}.1.0.0.0"
        gateway.running = {old}
        ground.update(uid, {"v": 1})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        await gateway.until(lambda: gateway.draining)
        for _ in range(3):
            await reconciler.passed()
        assert not ground.engine.stopped
        gateway.drained(old)
        await only(reconciler, f"{uid}.2.0.0.0")


async def test_the_hottest_targets_come_along_as_far_as_they_fit_and_keep_their_order(ground: Ground) -> None:
    async with ground.control(machine=600) as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a", "b", "c", "d")
        for target in "bca":
            gateway.need(target)
        old = reconciler.runtimes.all[KEY, "v", 1]
        await passes(reconciler, lambda: [name for name, _ in old.instances.hottest()[0]] == ["a", "c", "b", "d"])
        ground.update(uid, {"v": 1, "w": 1})  # so that an instance has half as much memory
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        new = reconciler.runtimes.all[KEY, "v", 2]
        assert [name for name, _ in new.instances.hottest()[0]] == ["a", "c", "b"]


async def test_a_target_that_is_missing_or_fails_under_the_new_model_delays_nothing(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a", "b", "c")
        ground.put("q/a")
        (ground.folder / "s3" / "box" / "q" / "b").write_bytes(b"not an archive")
        ground.update(uid, {"v": 1}, ModelDataUrl="s3://box/q/")
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert gateway.where("a") == [f"{uid}.2.0.0.0"]
        assert not gateway.where("b")
        assert not gateway.where("c")
        assert not gateway.refused, "nobody had asked"


async def test_a_warm_up_that_takes_too_long_is_done_without(ground: Ground) -> None:
    async with ground.control(warm_up=0.05) as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a", "b")
        ground.container = lambda: Container(silent=True)
        ground.update(uid, {"v": 1})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert gateway.places() == [f"{uid}.2.0.0.0"]


async def test_a_target_that_ends_the_new_container_while_it_warms_up_fails_no_update(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a")
        ground.container = lambda: Container(silent=True)
        ground.update(uid, {"v": 1})
        await passes(reconciler, lambda: f"{uid}.2.0.0.0.0" in ground.containers)
        async with asyncio.timeout(PATIENCE):
            await ground.containers[f"{uid}.2.0.0.0.0"].asked.wait()
        ground.container = Container
        ground.engine.end(f"{uid}.2.0.0.0.0", 139)
        await status(reconciler, uid, "InService")
        assert gateway.places() == [f"{uid}.2.0.0.1"]
        assert not gateway.refused
        gateway.need("a")
        await gateway.until(lambda: gateway.refused)
        assert "ended while it loaded this model" in gateway.refused[0].message


async def test_requests_that_wait_when_fleets_change_get_the_new_ones_target_and_not_the_old_ones_refusal(
    ground: Ground,
) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.container = lambda: Container(silent=True)
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        ground.put("p/slow")
        ground.put("q/slow")
        gateway.need("slow")
        old = ground.containers[f"{uid}.1.0.0.0.0"]
        async with asyncio.timeout(PATIENCE):
            await old.asked.wait()
        ground.container = Container
        gateway.running = {f"{uid}.1.0.0.0"}
        ground.update(uid, {"v": 1}, ModelDataUrl="s3://box/q/")
        await gateway.until(lambda: KEY in gateway.routes and gateway.places() == [f"{uid}.2.0.0.0"])
        gateway.need("slow")  # as a gateway does with each new route
        await gateway.until(lambda: gateway.where("slow") == [f"{uid}.2.0.0.0"])
        await gateway.until(lambda: gateway.draining)
        gateway.drained(f"{uid}.1.0.0.0")
        await only(reconciler, f"{uid}.2.0.0.0")
        assert not gateway.refused


async def test_variants_may_come_go_and_change_places(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.create({"v": 1, "old": 1})
        await status(reconciler, uid, "InService")
        ground.put("p/a")
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))
        ground.update(uid, {"new": 1, "v": 2})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert [variant.name for variant in gateway.routes[KEY].variants] == ["new", "v"]
        assert gateway.places("new") == [f"{uid}.2.0.0.0"]
        assert gateway.places("v") == [f"{uid}.2.1.0.0", f"{uid}.2.1.1.0"]
        assert gateway.where("a")[0] in gateway.places("v")
        await only(reconciler, *gateway.places("new"), *gateway.places("v"))
        assert sorted(reconciler.runtimes.all) == [(KEY, "new", 2), (KEY, "v", 2)]


async def test_a_variant_may_become_plain_and_multi_model_again(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a")
        ground.update(uid, {"v": 1}, Mode="SingleModel", ModelDataUrl="s3://box/p/a")
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert not gateway.routes[KEY].variants[0].containers[0].multi_model
        assert not gateway.residents
        await only(reconciler, f"{uid}.2.0.0.0")
        assert not reconciler.runtimes.all
        ground.update(uid, {"v": 1})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))
        await only(reconciler, f"{uid}.3.0.0.0")


async def test_an_update_takes_no_memory_from_the_fleet_that_serves(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, count=2)
        held = Container(ping=503)
        ground.container = lambda: held
        ground.update(uid, {"v": 4})
        await passes(reconciler, lambda: len(reconciler.instances) == 6)
        budgets = reconciler.runtimes.budgets(reconciler.instances.values())
        assert {bytes for id, bytes in budgets.items() if id.startswith(f"{uid}.1.")} == {10**9 // 2}
        assert {bytes for id, bytes in budgets.items() if id.startswith(f"{uid}.2.")} == {10**9 // 4}
        held.ping = 200
        await status(reconciler, uid, "InService")


# --- what is shown


async def test_every_phase_of_an_update_is_shown(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        held = Container(ping=503)
        ground.container = lambda: held
        uid = ground.endpoint()
        await status(reconciler, uid, "Creating")
        launching = VariantView("v", 0, "Creating", "Launching 1 instance(s).")
        assert seen(reconciler, uid) == EndpointView((launching,))
        held.ping = 200
        await status(reconciler, uid, "InService")
        assert seen(reconciler, uid).variants == (VariantView("v", 1),)

        held = Container(ping=503)
        ground.update(uid, {"v": 2})
        await status(reconciler, uid, "Updating")
        view = seen(reconciler, uid)
        assert view.variants == (VariantView("v", 1),)
        assert view.pending == (VariantView("v", 0, "Creating", "Launching 2 instance(s)."),)
        gateway.silent = True
        held.ping = 200
        await passes(reconciler, lambda: gateway.places() == [f"{uid}.2.0.0.0", f"{uid}.2.0.1.0"])
        view = seen(reconciler, uid)
        activating = "Activating traffic on full capacity of 2 instance(s)."
        assert view.variants == (VariantView("v", 1),), "the old fleet ends after all traffic has moved"
        assert view.pending == (VariantView("v", 2, "ActivatingTraffic", activating),)
        gateway.speak()
        await status(reconciler, uid, "InService")
        assert seen(reconciler, uid) == EndpointView((VariantView("v", 2),))

        held = Container(ping=503)
        ground.scale(uid, {"v": 3}, v=2.0)
        await status(reconciler, uid, "Updating")
        scaling = "Scaling out desired instance count to 3."
        view = seen(reconciler, uid)
        assert (view.variants, view.pending) == ((VariantView("v", 2, "Updating", scaling),), ())
        held.ping = 200
        await status(reconciler, uid, "InService")
        gateway.silent = True
        ground.scale(uid, {"v": 1}, v=2.0)
        await status(reconciler, uid, "Updating")
        leaving = VariantView("v", 3, "Deleting", "Terminating 2 instance(s).")
        assert seen(reconciler, uid).variants == (leaving,)
        gateway.speak()
        await status(reconciler, uid, "InService")
        assert seen(reconciler, uid).variants == (VariantView("v", 1),)
        await only(reconciler, *gateway.places())

        gateway.running = set(gateway.places())
        ground.store.mark_deleting("us-east-1", "ep", time.time())
        await status(reconciler, uid, "Deleting")
        await gateway.until(lambda: gateway.running & set(gateway.draining))
        deleting = VariantView("v", 0, "Deleting", "Terminating 1 instance(s).")
        assert seen(reconciler, uid) == EndpointView((deleting,))
        gateway.drained(*gateway.running)
        await status(reconciler, uid, "gone")


async def test_what_is_shown_is_of_one_moment_though_no_pass_has_seen_it_yet(ground: Ground) -> None:
    """The API reads the record; the reconciler shows what it sees by that, not by what its last pass read."""

    async with ground.control() as (reconciler, gateway):

        def now() -> EndpointView | None:
            found = ground.store.endpoint_and_revisions("us-east-1", "ep")
            assert found
            return reconciler.view(*found)

        uid = await in_service(ground, reconciler, gateway)
        resting, launching = VariantView("v", 1), VariantView("v", 0, "Creating", "Launching 2 instance(s).")
        ground.update(uid, {"v": 2})
        assert now() == EndpointView((resting,), (launching,))
        gateway.silent = True
        await passes(reconciler, lambda: len(gateway.places()) == 2)
        activating = VariantView("v", 2, "ActivatingTraffic", "Activating traffic on full capacity of 2 instance(s).")
        assert now() == EndpointView((resting,), (activating,))
        ground.store.mark({uid: Ready(2)}, time.time())
        assert now() == EndpointView((VariantView("v", 2),))
        ground.store.mark_deleting("us-east-1", "ep", time.time())
        assert now() == EndpointView((VariantView("v", 2, "Deleting", "Terminating 2 instance(s)."),))
        gateway.speak()
        await status(reconciler, uid, "gone")


async def test_people_see_both_fleets(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a")
        ground.container = lambda: Container(ping=503)
        ground.update(uid, {"v": 1})
        await passes(reconciler, lambda: len(reconciler.instances) == 2)
        (shown,) = reconciler.describe_all()
        first, second = shown["variants"]
        assert (first["name"], first["fleet"], second["name"], second["fleet"]) == ("v", 1, "v", 2)
        instance = reconciler.instances[f"{uid}.1.0.0.0"]
        stream, image = f"v/{instance.key.aws_id}", instance.containers[0].spec.image
        assert first["instances"] == [
            {"id": f"{uid}.1.0.0.0", "log_stream": stream, "state": "ready", "trouble": "", "targets": ["a"],
             "machine": "", "containers": [{"specified": image, "engine": "", "image": ""}]}
        ]  # fmt: skip
        assert [one["id"] for one in second["instances"]] == [f"{uid}.2.0.0.0"]


# --- a bad one


async def test_a_failed_update_leaves_the_old_fleet_serving_and_the_next_good_one_clears_its_reason(
    ground: Ground,
) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a")
        ground.update(uid, {"v": 2}, Mode="SingleModel", ModelDataUrl="s3://box/none.tar.gz")
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        view = seen(reconciler, uid)
        assert "s3://box/none.tar.gz" in reason(reconciler, uid)
        assert (view.variants, view.pending) == ((VariantView("v", 1),), ())
        assert gateway.where("a") == gateway.places() == [f"{uid}.1.0.0.0"]
        await only(reconciler, f"{uid}.1.0.0.0")
        assert not gateway.refused
        ground.update(uid, {"v": 1})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert reason(reconciler, uid) == ""
        assert gateway.where("a") == [f"{uid}.3.0.0.0"]
        await only(reconciler, f"{uid}.3.0.0.0")


@pytest.mark.parametrize("exit", [1, -9])
async def test_a_new_instance_that_ends_before_it_is_ready_fails_the_update_an_old_one_does_not(
    ground: Ground, exit: int
) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway)
        held = Container(ping=503)
        ground.container = lambda: held
        ground.update(uid, {"v": 1})
        await passes(reconciler, lambda: f"{uid}.2.0.0.0.0" in ground.containers)
        ground.container = Container
        ground.engine.end(f"{uid}.1.0.0.0.0", exit)
        await gateway.until(lambda: gateway.places() == [f"{uid}.1.0.0.1"])
        assert record(reconciler, uid).status == "Updating"
        ground.engine.end(f"{uid}.2.0.0.0.0", exit)
        await status(reconciler, uid, "InService")
        assert reason(reconciler, uid)
        assert gateway.places() == [f"{uid}.1.0.0.1"]
        await only(reconciler, f"{uid}.1.0.0.1")


async def test_containers_that_end_again_and_again_after_a_first_ping_fail_the_update(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway)
        gateway.silent = True
        ground.update(uid, {"v": 1})
        for attempt in (0, 1):
            id = f"{uid}.2.0.0.{attempt}"
            await passes(reconciler, lambda id=id: gateway.places() == [id])
            ground.engine.end(f"{id}.0", 1)
        gateway.speak()
        await status(reconciler, uid, "InService")
        assert reason(reconciler, uid)
        await gateway.until(lambda: gateway.places() == [f"{uid}.1.0.0.0"])
        await only(reconciler, f"{uid}.1.0.0.0")


async def test_deleting_works_in_the_middle_of_an_update(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a")
        ground.container = lambda: Container(ping=503)
        ground.update(uid, {"v": 2})
        await passes(reconciler, lambda: len(ground.containers) == 3)
        ground.store.mark_deleting("us-east-1", "ep", time.time())
        await status(reconciler, uid, "gone")
        await only(reconciler)
        assert KEY not in gateway.routes


# --- weights and counts


async def test_weights_alone_start_and_end_nothing(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = ground.create({"v": 1, "w": 1})
        await status(reconciler, uid, "InService")
        ground.scale(uid, {"v": 1, "w": 1}, v=9.0, w=0.0)
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert [(variant.name, variant.weight) for variant in gateway.routes[KEY].variants] == [("v", 9.0), ("w", 0.0)]
        assert len(ground.engine.started) == 2
        assert not ground.engine.stopped


async def test_a_variant_grows_and_shrinks_and_grows_again_while_an_instance_still_drains(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a")
        first, second, again = f"{uid}.1.0.0.0", f"{uid}.1.0.1.0", f"{uid}.1.0.1.1"
        ground.scale(uid, {"v": 2})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert gateway.places() == [first, second]
        gateway.running = {second}
        ground.scale(uid, {"v": 1})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert gateway.places() == [first]
        await gateway.until(lambda: gateway.draining == [second])
        ground.scale(uid, {"v": 2})
        await status(reconciler, uid, "Updating")
        assert len(ground.engine.started) == 2, "a slot has one instance at most"
        gateway.drained(second)
        await status(reconciler, uid, "InService")
        assert gateway.places() == [first, again]
        assert gateway.where("a") == [first]
        await only(reconciler, first, again)


async def test_weights_wait_for_no_instance_and_a_variant_never_shrinks_to_one_that_does_not_serve(
    ground: Ground,
) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, count=2)
        first, second = gateway.places()
        ground.container = lambda: Container(ping=503)
        ground.engine.end(f"{first}.0", 1)
        await gateway.until(lambda: gateway.places() == [second])
        ground.scale(uid, {"v": 2}, v=7.0)
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert gateway.routes[KEY].variants[0].weight == 7.0
        ground.scale(uid, {"v": 1}, v=8.0)
        await status(reconciler, uid, "Updating")
        await passes(reconciler, lambda: f"{uid}.1.0.0.1.0" in ground.containers)
        assert record(reconciler, uid).status == "Updating"
        assert gateway.places() == [second]
        ground.engine.end(f"{uid}.1.0.0.1.0", 1)
        await status(reconciler, uid, "InService")
        assert reason(reconciler, uid)
        assert seen(reconciler, uid).variants == (VariantView("v", 1),)
        assert gateway.places() == [second]


async def test_a_failed_scale_out_goes_back_to_what_was(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway)
        ground.container = lambda: Container(ping=503)
        ground.scale(uid, {"v": 3}, v=5.0)
        await passes(reconciler, lambda: len(ground.containers) == 3)
        ground.engine.end(f"{uid}.1.0.2.0.0", 1)
        await status(reconciler, uid, "InService")
        view = seen(reconciler, uid)
        assert reason(reconciler, uid)
        assert view.variants == (VariantView("v", 1),)
        assert gateway.routes[KEY].variants[0].weight == 1.0
        await only(reconciler, f"{uid}.1.0.0.0")
        ground.container = Container
        ground.scale(uid, {"v": 2})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert reason(reconciler, uid) == ""
        assert len(gateway.places()) == 2


async def test_targets_are_requested_only_on_instances_in_the_route(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway)
        first, held = f"{uid}.1.0.0.0", Container(ping=503)
        starts = iter([Container(), held])
        ground.container = lambda: next(starts)
        names = [f"t{number}" for number in range(12)]
        for name in names:
            ground.put(f"p/{name}")
        ground.scale(uid, {"v": 3})
        await passes(reconciler, lambda: sum(map(reconciler.runtimes.serves, reconciler.instances.values())) == 2)
        for name in names:
            gateway.need(name)
        await gateway.until(lambda: all(gateway.where(name) == [first] for name in names))
        held.ping = 200
        await status(reconciler, uid, "InService")
        more = [f"u{number}" for number in range(12)]
        for name in more:
            ground.put(f"p/{name}")
            gateway.need(name)
        await gateway.until(lambda: all(gateway.where(name) for name in more))
        there = [name for name in more if gateway.where(name) != [first]]
        assert there
        gateway.running = set(gateway.places()) - {first}
        ground.scale(uid, {"v": 1})
        await gateway.until(lambda: gateway.places() == [first])
        for name in there:
            gateway.need(name)
        await gateway.until(lambda: all(gateway.where(name) == [first] for name in names + more))
        await gateway.until(lambda: gateway.running <= set(gateway.draining))
        for id in list(gateway.running):
            gateway.drained(id)
        await only(reconciler, first)


# --- control is killed


@pytest.mark.parametrize("moment", ["coming", "flipped", "draining"])
async def test_a_new_control_finds_both_fleets_and_goes_on(ground: Ground, moment: str) -> None:
    held = Container(ping=503)
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, "a")
        old, new = f"{uid}.1.0.0.0", f"{uid}.2.0.0.0"
        ground.container = lambda: held
        ground.update(uid, {"v": 1})
        await passes(reconciler, lambda: f"{new}.0" in ground.containers)
        gateway.running = {old}
        gateway.silent = moment == "flipped"
        if moment != "coming":
            held.ping = 200
            await gateway.until(lambda: gateway.places() == [new])
        if moment == "draining":
            await gateway.until(lambda: gateway.draining)
    held.ping = 200
    async with ground.control() as (reconciler, gateway):
        gateway.running = {old}
        await status(reconciler, uid, "InService")
        await gateway.until(lambda: gateway.places() == gateway.where("a") == [new])
        await gateway.until(lambda: gateway.draining == [old])
        assert not ground.engine.stopped
        gateway.drained(old)
        await only(reconciler, new)
        assert len(ground.engine.started) == 2


async def test_a_new_control_drains_nothing_before_the_gateways_have_linked(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        uid = await in_service(ground, reconciler, gateway, count=2)
    ground.scale(uid, {"v": 1})
    ground.store.mark({uid: Ready(2)}, 3.0)
    async with ground.control(linking=False) as (reconciler, gateway):
        leaving = f"{uid}.1.0.1.0"
        await passes(reconciler, lambda: "stopping" in [i.state for i in reconciler.instances.values()])
        assert reconciler.instances[leaving].state == "stopping"
        for _ in range(3):
            await reconciler.passed()
        assert not ground.engine.stopped
        gateway.link()
        await only(reconciler, f"{uid}.1.0.0.0")
        assert gateway.draining == [leaving]
