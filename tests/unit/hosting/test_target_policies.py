"""What tags say of an endpoint's targets, and what a restart remembers, with a real store, disk and link."""

from __future__ import annotations

import asyncio
import logging

import pytest
from ground import KEY, PATIENCE, Container, Gateway, Ground, passes, status

from hostler.hosting.reconciler import Reconciler
from hostler.hosting.targets.fleet_warm_up import SERVING_LOADS
from hostler.hosting.targets.hot_list import FILE
from hostler.hosting.targets.runtime import TargetRuntime
from hostler.wire.http_request import Request

pytestmark = pytest.mark.simulated


def only_runtime(reconciler: Reconciler) -> TargetRuntime:
    (runtime,) = reconciler.runtimes.all.values()
    return runtime


async def use(ground: Ground, gateway: Gateway, *targets: str) -> None:
    """Have each called, one after another; the last is the hottest."""
    for target in targets:
        if not (ground.folder / "s3" / "box" / "p" / target).exists():
            ground.put(f"p/{target}")
        gateway.need(target)
        await gateway.until(lambda target=target: gateway.where(target))


# --- idle-ttl, pin ----------------------------------------------------------------------------------------------------


async def test_a_target_that_is_idle_for_too_long_is_unloaded_and_the_next_call_loads_it_again(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        await status(reconciler, ground.endpoint(tags={"hostler:idle-ttl": "0.05"}), "InService")
        await use(ground, gateway, "a")
        (container,) = ground.containers.values()
        await passes(reconciler, lambda: container.unloads and not gateway.where("a"))
        await use(ground, gateway, "a")
        assert container.loads == ["a", "a"]


async def test_a_busy_target_is_not_unloaded_however_long_its_call_takes(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        await status(reconciler, ground.endpoint(tags={"hostler:idle-ttl": "0.02"}), "InService")
        gateway.busy = {"a"}
        await use(ground, gateway, "a")
        before = gateway.publications("a")
        await gateway.until(lambda: gateway.publications("a") - before)
        (container,) = ground.containers.values()
        assert not container.unloads
        gateway.busy = set()
        await passes(reconciler, lambda: container.unloads)


async def test_the_setting_holds_without_a_tag_and_a_change_of_tags_needs_no_restart(
    ground: Ground,
) -> None:
    async with ground.control(idle_ttl=0.05) as (reconciler, gateway):
        await status(reconciler, ground.endpoint(tags={"hostler:idle-ttl": "0"}), "InService")
        await use(ground, gateway, "a", "b")
        runtime = only_runtime(reconciler)
        assert runtime.policy.idle_ttl == 0
        ground.store.add_tags("arn:ep", {"hostler:pin": "a"}, 50)
        ground.store.delete_tags("arn:ep", ["hostler:idle-ttl"])
        await passes(reconciler, lambda: not gateway.where("b"))
        assert gateway.where("a")
        ground.store.delete_tags("arn:ep", ["hostler:pin"])
        await passes(reconciler, lambda: not gateway.where("a"))


async def test_a_pinned_target_stays_and_what_does_not_fit_beside_it_is_refused_at_once(ground: Ground) -> None:
    async with ground.control(instance_memory=200) as (reconciler, gateway):
        await status(reconciler, ground.endpoint(tags={"hostler:pin": "a"}), "InService")
        for name in "abcd":
            ground.put(f"p/{name}", b"x" * (150 if name == "d" else 100))
        await use(ground, gateway, "a", "b", "c")
        assert gateway.where("a")
        assert not gateway.where("b")
        gateway.need("d")
        await gateway.until(lambda: gateway.refused)
        (refused,) = gateway.refused
        assert (refused.kind, refused.status) == ("too_big", 507)
        assert refused.message.endswith("of which 100 are held by models that the tag hostler:pin has stay: pin fewer.")


async def test_what_pins_leave_no_room_for_on_one_instance_goes_to_another_and_is_refused_once_when_all_are_full(
    ground: Ground,
) -> None:
    async with ground.control(instance_memory=300) as (reconciler, gateway):
        await status(reconciler, ground.endpoint(3, {"hostler:pin": "..."}), "InService")
        names = [f"t{number}" for number in range(9)]
        await use(ground, gateway, *names)
        assert all(len(gateway.where(name)) == 1 for name in names), "none had to leave"
        assert sorted(len(one.loads) for one in ground.containers.values()) == [3, 3, 3]
        assert not gateway.refused
        ground.put("p/more")
        for again in (1, 2):
            gateway.need("more")
            await gateway.until(lambda again=again: len(gateway.refused) == again)
            assert "of which 300 are held" in gateway.refused[-1].message
        assert not any(only_runtime(reconciler).tried(name) for name in [*names, "more"])


async def test_a_container_that_pins_fill_by_its_own_account_gives_way_to_another(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.container = lambda: Container(room=2)
        await status(reconciler, ground.endpoint(2, {"hostler:pin": "..."}), "InService")
        await use(ground, gateway, *"abcd")
        assert not gateway.refused
        ground.put("p/e")
        gateway.need("e")
        await gateway.until(lambda: gateway.refused)
        (refused,) = gateway.refused
        assert (refused.kind, refused.status) == ("no_memory", 507)


# --- preload ----------------------------------------------------------------------------------------------------------


async def test_an_endpoint_comes_into_service_with_what_is_to_be_preloaded_and_a_preload_that_fails_fails_nothing(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    async with ground.control() as (reconciler, gateway):
        names = [f"t{number}" for number in range(12)]
        for name in names:
            ground.put(f"p/{name}")
        uid = ground.endpoint(2, {"hostler:preload": " ".join(["missing", *names])})
        await status(reconciler, uid, "InService")
        assert all(len(gateway.where(name)) == 1 for name in names)
        assert {gateway.where(name)[0] for name in names} == set(gateway.places())
        assert not gateway.refused, "nobody had asked"
        assert "NoSuchKey" in only_runtime(reconciler).failures["missing"]
    assert len([record for record in caplog.records if "missing" in record.getMessage()]) == 1


async def test_preloads_that_are_pinned_fill_one_instance_after_another_before_the_endpoint_is_in_service(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    async with ground.control(instance_memory=300) as (reconciler, gateway):
        names = [f"t{number}" for number in range(7)]
        for name in names:
            ground.put(f"p/{name}")
        uid = ground.endpoint(2, {"hostler:preload": " ".join(names), "hostler:pin": "..."})
        await status(reconciler, uid, "InService")
        assert sorted(len(gateway.where(name)) for name in names) == [0, 1, 1, 1, 1, 1, 1]
        assert sorted(len(one.loads) for one in ground.containers.values()) == [3, 3]
        ((target, why),) = only_runtime(reconciler).failures.items()
        assert not gateway.where(target)
        assert "pin fewer" in why
    (record,) = caplog.records
    assert "could not be preloaded" in record.getMessage()


async def test_preloads_that_take_too_long_delay_an_endpoint_no_longer_than_a_warm_up_may(ground: Ground) -> None:
    async with ground.control(warm_up=0.05) as (reconciler, gateway):
        ground.put("p/a")
        ground.container = lambda: Container(silent=True)
        await status(reconciler, ground.endpoint(tags={"hostler:preload": "a"}), "InService")
        assert not gateway.where("a")


async def test_a_preload_that_ends_its_container_does_so_once_and_the_endpoint_comes_into_service(
    ground: Ground,
) -> None:
    async with ground.control() as (reconciler, _):
        ground.put("p/bad")
        ground.container = lambda: Container(silent=True)
        uid = ground.endpoint(tags={"hostler:preload": "bad"})
        await passes(reconciler, lambda: ground.containers)
        (container,) = ground.containers.values()
        async with asyncio.timeout(PATIENCE):
            await container.asked.wait()
        ground.container = Container
        ground.engine.end(f"{uid}.1.0.0.0.0", 139)
        await status(reconciler, uid, "InService")
        troubles = only_runtime(reconciler).failures
        await passes(reconciler, lambda: "ended while it loaded this model" in troubles.get("bad", ""))
        assert len(ground.containers) == 2


async def test_a_preload_that_is_added_later_is_loaded_once_and_not_again_when_it_had_to_leave(ground: Ground) -> None:
    async with ground.control(instance_memory=200) as (reconciler, gateway):
        await status(reconciler, ground.endpoint(), "InService")
        ground.put("p/a")
        ground.store.add_tags("arn:ep", {"hostler:preload": "a"}, 50)
        await passes(reconciler, lambda: gateway.where("a"))
        await use(ground, gateway, "b", "c")
        assert not gateway.where("a")
        (container,) = ground.containers.values()
        for _ in range(3):
            await reconciler.passed()
        assert container.loads == ["a", "b", "c"]
        ground.store.delete_tags("arn:ep", ["hostler:preload"])
        await passes(reconciler, lambda: not only_runtime(reconciler).policy.preload)
        ground.store.add_tags("arn:ep", {"hostler:preload": "a"}, 50)
        await passes(reconciler, lambda: gateway.where("a"))


async def test_an_instance_that_replaces_another_and_a_new_fleet_have_the_preloads_again(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a")
        uid = ground.endpoint(tags={"hostler:preload": "a"})
        await status(reconciler, uid, "InService")
        ground.engine.end(f"{uid}.1.0.0.0.0", 1)
        await passes(reconciler, lambda: gateway.where("a") == [f"{uid}.1.0.0.1"])
        ground.put("q/a")
        ground.update(uid, {"v": 1}, ModelDataUrl="s3://box/q/")
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert gateway.where("a") == [f"{uid}.2.0.0.0"]


# --- a restart --------------------------------------------------------------------------------------------------------


async def earlier(ground: Ground) -> None:
    """A life of hostler that has ended: it had targets a to f, the hottest b, then f, e, d, c and a."""
    async with ground.control() as (reconciler, gateway):
        await use_all(ground, reconciler, gateway)
    await ground.end()


async def use_all(ground: Ground, reconciler: Reconciler, gateway: Gateway) -> None:
    await status(reconciler, ground.endpoint(), "InService")
    await use(ground, gateway, *"abcdef")
    gateway.need("b")
    await passes(reconciler, lambda: only_runtime(reconciler).instances.hottest()[0][0][0] == "b")


async def test_what_was_resident_is_loaded_again_from_the_disk_and_is_as_hot_as_it_was(ground: Ground) -> None:
    await earlier(ground)
    async with ground.control() as (reconciler, gateway):
        await passes(reconciler, lambda: all(gateway.where(name) for name in "abcdef"))
        runtime = only_runtime(reconciler)
        await passes(reconciler, lambda: not reconciler.runtimes.warm_up.busy())
        assert [target for target, _ in runtime.instances.hottest()[0]] == list("bfedca")
        assert ground.metrics.downloads == 0
        assert reconciler.runtimes.warm_up.remaining() == {}


async def test_the_hottest_come_first_and_only_as_many_as_there_is_room_for(ground: Ground) -> None:
    await earlier(ground)
    async with ground.control(instance_memory=300) as (reconciler, gateway):
        await passes(
            reconciler,
            lambda: all(gateway.where(name) for name in "bfe") and not reconciler.runtimes.warm_up.busy(),
        )
        (container,) = ground.containers.values()
        assert sorted(container.loads) == ["b", "e", "f"]
        assert not container.unloads


async def test_a_hot_target_that_was_removed_meanwhile_is_skipped_without_a_word(
    ground: Ground, caplog: pytest.LogCaptureFixture
) -> None:
    await earlier(ground)
    (ground.folder / "s3" / "box" / "p" / "b").unlink()
    async with ground.control() as (reconciler, gateway):
        await passes(reconciler, lambda: all(gateway.where(name) for name in "acdef"))
        await passes(reconciler, lambda: not reconciler.runtimes.warm_up.busy())
        assert not gateway.where("b")
    assert not caplog.records


async def test_a_kill_loses_what_happened_since_the_last_save(ground: Ground) -> None:
    file = ground.folder / FILE
    async with ground.control() as (reconciler, gateway):
        await use_all(ground, reconciler, gateway)
        await passes(reconciler, lambda: file.exists() and all(f'"{name}"' in file.read_text() for name in "abcdef"))
        kept = file.read_bytes()
    await ground.end()
    file.write_bytes(kept)
    async with ground.control() as (reconciler, gateway):
        await passes(reconciler, lambda: all(gateway.where(name) for name in "abcdef"))


async def test_a_second_restart_before_all_is_loaded_again_loses_nothing(ground: Ground) -> None:
    await earlier(ground)
    ground.container = lambda: Container(silent=True)
    async with ground.control() as (reconciler, gateway):
        await passes(reconciler, lambda: gateway.places())
    await ground.end()
    ground.container = Container
    async with ground.control() as (reconciler, gateway):
        await passes(reconciler, lambda: all(gateway.where(name) for name in "abcdef"))


async def test_a_caller_waits_for_no_more_than_a_few_of_what_comes_back(ground: Ground) -> None:
    held: list[Request] = []

    class Slow(Container):
        def load(self, request: Request) -> None:
            if request.headers["x-amzn-sagemaker-target-model"] != "new" and not self.loads:
                held.append(request)
            else:
                super().load(request)

    await earlier(ground)
    ground.container = Slow
    async with ground.control() as (reconciler, gateway):
        await passes(reconciler, lambda: len(held) == SERVING_LOADS)
        await use(ground, gateway, "new")
        (container,) = ground.containers.values()
        assert container.loads == ["new"]
        for request in held:
            container.load(request)
        await passes(reconciler, lambda: all(gateway.where(name) for name in "abcdef"))


@pytest.mark.parametrize(
    "content",
    [b"", b"{", b"\xff\xfe", b"[]", b'{"form": 2, "hot": []}', b'{"form": 1, "hot": [{"endpoint": 5}]}'],
)
async def test_a_file_that_cannot_be_read_is_logged_in_one_line_and_ignored(
    ground: Ground, caplog: pytest.LogCaptureFixture, content: bytes
) -> None:
    await earlier(ground)
    (ground.folder / FILE).write_bytes(content)
    async with ground.control() as (reconciler, gateway):
        await passes(reconciler, lambda: gateway.places())
        assert not reconciler.runtimes.warm_up.busy()
        await use(ground, gateway, "a")
    (record,) = caplog.records
    assert record.levelno == logging.WARNING
    assert record.getMessage().startswith(f"{FILE}, the list of hot targets, is ignored: ")
    assert str(ground.folder) not in record.getMessage()


async def test_names_that_no_target_can_have_are_not_requested(ground: Ground) -> None:
    file = b'{"form":1,"hot":[{"endpoint":"%s","variant":"v","targets":[["../x",1],["/a",1],["a",-1]]}]}' % KEY.encode()
    await earlier(ground)
    (ground.folder / FILE).write_bytes(file)
    async with ground.control() as (reconciler, gateway):
        assert reconciler.runtimes.warm_up.remaining() == {}
        await passes(reconciler, lambda: gateway.places())


async def test_the_hot_targets_of_a_deleted_endpoint_are_forgotten(ground: Ground) -> None:
    await earlier(ground)
    async with ground.control() as (reconciler, _):
        assert reconciler.runtimes.warm_up.remaining()
        ground.store.mark_deleting("us-east-1", "ep", 5.0)
        await passes(reconciler, lambda: not reconciler.runtimes.warm_up.remaining())
    assert (ground.folder / FILE).read_bytes() == b'{"form":1,"hot":[]}'
