"""The multi-model runtime with a real disk and link, and a container of a few lines."""

from __future__ import annotations

import asyncio
import json
from pathlib import Path
from typing import Any

import pytest
from ground import PATIENCE, Container, Engine, Ground, passes, status

from hostler.artifacts.storage import Storage
from hostler.core.targets import placement
from hostler.core.targets.placed import Placed
from hostler.engines.engine import InstanceLaunch
from hostler.errors import DiskFull, StorageAway
from hostler.hosting import clock
from hostler.wire.http_request import Request

pytestmark = pytest.mark.simulated


class NameKeeper(Container):
    """It keeps the name of a model that found no memory, though it answers that it has none of that name."""

    kept = ""

    def load(self, request: Request) -> None:
        name = json.loads(request.body)["model_name"]
        if name not in self.models and len(self.models) >= self.room:
            self.kept = name
            request.answer(507)
        elif name == self.kept:
            request.answer(409)
        else:
            super().load(request)

    def unload(self, request: Request, name: str) -> None:
        if name == self.kept and name not in self.unloads:
            self.unloads.append(name)
            request.answer(404)
            return
        if name == self.kept:
            self.kept = ""
        super().unload(request, name)


async def test_a_target_is_fetched_and_loaded_once_however_often_it_is_requested(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/tenant/a.tar.gz")
        ground.container = lambda: Container(slow=2.0)
        await status(reconciler, ground.endpoint(), "InService")
        for _ in range(100):
            gateway.need("tenant/a.tar.gz")
        await gateway.until(lambda: gateway.where("tenant/a.tar.gz"))
        (container,) = ground.containers.values()
        assert container.loads == ["tenant/a.tar.gz"]
        assert (ground.metrics.downloads, ground.metrics.model_loads) == (1, 1)
        (resident,) = gateway.residents.values()
        assert resident.timing.load == pytest.approx(2.0)
        assert resident.model in container.models


async def test_a_missing_target_is_refused_with_s3s_reason(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a.tar.gz")
        await status(reconciler, ground.endpoint(), "InService")
        gateway.need("b.tar.gz")
        await gateway.until(lambda: gateway.refused)
        (refused,) = gateway.refused
        assert refused.kind == "missing"
        assert refused.message.startswith("Failed to download model data (bucket: box, key: p/b.tar.gz).")
        assert "NoSuchKey" in refused.message


async def test_a_load_that_fails_is_refused_with_the_containers_words_and_leaves_no_folder(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a.tar.gz")
        ground.container = lambda: Container(broken=True)
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        gateway.need("a.tar.gz")
        await gateway.until(lambda: gateway.refused)
        (refused,) = gateway.refused
        assert (refused.kind, refused.status, refused.message) == ("bad", 500, "no such luck")
        assert list((ground.folder / "containers" / f"{uid}.1.0.0.0.0" / "models").iterdir()) == []


@pytest.mark.parametrize("before", ["missing", "no archive", "broken"])
async def test_an_object_that_is_uploaded_after_a_refusal_is_served_at_once(ground: Ground, before: str) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.container = lambda: Container(broken=before == "broken")
        await status(reconciler, ground.endpoint(), "InService")
        (container,) = ground.containers.values()
        bucket = ground.folder / "s3" / "box"
        for number in range(20):
            target = f"{number}.tar.gz"
            if before == "broken":
                container.broken = True
                ground.put(f"p/{target}")
            elif before == "no archive":
                (bucket / "p").mkdir(parents=True, exist_ok=True)
                (bucket / "p" / target).write_bytes(b"no archive")
            for _ in range(3):
                gateway.need(target)
                await gateway.until(lambda: gateway.refused)
                assert gateway.refused.pop().kind == ("missing" if before == "missing" else "bad")
            container.broken = False
            ground.put(f"p/{target}", b"y" * 100)
            gateway.need(target)
            await gateway.until(lambda target=target: gateway.refused or gateway.where(target))
            assert not gateway.refused


async def test_a_storm_of_requests_for_a_version_that_failed_is_one_load(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a.tar.gz")
        ground.container = lambda: Container(broken=True)
        await status(reconciler, ground.endpoint(), "InService")
        for _ in range(50):
            gateway.need("a.tar.gz")
        await gateway.until(lambda: gateway.refused)
        for _ in range(50):
            gateway.need("a.tar.gz")
        await gateway.until(lambda: len(gateway.refused) > 1)
        assert ground.metrics.model_load_failures == 1
        assert {refused.message for refused in gateway.refused} == {"no such luck"}


async def test_the_least_recently_used_target_leaves_when_there_is_no_room(ground: Ground) -> None:
    async with ground.control(instance_memory=200) as (reconciler, gateway):
        for name in "abc":
            ground.put(f"p/{name}", b"x" * 100)
        await status(reconciler, ground.endpoint(), "InService")
        for name in "ab":
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))
        gateway.need("a")
        gateway.need("c")
        await gateway.until(lambda: gateway.where("c"))
        (container,) = ground.containers.values()
        assert len(container.unloads) == 1
        assert gateway.where("a")
        assert not gateway.where("b")


async def test_a_target_in_use_stays_and_another_leaves(ground: Ground) -> None:
    async with ground.control(instance_memory=200) as (reconciler, gateway):
        for name in "abc":
            ground.put(f"p/{name}", b"x" * 100)
        await status(reconciler, ground.endpoint(), "InService")
        gateway.busy = {"a"}
        for name in "abc":
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))
        assert gateway.where("a")
        assert not gateway.where("b")


async def test_a_target_that_nobody_waits_for_any_more_makes_room_on_the_disk(ground: Ground) -> None:
    async with ground.control(instance_memory=150, disk_budget=250) as (reconciler, gateway):
        for name in "abc":
            ground.put(f"p/{name}", name.encode() * 100)
        await status(reconciler, ground.endpoint(), "InService")
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))
        gateway.busy = {"a"}
        gateway.need("b")
        await asyncio.sleep(10.0)  # it waits for room in memory
        assert not gateway.where("b")
        gateway.abandon("b")
        await asyncio.sleep(1.0)
        gateway.need("c")
        await asyncio.sleep(1.0)
        gateway.busy = set()
        await gateway.until(lambda: gateway.refused or gateway.where("c"))
        assert not gateway.refused


async def test_a_container_without_memory_is_relieved_of_a_target_and_asked_again(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.container = lambda: Container(room=2)
        await status(reconciler, ground.endpoint(), "InService")
        for name in "abcd":
            ground.put(f"p/{name}")
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))
        (container,) = ground.containers.values()
        assert container.loads == ["a", "b", "c", "d"]
        assert len(container.models) == 2
        assert not gateway.refused


async def test_a_name_that_a_refused_load_left_behind_is_no_loaded_target(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.container = lambda: NameKeeper(room=1)
        await status(reconciler, ground.endpoint(), "InService")
        for name in "ab":
            ground.put(f"p/{name}")
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))
        (container,) = ground.containers.values()
        assert container.loads == ["a", "b"]
        assert len(container.models) == 1
        assert not gateway.refused


async def test_a_target_that_never_finds_memory_makes_each_other_leave_once_though_they_come_back(
    ground: Ground,
) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.container = lambda: Container(huge=["huge"])
        await status(reconciler, ground.endpoint(), "InService")
        for name in ("a", "b", "c", "huge"):
            ground.put(f"p/{name}")
        for name in "abc":
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))
        (container,) = ground.containers.values()
        gateway.called = {*"abc"}
        gateway.need("huge")
        await gateway.until(lambda: gateway.refused)
        assert (gateway.refused[0].kind, gateway.refused[0].status) == ("no_memory", 507)
        await gateway.until(lambda: all(gateway.where(name) for name in "abc"))
        await asyncio.sleep(100.0)
        assert container.huge == {"huge": 4}
        assert ground.metrics.model_unloads == 3


async def test_a_load_without_memory_is_not_repeated_when_its_callers_have_left_or_control_was_restarted(
    ground: Ground,
) -> None:
    ground.put("p/a")
    ground.put("p/huge")
    async with ground.control() as (reconciler, gateway):
        ground.container = lambda: Container(huge=["huge"], slow=1.0)
        await status(reconciler, ground.endpoint(), "InService")
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))
        (container,) = ground.containers.values()
        gateway.need("huge")
        async with asyncio.timeout(PATIENCE):
            await container.asked.wait()
        await asyncio.sleep(0.5)
        gateway.abandon("huge")
        await asyncio.sleep(100.0)
        assert container.huge == {"huge": 1}
        container.silent = True
        gateway.need("huge")
        await asyncio.sleep(0.5)
    container.silent = False
    async with ground.control() as (reconciler, gateway):
        await gateway.until(lambda: gateway.where("a"))
        await asyncio.sleep(100.0)
        assert container.huge == {"huge": 2}
        assert gateway.where("a")
    assert container.loads == ["a"]


async def test_targets_spread_over_instances_and_a_lost_ones_waiters_are_placed_anew(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        names = [f"t{i}" for i in range(12)]
        for name in names:
            ground.put(f"p/{name}")
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        for name in names:
            gateway.need(name)
        await gateway.until(lambda: all(gateway.where(name) for name in names))
        homes = {gateway.where(name)[0] for name in names}
        assert homes == {f"{uid}.1.0.0.0", f"{uid}.1.0.1.0"}


async def test_a_target_that_the_container_has_lost_is_loaded_again(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a")
        await status(reconciler, ground.endpoint(), "InService")
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))
        (container,) = ground.containers.values()
        container.models.clear()
        before = gateway.gone("a")
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))
        assert container.loads == ["a", "a"]
        ((instance, generation),) = gateway.publications("a")
        assert instance == before.instance
        assert generation > before.generation


async def test_an_archive_that_is_none_is_refused_as_bad(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a")
        (ground.folder / "s3" / "box" / "p" / "bad").write_bytes(b"not an archive")
        await status(reconciler, ground.endpoint(), "InService")
        gateway.need("bad")
        await gateway.until(lambda: gateway.refused)
        assert gateway.refused[0].kind == "bad"
        assert str(ground.folder) not in gateway.refused[0].message


@pytest.mark.parametrize("noticed", [False, True])
async def test_a_target_requested_while_no_instance_is_ready_is_loaded_later(ground: Ground, noticed: bool) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a")
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        ground.engine.end(f"{uid}.1.0.0.0.0", -9)  # so that a load which is under way is not to blame
        if noticed:
            await gateway.until(lambda: not gateway.places())
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a") == [f"{uid}.1.0.0.1"])


async def test_idle_targets_make_way_on_a_full_disk(ground: Ground) -> None:
    async with ground.control(disk_budget=1000) as (reconciler, gateway):
        await status(reconciler, ground.endpoint(), "InService")
        for name in "abcd":
            ground.put(f"p/{name}", b"x" * 400)
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))
        assert not gateway.refused
        assert gateway.where("c")
        assert not gateway.where("a")


@pytest.mark.parametrize("before", ["idle", "loading"])
async def test_targets_that_meet_a_full_disk_together_all_come(ground: Ground, before: str) -> None:
    async with ground.control(disk_budget=1000) as (reconciler, gateway):
        await status(reconciler, ground.endpoint(), "InService")
        (container,) = ground.containers.values()
        for name in "abcdefgh":
            ground.put(f"p/{name}", b"x" * 400)
        for name in "ab":
            gateway.need(name)
            if before == "idle":
                await gateway.until(lambda name=name: gateway.where(name))
        container.slow = 1.0
        for name in "cdefgh":
            gateway.need(name)
        came = set[str]()

        def all_came() -> bool:
            came.update(name for name in "abcdefgh" if gateway.where(name))
            return len(came) == 8

        await gateway.until(lambda: gateway.refused or all_came())
        assert not gateway.refused


class OwnDisk:
    """A container's storage on a disk of its own, which has no room for a target called `large`."""

    def __init__(self, storage: Storage) -> None:
        self.disk = id(self)
        self._storage = storage

    async def fetch(self, model_id: str, target: str, bucket: str, key: str, failed: str = "") -> Placed:
        if target == "large":
            raise DiskFull("There is no room.")
        return await self._storage.fetch(model_id, target, bucket, key, failed)

    def __getattr__(self, name: str) -> object:
        return getattr(self._storage, name)


class Machines(Engine):
    """Each instance is on a machine of its own."""

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        return tuple(map(OwnDisk, await super().prepare(launch)))


async def test_idle_targets_make_way_on_no_other_machines_disk(ground: Ground) -> None:
    ground.engine = Machines(ground.folder / "c", lambda _: Container())
    async with ground.control() as (reconciler, gateway):
        await status(reconciler, ground.endpoint(2), "InService")
        before: dict[str, str] = {}
        for name in "abcdefgh":
            ground.put(f"p/{name}")
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))
            (before[name],) = gateway.where(name)
        assert len(set(before.values())) == 2
        gateway.need("large")
        await gateway.until(lambda: gateway.refused)
        left = {before[name] for name in before if not gateway.where(name)}
        assert len(left) == 1


async def test_what_no_disk_has_room_for_is_refused_although_targets_that_made_way_are_called_again(
    ground: Ground,
) -> None:
    ground.engine = Machines(ground.folder / "c", lambda _: Container())
    async with ground.control() as (reconciler, gateway):
        await status(reconciler, ground.endpoint(), "InService")
        for name in "abcdefgh":
            ground.put(f"p/{name}")
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))

        async def call() -> None:
            called = set[str]()
            while True:
                called -= {name for name in called if gateway.where(name)}
                for name in "abcdefgh":
                    if not gateway.where(name) and name not in called:
                        called.add(name)
                        gateway.need(name)
                await asyncio.sleep(0.01)

        calling = asyncio.create_task(call())
        gateway.need("large")
        await gateway.until(lambda: gateway.refused)
        await gateway.until(lambda: all(gateway.where(name) for name in "abcdefgh"))
        calling.cancel()


class Cramped(OwnDisk):
    """Its disk has room for `large` alone."""

    def __init__(self, storage: Storage) -> None:
        super().__init__(storage)
        self._held = set[str]()

    async def fetch(self, model_id: str, target: str, bucket: str, key: str, failed: str = "") -> Placed:
        if target == "large" and self._held:
            raise DiskFull("There is no room.")
        self._held.add(model_id)
        return await self._storage.fetch(model_id, target, bucket, key, failed)

    async def discard(self, model_id: str, *, failed: bool = False, forget: bool = False) -> None:
        await self._storage.discard(model_id, failed=failed, forget=forget)
        self._held.discard(model_id)


class CrampedMachines(Engine):
    """Each instance is on a machine of its own, whose disk is small."""

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        return tuple(map(Cramped, await super().prepare(launch)))


class Hesitant(Container):
    """It takes its time to unload."""

    hesitation = 2.0  # seconds

    def unload(self, request: Request, name: str) -> None:
        asyncio.get_running_loop().call_later(self.hesitation, super().unload, request, name)


async def test_a_full_disk_is_given_the_time_in_which_targets_leave_it_whatever_leaves_others(ground: Ground) -> None:
    ground.engine = CrampedMachines(ground.folder / "c", lambda _: Hesitant())
    async with ground.control() as (reconciler, gateway):
        await status(reconciler, ground.endpoint(2), "InService")
        for name in "abcdefgh":
            ground.put(f"p/{name}")
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))
        (runtime,) = reconciler.runtimes.all.values()
        ground.put("p/large")
        gateway.need("large")
        await gateway.until(lambda: runtime.instances.where("large"))
        other = next(each for each in runtime.instances if each.cache.state("large") == "absent")
        others = ground.containers[other.container.id]
        assert isinstance(others, Hesitant)
        others.hesitation = 1.0
        while commands := other.cache.free_disk(0.0):
            other.run(commands)  # they leave before the first one leaves the full disk
        await gateway.until(lambda: gateway.refused or gateway.where("large"))
        assert gateway.where("large")


class AgentsStorage(OwnDisk):
    """A container's storage whose agent may be away. `waits`: gets it when a fetch waits for the agent."""

    def __init__(self, storage: Storage, waits: asyncio.Queue[AgentsStorage]) -> None:
        super().__init__(storage)
        self.away = False
        self.in_vain = asyncio.Event()  # fetches have waited for long enough
        self._waits = waits

    async def fetch(self, model_id: str, target: str, bucket: str, key: str, failed: str = "") -> Placed:
        if self.away:
            self._waits.put_nowait(self)
            await self.in_vain.wait()
            raise StorageAway("The agent is away.")
        return await super().fetch(model_id, target, bucket, key, failed)


class WithAgents(Engine):
    """Each instance has an agent."""

    def __init__(self, *args: Any) -> None:
        super().__init__(*args)
        self.storages: dict[str, AgentsStorage] = {}
        self.waits: asyncio.Queue[AgentsStorage] = asyncio.Queue()

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        [storage] = await super().prepare(launch)
        self.storages[launch.id] = AgentsStorage(storage, self.waits)
        return (self.storages[launch.id],)


async def test_what_is_loaded_while_an_agent_is_away_goes_to_another_instance(ground: Ground) -> None:
    engine = ground.engine = WithAgents(ground.folder / "c", lambda _: Container())
    async with ground.control() as (reconciler, gateway):
        await status(reconciler, ground.endpoint(2), "InService")
        away, there = engine.storages
        engine.storages[away].away = True
        for name in "abcdefgh":
            ground.put(f"p/{name}")
            gateway.need(name)
            await gateway.until(lambda name=name: gateway.where(name))
            assert gateway.where(name) == [there]
        assert engine.waits.empty()
        engine.storages[away].away = False
        for number in range(16):
            ground.put(f"p/{number}")
            gateway.need(str(number))
            await gateway.until(lambda number=number: gateway.where(str(number)))
        assert {gateway.where(str(number))[0] for number in range(16)} == {away, there}


async def test_what_waits_for_an_agent_in_vain_goes_to_another_instance_and_is_refused_if_all_are_away(
    ground: Ground,
) -> None:
    engine = ground.engine = WithAgents(ground.folder / "c", lambda _: Container())
    async with ground.control() as (reconciler, gateway):
        await status(reconciler, ground.endpoint(2), "InService")
        for storage in engine.storages.values():
            storage.away = True
        ground.put("p/a")
        gateway.need("a")
        async with asyncio.timeout(PATIENCE):
            waiting = await engine.waits.get()
        first, other = sorted(engine.storages, key=lambda id: engine.storages[id] is not waiting)
        engine.storages[other].away = False
        engine.storages[first].in_vain.set()
        await gateway.until(lambda: gateway.where("a"))
        assert (gateway.where("a"), gateway.refused) == ([other], [])
        engine.storages[other].away = True
        engine.storages[other].in_vain.set()
        ground.put("p/b")
        gateway.need("b")
        await gateway.until(lambda: gateway.refused)
        assert [refused.kind for refused in gateway.refused] == ["unavailable"]
        engine.storages[first].away = False  # the refusal is of that moment alone
        gateway.need("b")
        await gateway.until(lambda: gateway.where("b"))
        assert gateway.where("b") == [first]


async def test_a_target_that_ends_its_container_while_it_is_loaded_is_refused_before_it_ends_another(
    ground: Ground,
) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/bad")
        uid = ground.endpoint()
        ground.container = lambda: Container(silent=True)
        await status(reconciler, uid, "InService")
        gateway.need("bad")
        (container,) = ground.containers.values()
        async with asyncio.timeout(PATIENCE):
            await container.asked.wait()
        ground.container = Container
        ground.engine.end(f"{uid}.1.0.0.0.0", 139)
        await gateway.until(lambda: gateway.refused)
        assert gateway.refused[0].kind == "bad"
        assert "ended while it loaded this model" in gateway.refused[0].message
        ground.put("p/good")
        gateway.need("good")
        await gateway.until(lambda: gateway.where("good") == [f"{uid}.1.0.0.1"])


async def test_a_target_whose_load_has_not_reached_its_container_is_not_to_blame_for_the_container_s_end(
    ground: Ground,
) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a")
        uid = ground.endpoint()
        await status(reconciler, uid, "InService")
        await ground.engine.hang_up(f"{uid}.1.0.0.0.0")
        gateway.need("a")
        await asyncio.sleep(1.0)
        ground.engine.end(f"{uid}.1.0.0.0.0", 1)
        await gateway.until(lambda: gateway.refused or gateway.where("a"))
        assert gateway.where("a") == [f"{uid}.1.0.0.1"]


@pytest.mark.parametrize("ends", [[3], [-11], [-9, -9]], ids=str)
async def test_a_target_that_ends_a_worker_while_it_is_loaded_is_refused_before_it_ends_another(
    ground: Ground, ends: list[int]
) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/bad")
        ground.put("p/good")
        ground.container = lambda: Container(worker_ends=ends)
        await status(reconciler, ground.endpoint(), "InService")
        gateway.need("bad")
        await gateway.until(lambda: gateway.refused)
        (container,) = ground.containers.values()
        assert not container.worker_ends, "all of them were needed"
        gateway.need("bad")
        await gateway.until(lambda: len(gateway.refused) == 2)
        for refused in gateway.refused:
            assert refused.kind == "bad"
            assert "ended while it loaded this model" in refused.message
        assert not container.loads
        gateway.need("good")
        await gateway.until(lambda: gateway.where("good"))
        ground.put("p/bad", b"another version")
        gateway.need("bad")
        await gateway.until(lambda: gateway.where("bad"))
        assert len(gateway.refused) == 2


async def test_a_target_is_not_blamed_for_a_worker_that_others_may_have_ended(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a")
        ground.container = lambda: Container(worker_ends=[-15])
        await status(reconciler, ground.endpoint(), "InService")
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))
        assert not gateway.refused


async def test_a_hot_target_gets_a_copy_and_loses_it_when_it_has_cooled_and_one_of_them_is_idle(ground: Ground) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a")
        uid = ground.endpoint(count=2)
        await status(reconciler, uid, "InService")
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))
        gateway.need("a", hot=True)
        await gateway.until(lambda: len(gateway.where("a")) == 2)
        runtimes, now = reconciler.runtimes, clock.now()
        runtimes.cool(now + placement.COOL_AFTER - 1)
        assert len(gateway.where("a")) == 2
        gateway.busy = {"a"}
        before = gateway.publications("a")
        runtimes.cool(now + placement.COOL_AFTER + 1)
        await gateway.until(lambda: len(gateway.where("a")) == 2 and len(before & gateway.publications("a")) == 1)
        gateway.busy = set()
        runtimes.cool(now + placement.COOL_AFTER + 1 + placement.ASK_EVERY)
        await passes(reconciler, lambda: ground.metrics.model_unloads == 1)
        assert len(gateway.where("a")) == 1
        for turn in range(2, 5):
            runtimes.cool(now + placement.COOL_AFTER + 1 + turn * placement.ASK_EVERY)
        (runtime,) = runtimes.all.values()
        assert sorted(map(len, runtime.instances.resident().values())) == [0, 1]
        assert not runtime.copies.targets()


async def test_where_nothing_is_kept_a_target_leaves_memory_and_disk_after_its_calls_which_share_one_load(
    ground: Ground,
) -> None:
    async with ground.control() as (reconciler, gateway):
        ground.put("p/a")
        uid = ground.endpoint(MultiModelConfig={"ModelCacheSetting": "Disabled"})
        await status(reconciler, uid, "InService")
        gateway.busy = {"a"}
        gateway.need("a")
        gateway.need("a")
        await gateway.until(lambda: gateway.where("a"))
        (container,) = ground.containers.values()
        assert container.loads == ["a"]
        assert on_disk(ground.folder)
        gateway.busy = set()
        await passes(reconciler, lambda: not gateway.where("a") and container.unloads and not on_disk(ground.folder))
        gateway.need("a")
        await passes(reconciler, lambda: len(container.loads) == 2)
        assert ground.metrics.downloads == 2
        ground.update(uid, {"v": 1})
        await status(reconciler, uid, "Updating")
        await status(reconciler, uid, "InService")
        assert len(container.loads) == 2


def on_disk(folder: Path) -> list[Path]:
    return [path for path in (folder / "artifacts").iterdir() if path.name != ".work"]
