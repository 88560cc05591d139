"""Fetch, load and unload: the IO that the commands of the model caches ask for. Each outcome goes back as an event.

It decides nothing: which target loads, and which leaves, the caches decide.
"""

from __future__ import annotations

import asyncio
from functools import partial
from typing import Literal

from hostler import contract, names
from hostler.core.faults import Rule
from hostler.core.targets.quarantine import Quarantine
from hostler.errors import (
    ArtifactBad,
    ArtifactError,
    ArtifactMissing,
    ArtifactUnchanged,
    StorageAway,
    StorageUnavailable,
)  # fmt: skip
from hostler.hosting import clock
from hostler.hosting.container import decoded
from hostler.hosting.faults import Faults
from hostler.hosting.instance import SENT_BY_OTHERS
from hostler.hosting.metrics import Metrics
from hostler.hosting.targets.disks import Disks
from hostler.hosting.targets.instance_targets import InstanceTargets, JoinedInstances
from hostler.hosting.targets.models_api import LoadedModel, LoadFailure
from hostler.wire.gateway_messages import Timing
from hostler.wire.http_call import Reply
from hostler.wire.http_exchange import CallFailed, CallTimedOut

LIST_PAUSE = 1.0  # seconds between two calls for the list of models, while the container does not answer
LOST_LOAD = 2.0  # seconds after a broken load call in which the container's own end may still explain it
_LOAD_FAULT = "The model cannot be loaded."  # unless a fault on purpose has a message
ENDED_BY_LOAD = "The model server ended while it loaded this model, and was started anew without it."


class TargetLoader:
    """The loads of one variant of one fleet. `model_data_url`: the targets' artifacts are below it."""

    def __init__(
        self, key: tuple[str, str, int], model_data_url: str, instances: JoinedInstances, quarantine: Quarantine,
        metrics: Metrics, faults: Faults,
    ) -> None:  # fmt: skip
        self._key, self._variant, _ = key
        self._bucket, self._prefix = names.data_url(model_data_url)
        self._instances = instances
        self._quarantine = quarantine
        self._metrics = metrics
        self._faults = faults
        self._now = clock.of_loop()
        self.disks = Disks(instances)

    async def restore(self, at: InstanceTargets) -> None:
        """Make resident again what an earlier control loaded: what the container lists, by the storage's names.

        1. A model without a target goes.
        2. A model that is still loading is requested: a second call for its load returns with the first.
        3. A target that is in place, but that the container does not list, goes: it was coming or leaving.
        """
        models = await self._listed(at)
        known = await at.container.storage.known([model.model_name for model in models])
        for model in models:
            placed = known.pop(model.model_name, None)
            if placed is None:  # 1.
                await at.api.unload(model.model_name)
                continue
            at.set_placed(placed.target, placed)
            if model.loading:  # 2.
                at.run(at.cache.request(placed.target, None, self._now()), placed.target)
                at.run(at.cache.abandoned(placed.target, self._now()), placed.target)  # until a gateway requests it
                continue
            at.set_address(placed.target, model)
            size = model.memory or placed.memory or placed.size
            at.run(at.cache.restore(placed.target, max(size, 1), self._now()), placed.target)
        for model_id in known:  # 3.
            await at.api.unload(model_id)
            await at.container.storage.discard(model_id)

    async def _listed(self, at: InstanceTargets) -> list[LoadedModel]:
        """Return the models that the container lists; ask until it answers, or is no longer ready."""
        while at.instance.state == "ready":
            try:
                return await at.api.models()
            except CallFailed:
                await asyncio.sleep(LIST_PAUSE)
        return []

    # --- fetch ----------------------------------------------------------------------------------------------------

    async def fetch(self, at: InstanceTargets, target: str, failed: str) -> None:
        """Bring the target's artifact into the container's storage. Then: `fetched` or `fetch_failed`.

        `failed`: a version that has just failed. If it is still present: `unchanged`.
        """
        key = names.join_key(self._prefix, target)
        begun = self._now()
        try:
            model_id, storage = names.model_id(self._bucket, key), at.container.storage
            placed = await self.disks.fetch(at, partial(storage.fetch, model_id, target, self._bucket, key, failed))
        except ArtifactUnchanged:
            at.run(at.cache.unchanged(target), target)
            return
        except ArtifactError as error:
            why = self._not_fetched(key, error)
            away = isinstance(error, StorageAway)
            at.run(at.cache.fetch_failed(target, _kind(error), why, self._now(), error.version, away=away), target)
            return
        if placed.download or placed.extract:
            self._metrics.downloaded(at.instance.key, target, placed.download + placed.extract)
        record = at.set_placed(target, placed)
        queue = 0.0 if record.requested_at is None else max(0.0, begun - record.requested_at)
        record.timing = Timing(queue, placed.download, placed.extract)
        size = placed.memory or placed.size
        at.run(at.cache.fetched(target, max(size, 1), self._now(), placed.version), target)

    def _not_fetched(self, key: str, error: ArtifactError) -> str:
        if isinstance(error, ArtifactBad):
            return f"{error} {error.advice}".rstrip()
        if not isinstance(error, ArtifactMissing):
            return str(error)
        where = f"bucket: {self._bucket}, key: {key}"
        if self._bucket == names.FILES:
            where = str(names.S3Url(self._bucket, key))
        return (
            f"Failed to download model data ({where}). Please ensure that there is"
            " an object located at the URL and that the role passed to CreateModel has permissions to download"
            f" the model. {error}"
        )

    # --- load -----------------------------------------------------------------------------------------------------

    async def load(self, at: InstanceTargets, target: str) -> None:
        """Have the container load the target, and measure it. Then: `loaded`, `refused` or `load_failed`.

        A fault on purpose delays the call, or answers in its place.

        1. The call breaks off: see `_load_broken`.
        2. 507, no memory: the cache makes room and tries again.
        3. 409 after a 507: what the container has is the name that the refused load left. That is unloaded, and the
           target loaded again. (Multi Model Server itself unloads a model that found no memory, and may answer an
           unload in that moment with 404 and list the model afterwards; calls of it would have no worker.)
        4. 200, or 409, it was loaded already: it is resident.
        5. Any other status: the load has failed. A failure that ended a process of one of our own servers is tried
           once more, unless the target alone can be to blame.
        """
        record = at.records[target]
        begun = self._now()
        fault = await self._faults.before_load(self._key, self._variant, target, at.container.label)
        record.loading_since = self._now()
        try:
            reply, size = (_failed(fault), 0) if fault else await self._load_measured(at, target)
        except CallFailed as error:  # 1.
            await self._load_broken(at, target, error)
            return
        finally:
            if self._instances.get(at.instance.id) is at:  # else the runtime has yet to see which loads were open
                record.loading_since = None
        if reply.status == 507:  # 2.
            # Some servers keep the name of a model that found no memory, and would answer the next try with 409.
            await at.api.unload(record.artifact.model_id)
            record.leftover = True
            at.run(at.cache.refused(target, self._now(), lasting=fault is None), target)
        elif reply.status == 409 and record.leftover:  # 3.
            record.leftover = False
            await at.api.unload(record.artifact.model_id)
            await self.load(at, target)
        elif reply.status in (200, 409):  # 4.
            record.leftover = False
            await self._loaded(at, target, begun, size)
        else:  # 5.
            ended = None if at.container.foreign else decoded(reply, LoadFailure).process_ended
            if ended is None:
                text = reply.body.decode(errors="replace")
                await self._load_failed(at, target, reply.status, text, lasting=fault is None)
            elif self._quarantine.blame(target, record.artifact.version, ended not in SENT_BY_OTHERS, self._now()):
                await self._load_failed(at, target, 0, ENDED_BY_LOAD)
            else:  # as a target is requested again where it ended the whole container
                await self.load(at, target)

    async def _load_measured(self, at: InstanceTargets, target: str) -> tuple[Reply, int]:
        """Load, and return the bytes that it took: the server's own measure, else the growth of its process tree.

        Raises CallFailed.
        """
        container, placed = at.container, at.records[target].artifact
        if not container.foreign:
            reply = await at.api.load(placed.model_id, placed.shown, target)
            model = decoded(reply, LoadedModel) if reply.status in (200, 409) else LoadedModel()
            at.set_address(target, model)
            return reply, max(model.memory, placed.size, 1)
        async with at.load_slots:
            before = await container.memory()
            reply = await at.api.load(placed.model_id, placed.shown, target)
            after = await container.memory()
        return reply, max(after - before, placed.size, 1)

    async def _loaded(self, at: InstanceTargets, target: str, begun: float, size: int) -> None:
        now = self._now()
        self._metrics.loaded(at.instance.key, target, now - begun)
        at.set_loaded(target, size)
        record = at.records[target]
        timing = record.timing or Timing()
        waited = 0.0 if record.requested_at is None else begun - record.requested_at
        queue = max(0.0, waited - timing.download - timing.extract)
        record.timing = Timing(queue, timing.download, timing.extract, now - begun)
        model_id = record.artifact.model_id
        at.run(at.cache.loaded(target, size, now), target)
        await at.container.storage.remember(model_id, size)  # after the event: no caller waits for it

    async def _load_broken(self, at: InstanceTargets, target: str, error: CallFailed) -> None:
        """The call broke off. If the container has ended, TargetRuntime.leave takes over; else the load failed."""
        if isinstance(error, CallTimedOut):
            message = f"the container did not load it within {contract.LOAD_TIMEOUT:g} seconds"
            if not await at.api.unload(at.records[target].artifact.model_id):
                await at.instance.give_up(at.container, "It neither ended a load nor broke it off.")
        else:
            if not error.received:
                at.records[target].loading_since = None  # the container has not seen it, so it has not ended of it
            await asyncio.sleep(LOST_LOAD)
            message = "the container broke off the load"
        await self._load_failed(at, target, 0, message)

    async def _load_failed(
        self, at: InstanceTargets, target: str, status: int, message: str, *, lasting: bool = True
    ) -> None:
        self._metrics.model_load_failures += 1
        await at.discard(target, failed=True)
        at.run(at.cache.load_failed(target, status, message, self._now(), lasting=lasting), target)

    # --- unload ---------------------------------------------------------------------------------------------------

    async def unload(self, at: InstanceTargets, target: str) -> None:
        """Have the container drop the target. Then: `unloaded`."""
        begun = self._now()
        await at.api.unload(at.records[target].artifact.model_id)
        await at.discard(target)
        self.disks.departed(at)
        now = self._now()
        self._metrics.unloaded(at.instance.key, target, now - begun)
        at.run(at.cache.unloaded(target, now), target)
        self.disks.look_again()


def _failed(rule: Rule) -> Reply:
    """Return the answer of a container to a load that fails on purpose."""
    return Reply(rule.status or 500, {}, (_LOAD_FAULT if rule.message is None else rule.message).encode())


def _kind(error: ArtifactError) -> Literal["missing", "bad", "unavailable"]:
    if isinstance(error, ArtifactMissing):
        return "missing"
    return "unavailable" if isinstance(error, StorageUnavailable) or error.transient else "bad"
