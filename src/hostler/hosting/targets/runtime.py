"""The multi-model runtime of one variant of one fleet: the IO shell over core/modelcache.py and core/placement.py.

It carries out the caches' commands (fetch, load, publish, withdraw, unload, refuse) and feeds the outcomes back as
events. It decides nothing: which target is resident where, and who must go, is decided in core.
"""

from __future__ import annotations

import asyncio
import os
from collections import Counter
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import msgspec

from hostler import contract, names
from hostler.artifacts.storage import Placed
from hostler.core.targets import placement
from hostler.core.targets.eviction_lrfu import AdaptiveLrfu
from hostler.core.targets.eviction_lru import Lru
from hostler.core.targets.model_cache import Command, Fetch, Load, ModelCache, Publish, Refuse, Unload, Withdraw
from hostler.core.targets.policy import TargetPolicy
from hostler.core.targets.quarantine import Quarantine
from hostler.core.targets.states import Target
from hostler.errors import ArtifactError, ArtifactMissing, DiskFull, StorageUnavailable
from hostler.hosting import clock
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.container import Container, decoded, own_sockets
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import SENT_BY_OTHERS, Instance
from hostler.hosting.metrics import Metrics
from hostler.hosting.targets import refusals
from hostler.hosting.targets.preloader import Preloader
from hostler.wire import gateway_messages
from hostler.wire.http_call import Reply
from hostler.wire.http_client import Pool
from hostler.wire.http_exchange import CallFailed, CallTimedOut

UNLOAD_TIMEOUT = 90.0  # seconds for a DELETE: the server first ends what still runs (up to an invocation's 60)
ROOM_TIMEOUT = 5.0  # seconds to wait for one target to leave a full disk, before another is asked
PARALLEL_LOADS = 16  # of our own servers: a slow one has a process of its own, and is in nobody's way
EVICTION: dict[str, type[Lru]] = {"frequency": AdaptiveLrfu, "lru": Lru}  # the setting's values
CONNECT_TIMEOUT = 5.0  # seconds
ENDED_BY_LOAD = "The model server ended while it loaded this model, and was started anew without it."
LOST_LOAD = 2.0  # seconds after a broken load call in which the container's own end may still explain it


class _Loaded(msgspec.Struct, rename="camel"):
    """A target as a container tells of it. `memory` and what follows come from our own servers alone."""

    model_name: str = ""
    memory: int = 0
    socket: str = ""  # its own process's
    sockets: tuple[str, ...] = ()  # of its copies, to which the container itself passes on


class _Failed(msgspec.Struct, rename="camel"):
    """A load that one of our own servers refused. `process_ended`: how it ended one of the server's processes."""

    process_ended: int | None = None


class _Listed(msgspec.Struct, rename="camel"):
    models: list[_Loaded] = []
    next_page_token: str | None = None


@dataclass(eq=False)
class _Member:
    """An instance that takes part, with what it holds."""

    instance: Instance
    container: Container  # the one that holds the targets
    cache: ModelCache
    placed: dict[str, Placed] = field(default_factory=dict)  # target -> its folder there
    # Target -> its own process's address or else the container's, and those of its copies.
    addresses: dict[str, tuple[str, tuple[str, ...]]] = field(default_factory=dict)
    loading: dict[str, None] = field(default_factory=dict)  # targets whose load is not answered yet, the oldest first
    timings: dict[str, gateway_messages.Timing] = field(default_factory=dict)  # target -> of its last load
    loads: Counter[str] = field(default_factory=Counter)  # target -> how often it was loaded
    queued: dict[str, float] = field(default_factory=dict)  # target -> when it was asked for, by clock.now
    work: BackgroundTasks = field(default_factory=BackgroundTasks)
    timer: asyncio.TimerHandle | None = None

    def __post_init__(self) -> None:
        self.one_load = asyncio.Semaphore(self.cache.parallel_loads)  # a foreign container's loads are measured in turn
        # what closes idle connections, as a foreign server may, is called on new ones
        self.pool = None if self.container.foreign else Pool(connect_timeout=CONNECT_TIMEOUT)

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, timeout: float
    ) -> Reply:
        """A call to its container. Raises CallFailed."""
        return await self.container.call(method, path, body, headers, timeout=timeout, pool=self.pool)

    async def try_call(self, method: str, path: str, timeout: float) -> Reply | None:
        """The same; None when it fails."""
        try:
            return await self.call(method, path, timeout=timeout)
        except CallFailed:
            return None

    def hear(self, target: str, told: _Loaded) -> None:
        """Where the target is to be called."""
        address = self.container.address
        own = own_sockets(address, [told.socket] if told.socket else [])
        self.addresses[target] = (own[0] if own else address, own_sockets(address, told.sockets))

    def end(self) -> None:
        """Nothing more is done for it."""
        self.work.cancel()
        if self.pool:
            self.pool.close()
        if self.timer:
            self.timer.cancel()


class TargetRuntime:
    """Targets of one variant, over all its instances of one fleet."""

    def __init__(
        self, key: str, variant: str, model_data_url: str, gateways: Gateways, metrics: Metrics, eviction: str
    ) -> None:
        self.key = key
        self.variant = variant
        self._eviction = EVICTION[eviction]
        self._route: frozenset[str] | None = None  # the instances that requests may go to; None: this fleet serves not
        self._bucket, self._prefix = names.data_url(model_data_url)
        self._gateways = gateways
        self._metrics = metrics
        self._members: dict[str, _Member] = {}
        self._waiting: dict[str, set[str]] = {}  # target -> gateways that wait for it
        self._tried: dict[str, set[str]] = {}  # target that is waited for -> instances whose pins left it no room
        self.lives = TargetPolicy()  # what the operator says
        self.warming = Preloader(self, f"variant {variant} of {key}")
        self._copies = placement.Copies()
        self._quarantine = Quarantine()
        self._departed = asyncio.Event()  # set, and made anew, whenever a target has left an instance

    def resident(self) -> int:
        """Targets resident, summed over the instances."""
        return sum(len(member.cache.resident()) for member in self._members.values())

    def targets(self) -> dict[str, list[str]]:
        """Instance -> its resident targets, sorted; for people."""
        return {id: sorted(member.cache.resident()) for id, member in self._members.items()}

    def seen(self) -> Iterator[tuple[str, Target, bool]]:
        """(instance, target, whether it is pinned) of all that is on any instance, or on its way."""
        for id, member in self._members.items():
            for target in member.cache.targets():
                yield id, target, member.cache.is_pinned(target.name)

    def loads(self, instance: str, target: str) -> int:
        """How often the instance has loaded the target since control knows it."""
        member = self._members.get(instance)
        return member.loads[target] if member else 0

    def tried(self, target: str) -> set[str]:
        """The instances whose pins left no room for a target that is waited for."""
        return self._tried.get(target, set())

    def copied(self) -> list[str]:
        """Targets that have been hot and may have copies to lose."""
        return self._copies.targets()

    def __repr__(self) -> str:
        caches = ", ".join(f"{id} {member.cache}" for id, member in self._members.items())
        return f"<MultiModel {self.variant} of {self.key}: {caches}; waiting {self._waiting}; tried {self._tried}>"

    # --- instances come and go ------------------------------------------------------------------------------------

    async def join(self, instance: Instance, budget: int) -> None:
        """A ready instance takes part. What its container already holds (control restarted) becomes resident again."""
        container = instance.multi_model
        assert container is not None
        keep = container.definition.get("MultiModelConfig", {}).get("ModelCacheSetting") != "Disabled"
        loads = 1 if container.foreign else PARALLEL_LOADS
        cache = ModelCache(budget, loads if keep else max(loads, 2 * (os.cpu_count() or 1)), keep, self._eviction)
        member = _Member(instance, container, cache)
        await self._restore(member)
        self._members[instance.id] = member
        self._run(member, cache.govern(self.lives, clock.now()))

    def serve(self, instances: frozenset[str] | None) -> None:
        """Requests may go to these instances from now on. None: to another fleet's, or to nobody's."""
        if self._route == instances:
            return
        self._route = instances
        if instances is None:
            self._waiting.clear()  # gateways ask whoever serves now
        for target in list(self._waiting):
            self._place(target, hot=False)

    def leave(self, instance: Instance) -> None:
        """An instance has ended: forget what it held; who waited for it is placed anew, unless it is to blame."""
        member = self._members.pop(instance.id, None)
        if member is None:
            return
        member.end()
        self._gateways.forget_instance(instance.id)
        if instance.state == "ended" and member.loading and member.container in instance.culprits:
            self._quarantine.blame(next(iter(member.loading)), instance.ended_by_itself, clock.now())
        self.warming.lost(instance.id)
        for target in member.cache.waiting():
            self._place(target, hot=False)

    def resize(self, instance: str, budget: int) -> None:
        """The instance's memory has changed, because the machine's is shared by more or fewer of them."""
        member = self._members.get(instance)
        if member is not None and member.cache.budget != budget:
            member.cache.budget = budget
            self._run(member, member.cache.govern(self.lives, clock.now()))

    def govern(self, lives: TargetPolicy) -> None:
        """The operator says this from now on."""
        if lives != self.lives:
            self.lives = lives
            self.warming.governed()
            for member in self._members.values():
                self._run(member, member.cache.govern(lives, clock.now()))

    def close(self) -> None:
        """Control leaves, or the fleet is gone."""
        while self._members:
            self._members.popitem()[1].end()
        self.warming.end()

    async def _restore(self, member: _Member) -> None:
        """Residency is what the container says it holds; its storage remembers which targets those are."""
        known = await asyncio.to_thread(member.container.storage.placed)
        for loaded in await _models(member):
            placed = known.get(loaded.model_name)
            if placed is None:  # half loaded when control went away, or not ours: it cannot be named, so it goes
                await member.try_call("DELETE", f"{contract.MODELS}/{loaded.model_name}", UNLOAD_TIMEOUT)
                continue
            target = placed.target
            member.placed[target] = placed
            member.hear(target, loaded)
            size = loaded.memory or member.container.storage.disk.memory(placed.id) or placed.size
            self._run(member, member.cache.restore(target, max(size, 1), clock.now()))
            if any(one.cache.state(target) != "absent" for one in self._members.values()):
                self._copies.hot(target, clock.now())  # an earlier control knew how hot it is
        for placed in known.values():
            if placed.target not in member.placed:  # an earlier control was loading or unloading it: it may yet come
                self._run(member, member.cache.need(placed.target, None, clock.now()))

    # --- before and after it serves -------------------------------------------------------------------------------

    def hottest(self) -> list[list[tuple[str, int]]]:
        """For each instance the targets that may be invoked there, with their bytes, the last used first."""
        return [member.cache.hottest() for member in self._members.values()]

    def where(self, target: str) -> str:
        return next((id for id, member in self._members.items() if member.cache.state(target) != "absent"), "")

    def free(self) -> dict[str, int]:
        return {id: one.cache.budget - one.cache.used() for id, one in self._members.items() if one.cache.keep}

    def ask(self, target: str, instance: str) -> bool:
        member = self._members.get(instance)
        if member is None:
            return False
        if self._quarantine.refuses(target, clock.now()):
            self.warming.told(target, instance, ENDED_BY_LOAD)
            return False
        self._run(member, member.cache.need(target, self._remembered(member, target), clock.now()))
        return True

    def let_go(self, target: str, instance: str) -> None:
        member = self._members.get(instance)
        if member and target not in self._waiting:
            self._tried.pop(target, None)
            self._run(member, member.cache.abandoned(target, clock.now()))

    def touch(self, target: str, instance: str) -> None:
        if member := self._members.get(instance):
            member.cache.touch(target)

    def cool(self, now: float) -> None:
        """Take copies from targets that are hot no more."""
        for target, id in self._copies.surplus(self._presence, now):
            self._run(self._members[id], self._members[id].cache.dismiss(target))

    def _presence(self, target: str) -> dict[str, placement.Presence]:
        return {id: member.cache.state(target) for id, member in self._members.items()}

    # --- what gateways say ----------------------------------------------------------------------------------------

    def needed(self, gateway: str, target: str, hot: bool) -> None:
        """A gateway's callers wait for a target, or one more copy of it would help."""
        if hot:
            self._copies.hot(target, clock.now())
        else:
            self._waiting.setdefault(target, set()).add(gateway)
        self._place(target, hot)

    def hit(self, instance: str, target: str, uses: int = 1) -> None:
        if member := self._members.get(instance):
            member.cache.hit(target, uses, clock.now())

    def gone(self, message: gateway_messages.TargetMissing) -> None:
        """The container does not have a target that we believed resident, or (507) cannot run it."""
        if member := self._members.get(message.instance):
            event = member.cache.crowded if message.status == 507 else member.cache.gone
            self._run(member, event(message.target, message.generation, clock.now()))

    def abandoned(self, gateway: str, target: str) -> None:
        """Nobody waits at that gateway any more; if at none, a load that has not begun may be let go."""
        waiting = self._waiting.get(target)
        if waiting is None:
            return
        waiting.discard(gateway)
        if not waiting:
            del self._waiting[target]
            self._tried.pop(target, None)
            for id, member in self._members.items():
                if not self.warming.awaits(target, id):
                    self._run(member, member.cache.abandoned(target, clock.now()))

    def unlinked(self, gateway: str) -> None:
        for target in list(self._waiting):
            self.abandoned(gateway, target)

    def _place(self, target: str, hot: bool) -> None:
        if self._route is None:
            return
        now = clock.now()
        if self._quarantine.refuses(target, now):
            self._waiting.pop(target, None)
            self._say(gateway_messages.Refused(self.key, self.variant, target, "bad", ENDED_BY_LOAD))
            return
        if member := self._chosen(target, hot, self._route):  # else there is none yet, or one more copy is of no use
            self._need(member, target)

    def _chosen(self, target: str, hot: bool, among: Collection[str]) -> _Member | None:
        """That of these instances which is to have the target, going by what is known of its size."""
        candidates = [
            placement.Candidate(id, m.cache.state(target), m.cache.budget - m.cache.used())
            for id, m in self._members.items()
            if id in among
        ]
        size = max((self._expected(m, target) for m in self._members.values()), default=0)
        chosen = placement.choose(target, candidates, hot, size)
        return self._members[chosen] if chosen else None

    def _need(self, member: _Member, target: str) -> None:
        now = clock.now()
        member.queued.setdefault(target, now)
        self._run(member, member.cache.need(target, self._remembered(member, target), now))

    def _elsewhere(self, member: _Member, target: str) -> bool:
        """Pins leave the target no room on this instance: have it on one that was not asked yet, if somebody waits."""
        id = member.instance.id
        if target not in self._waiting and not self.warming.awaits(target, id):
            return False
        tried = self._tried.setdefault(target, set())
        tried.add(id)
        other = self._chosen(target, False, (self._members.keys() if self._route is None else self._route) - tried)
        if other is None:
            return False
        self.warming.moved(target, id, other.instance.id)
        if target in self._waiting:
            self._need(other, target)
        return True

    def _remembered(self, member: _Member, target: str) -> int | None:
        placed = member.placed.get(target)
        return member.container.storage.disk.memory(placed.id) if placed else None

    def _expected(self, member: _Member, target: str) -> int:
        """Bytes, at least, as far as this instance knows: of its files, if it has never held it."""
        placed = member.placed.get(target)
        return self._remembered(member, target) or (placed.size if placed else 0)

    # --- commands -------------------------------------------------------------------------------------------------

    def _run(self, member: _Member, commands: Sequence[Command]) -> None:
        for command in commands:
            match command:
                case Fetch(target):
                    member.work.spawn(self._fetch(member, target))
                case Load(target):
                    member.work.spawn(self._load(member, target))
                case Unload(target):
                    member.work.spawn(self._unload(member, target))
                case Publish(target, generation):
                    self._publish(member, target, generation)
                case Withdraw(target, generation):
                    self._withdraw(member, target, generation)
                case Refuse():
                    self._refuse(member, command)
        self._schedule(member)

    def _schedule(self, member: _Member) -> None:
        """The cache's next look at the clock, if it wants one."""
        if member.timer:
            member.timer.cancel()
            member.timer = None
        due = member.cache.next_tick()
        if due is not None:
            delay = max(0.0, due - clock.now())
            tick = lambda: self._run(member, member.cache.tick(clock.now()))  # noqa: E731
            member.timer = asyncio.get_running_loop().call_later(delay, tick)

    def _publish(self, member: _Member, target: str, generation: int) -> None:
        self._waiting.pop(target, None)
        self._tried.pop(target, None)
        self.warming.told(target, member.instance.id)
        placed = member.placed[target]
        timing = member.timings.pop(target, gateway_messages.Timing())
        member.queued.pop(target, None)
        address, workers = member.addresses.get(target, (member.container.address, ()))
        self._gateways.publish(
            gateway_messages.SetResident(
                self.key,
                self.variant,
                target,
                member.instance.id,
                generation,
                address,
                placed.model_id,
                timing,
                workers,
            )
        )

    def _withdraw(self, member: _Member, target: str, generation: int) -> None:
        def answered(busy: bool) -> None:
            if self._members.get(member.instance.id) is member:
                event = member.cache.busy if busy else member.cache.idle
                self._run(member, event(target, generation, clock.now()))

        self._gateways.withdraw(
            gateway_messages.Withdraw(self.key, self.variant, target, member.instance.id, generation), answered
        )

    def _refuse(self, member: _Member, refuse: Refuse) -> None:
        target = refuse.target
        member.queued.pop(target, None)
        if refuse.by_pins and self._elsewhere(member, target):
            return
        self._waiting.pop(target, None)
        self._tried.pop(target, None)
        message = refusals.message(refuse)
        self.warming.told(target, member.instance.id, message)
        self._say(gateway_messages.Refused(self.key, self.variant, target, refuse.kind, message, refuse.status))

    def _say(self, refused: gateway_messages.Refused) -> None:
        """Who waits at a gateway waits for the fleet that serves: another one's refusal is not meant for him."""
        if self._route is not None:
            self._gateways.refuse(refused)

    # --- IO -------------------------------------------------------------------------------------------------------

    async def _fetch(self, member: _Member, target: str) -> None:
        storage, cache = member.container.storage, member.cache
        key = names.join_key(self._prefix, target)
        begun = clock.now()
        try:
            placed = await self._fetch_with_room(member, target, key)
        except ArtifactError as error:
            message = str(error)
            if isinstance(error, ArtifactMissing):
                where = f"bucket: {self._bucket}, key: {key}"
                if self._bucket == names.FILES:
                    where = str(names.S3Url(self._bucket, key))
                message = (
                    f"Failed to download model data ({where}). Please ensure that there is"
                    " an object located at the URL and that the role passed to CreateModel has permissions to download"
                    f" the model. {error}"
                )
            self._run(member, cache.fetch_failed(target, _kind(error), message, clock.now()))
            return
        if placed.download or placed.extract:
            self._metrics.downloads += 1
            self._metrics.downloading_time += placed.download + placed.extract
        member.placed[target] = placed
        queue = max(0.0, begun - member.queued.get(target, begun))
        member.timings[target] = gateway_messages.Timing(queue, placed.download, placed.extract)
        size = storage.disk.memory(placed.id) or placed.size
        self._run(member, cache.fetched(target, max(size, 1), clock.now()))

    async def _fetch_with_room(self, member: _Member, target: str, key: str) -> Placed:
        """Fetch; while the disk is full of what is resident, idle targets make way one by one. Raises ArtifactError."""
        model_id = names.model_id(self._bucket, key)
        while True:
            try:
                return await member.container.storage.fetch(model_id, target, self._bucket, key)
            except DiskFull:
                departed = self._departed
                if not any(self._relieve(one) for one in (member, *self._members.values())):
                    raise
                try:
                    async with asyncio.timeout(ROOM_TIMEOUT):
                        await departed.wait()
                except TimeoutError:
                    pass

    def _relieve(self, member: _Member) -> bool:
        commands = member.cache.relieve()
        self._run(member, commands)
        return bool(commands)

    async def _load(self, member: _Member, target: str) -> None:
        cache, placed = member.cache, member.placed[target]
        begun = clock.now()
        member.loading[target] = None
        try:
            reply, size = await self._load_measured(member, target)
        except CallFailed as error:
            await self._load_broken(member, target, error)
            return
        finally:
            if self._members.get(member.instance.id) is member:  # else `leave` needs to know
                member.loading.pop(target, None)
        now = clock.now()
        text = reply.body.decode(errors="replace")
        if reply.status == 507:
            # some servers keep the name of what they had no room for, and would answer the next try with 409
            await member.try_call("DELETE", f"{contract.MODELS}/{placed.model_id}", UNLOAD_TIMEOUT)
            self._run(member, cache.refused(target, clock.now()))
        elif reply.status not in (200, 409):  # 409: it was loaded already, which is what we wanted
            ended = None if member.container.foreign else decoded(reply, _Failed).process_ended
            if ended is None:
                await self._load_failed(member, target, reply.status, text)
            elif self._quarantine.blame(target, ended not in SENT_BY_OTHERS, now):
                await self._load_failed(member, target, 0, ENDED_BY_LOAD)
            else:  # as it is asked for again where it ended the whole container
                await self._load(member, target)
        else:
            self._metrics.model_loads += 1
            member.loads[target] += 1
            self._metrics.loading_time += now - begun
            timing = member.timings.get(target, gateway_messages.Timing())
            waited = begun - member.queued.get(target, begun) - timing.download - timing.extract
            member.timings[target] = gateway_messages.Timing(
                max(0.0, waited), timing.download, timing.extract, now - begun
            )
            self._run(member, cache.loaded(target, size, now))
            await member.container.storage.disk.remember(placed.id, size)  # nobody waits for that

    async def _load_measured(self, member: _Member, target: str) -> tuple[Reply, int]:
        """Load, and say how many bytes that took: the server's own measure, else the growth of its process tree."""
        container, placed = member.container, member.placed[target]
        assert container.seen is not None
        body = msgspec.json.encode({"model_name": placed.model_id, "url": self._url(container, placed)})
        headers = {"Content-Type": "application/json", contract.H_TARGET_MODEL: target}
        if not container.foreign:
            reply = await member.call("POST", contract.MODELS, body, headers, timeout=contract.LOAD_TIMEOUT)
            told = decoded(reply, _Loaded) if reply.status in (200, 409) else _Loaded()
            member.hear(target, told)
            return reply, max(told.memory, placed.size, 1)
        async with member.one_load:
            engine, pid = member.instance.platform.engine, container.seen.pid
            before = await asyncio.to_thread(engine.memory, pid)
            reply = await member.call("POST", contract.MODELS, body, headers, timeout=contract.LOAD_TIMEOUT)
            after = await asyncio.to_thread(engine.memory, pid)
        return reply, max(after - before, placed.size, 1)

    @staticmethod
    def _url(container: Container, placed: Placed) -> str:
        assert container.seen is not None
        return f"{container.seen.base}/{contract.MODELS_DIR}/{placed.model_id}/{contract.MODEL_DIR}"

    async def _load_broken(self, member: _Member, target: str, error: CallFailed) -> None:
        """The call broke off. If the container has ended, `leave` takes over; else the load has failed."""
        if isinstance(error, CallTimedOut):
            message = f"the container did not load it within {contract.LOAD_TIMEOUT:g} seconds"
            placed = member.placed[target]
            path = f"{contract.MODELS}/{placed.model_id}"
            if await member.try_call("DELETE", path, UNLOAD_TIMEOUT) is None:
                member.instance.give_up(member.container, "It neither ended a load nor broke it off.")
        else:
            await asyncio.sleep(LOST_LOAD)
            message = "the container broke off the load"
        await self._load_failed(member, target, 0, message)

    async def _load_failed(self, member: _Member, target: str, status: int, message: str) -> None:
        self._metrics.model_load_failures += 1
        await _discard(member, target)
        self._run(member, member.cache.load_failed(target, status, message, clock.now()))

    async def _unload(self, member: _Member, target: str) -> None:
        placed = member.placed[target]
        begun = clock.now()
        await member.try_call("DELETE", f"{contract.MODELS}/{placed.model_id}", UNLOAD_TIMEOUT)
        await _discard(member, target)
        member.addresses.pop(target, None)
        self._departed.set()
        self._departed = asyncio.Event()
        self._metrics.model_unloads += 1
        self._metrics.unloading_time += clock.now() - begun
        self._run(member, member.cache.unloaded(target, clock.now()))


async def _discard(member: _Member, target: str) -> None:
    """Out of the container's folder; off the disk only when its room is needed, or where nothing is kept."""
    placed, storage = member.placed[target], member.container.storage
    await storage.discard(placed.model_id)
    if not member.cache.keep:
        await asyncio.to_thread(storage.disk.forget, placed.id)


def _kind(error: ArtifactError) -> Literal["missing", "bad", "unavailable"]:
    if isinstance(error, ArtifactMissing):
        return "missing"
    return "unavailable" if isinstance(error, StorageUnavailable) or error.transient else "bad"


async def _models(member: _Member) -> Iterable[_Loaded]:
    """All that the container says it holds, page by page (§5.8). A token after an empty page ends the walk."""
    found: list[_Loaded] = []
    path = contract.MODELS
    while True:
        reply = await member.try_call("GET", path, contract.PING_TIMEOUT)
        page = decoded(reply, _Listed) if reply is not None and reply.status == 200 else _Listed()
        found += page.models
        if not page.models or not page.next_page_token:
            return found
        path = f"{contract.MODELS}?next_page_token={page.next_page_token}"
