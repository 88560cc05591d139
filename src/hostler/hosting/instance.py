"""One instance: its containers from artifact to ready, and their health from then on.

It owns the instance's state, and calls `Platform.changed` when that changes. It does not know endpoints' status, other
instances or gateways.
"""

from __future__ import annotations

import asyncio
import logging
import signal
from collections.abc import Coroutine, Iterable, Mapping

from hostler import contract
from hostler.core.endpoints import failure_reason
from hostler.core.endpoints.failure_reason import Ping
from hostler.core.endpoints.resources import VariantSpec
from hostler.core.endpoints.status import INSTANCE, InstanceState
from hostler.engines.engine import Seen
from hostler.hosting import clock
from hostler.hosting.container import Container, Unfit
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.platform import Platform

log = logging.getLogger("hostler.instance")

MISSED_PERIOD = 1.0  # seconds to the next ping after one that was missed
MISSES = 3  # pings missed one after another before an instance counts as ended (ours; AWS does not say, §5.4)
HOPELESS = 10.0  # seconds of pings answered with 4xx after which the start fails (ours: AWS waits until its time-out)
SENT_BY_OTHERS = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM)  # 128 +: a wrapper's


class Instance:
    """One running copy of a variant's containers: `begin()`, then `retire()`, then `stop()`."""

    def __init__(self, platform: Platform, key: InstanceKey, variant: VariantSpec) -> None:
        settings = platform.settings
        self.key = key
        self.id = key.id
        self.variant = variant
        budget = settings.startup_timeout if variant.download_timeout is None else variant.download_timeout
        specs = variant.model.containers
        self.containers = tuple(
            Container(platform, key, position, spec, budget, alone=len(specs) == 1)
            for position, spec in enumerate(specs)
        )
        self.multi_model = next((c for c in self.containers if c.multi_model), None)  # one at most (§3, rule 6)
        self.state: InstanceState = "pending"
        self.reason = ""  # why it ended: a FailureReason
        self.ready_at = 0.0  # by clock.now, as ended_at; 0: never
        self.ended_at = 0.0
        self.ended_by_itself = False  # by no signal that others send
        self.culprits: tuple[Container, ...] = ()  # the containers whose failure ended it
        self.platform = platform
        self._startup = settings.startup_timeout if variant.startup_timeout is None else variant.startup_timeout
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<instance {self.id} {self.state}{' ' + self.reason[:60] if self.reason else ''}>"

    @property
    def lived(self) -> float:
        """Seconds for which it was ready before it ended."""
        return self.ended_at - self.ready_at if self.ready_at else 0.0

    @property
    def addresses(self) -> tuple[str, ...]:
        """Where its containers listen, in the model's order, once they run."""
        return tuple(container.address for container in self.containers)

    @property
    def workers(self) -> tuple[tuple[str, ...], ...]:
        """For each container the addresses of its processes, if several serve its one model."""
        return tuple(container.workers for container in self.containers)

    @property
    def running(self) -> bool:
        """Whether all its containers were started."""
        return all(container.seen for container in self.containers)

    def begin(self, adopted: Mapping[int, Seen] | None = None) -> None:
        """Bring it up. Containers that an earlier control started (`adopted`, by position) are taken over."""
        for position, seen in (adopted or {}).items():
            self.containers[position].adopt(seen)
        self._task = asyncio.create_task(self._live(), name=f"instance {self.id}")

    def give_up(self, container: Container, cause: str) -> None:
        """End a ready instance because this container runs, but is of no use any more."""
        if self.state == "ready":
            self.ended_by_itself = True
            self.culprits = (container,)
            self._end(failure_reason.unhealthy(self.key.variant, [container.facts(served=True, cause=cause)]))

    async def containers_ended(self, exits: Iterable[Seen]) -> None:
        """End, because these of its containers have exited. The reason names them all (§2.4)."""
        if self.state in ("ended", "stopping", "gone"):
            return
        if self._task is not None:
            self._task.cancel()  # its pings count no more
        by_id = {seen.id: seen for seen in exits}
        ended = []
        for container in self.containers:  # in the model's order
            if seen := by_id.get(container.id):
                container.seen = seen  # it may have ended before its start returned
                ended.append((container, seen.exit))
        served = self.state == "ready"
        facts = [asyncio.to_thread(container.facts, served=served, exit=exit) for container, exit in ended]
        reason = failure_reason.unhealthy(self.key.variant, await asyncio.gather(*facts))
        if self.state == "ended":  # `give_up` was first
            return
        self.ended_by_itself = any(exit not in SENT_BY_OTHERS for _, exit in ended)
        self.culprits = tuple(container for container, _ in ended)
        self.platform.metrics.containers_ended += len(ended)
        self._end(reason)

    def retire(self) -> None:
        """Take it out of service: it gets no more requests, and no more pings. `stop` follows."""
        if self._task is not None:
            self._task.cancel()
        self._move("stop")

    async def stop(self, grace: float) -> None:
        """End the containers and remove everything that they had, except their logs."""
        await self._cancel()
        await asyncio.gather(*(container.stop(grace) for container in self.containers))
        self._move("gone")

    async def detach(self) -> None:
        """Control leaves; the containers go on."""
        await self._cancel()

    # --- its life -------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        try:
            await self._launch([container for container in self.containers if container.seen is None])
            await self._until_healthy()
            self.ready_at = clock.now()
            self._move("ready")
            await self._while_healthy()
        except Unfit as failure:
            self._end(str(failure))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("instance %s", self.id)
            self._end("hostler itself failed while it looked after this instance; its own log says more.")

    async def _launch(self, missing: list[Container]) -> None:
        if missing:
            self._move("fetch")
            await _all(container.fetch() for container in missing)
        self._move("start")
        await _all(container.start() for container in missing)

    async def _until_healthy(self) -> None:
        begun = hopeful = clock.now()  # hopeful: the last time that no container refused the ping
        pause = 0.01
        while troubles := await self._troubles():
            now = clock.now()
            if not any(ping.refused for _, ping in troubles):
                hopeful = now
            if now - hopeful > HOPELESS:
                raise await self._unhealthy(troubles, f"In {HOPELESS:g} seconds")
            if now + pause > begun + self._startup:
                raise await self._unhealthy(troubles, f"In {self._startup:g} seconds")
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, 0.5)

    async def _while_healthy(self) -> None:
        missed, metrics = 0, self.platform.metrics
        while True:
            await asyncio.sleep(MISSED_PERIOD if missed else contract.PING_PERIOD)
            troubles = await self._troubles()
            metrics.pings += len(self.containers)
            metrics.pings_missed += len(troubles)
            missed = missed + 1 if troubles else 0
            if missed >= MISSES:
                raise await self._unhealthy(troubles, f"{MISSES} times in a row")

    async def _troubles(self) -> list[tuple[Container, Ping]]:
        """Check the health of all containers. Return those that did not pass, with their answers."""
        pings = await asyncio.gather(*(container.trouble() for container in self.containers))
        return [(container, ping) for container, ping in zip(self.containers, pings, strict=True) if ping]

    async def _unhealthy(self, troubles: list[tuple[Container, Ping]], when: str) -> Unfit:
        """Return the reason, which names all containers that failed the last round (§2.4)."""
        served = self.state == "ready"
        facts = [
            asyncio.to_thread(container.facts, served=served, ping=ping, when=when) for container, ping in troubles
        ]
        self.culprits = tuple(container for container, _ in troubles)
        return Unfit(failure_reason.unhealthy(self.key.variant, await asyncio.gather(*facts)))

    # --- its state ------------------------------------------------------------------------------------------------

    def _move(self, event: str) -> None:
        self.state = INSTANCE.next(self.state, event, repr(self))
        self.platform.changed()

    def _end(self, reason: str) -> None:
        self.reason = reason
        self.ended_at = clock.now()
        log.warning("%s: %s", self.id, reason)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._move("end")

    async def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)


async def _all(starts: Iterable[Coroutine[object, None, None]]) -> None:
    """Run all of them together; the first that fails ends the others, and its exception is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for start in starts:
                group.create_task(start)
    except ExceptionGroup as failures:  # not `except*`, which raises a group again in Python 3.11.2
        raise failures.exceptions[0] from None
