"""One instance: its containers from artifact to ready, and their health from then on.

It owns the instance's state, and calls `Platform.changed` when that changes. It does not know endpoints' status, other
instances or gateways.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import signal
from collections.abc import Coroutine
from functools import partial

import msgspec

from hostler import contract
from hostler.core.endpoints import failure_reason
from hostler.core.endpoints.failure_facts import Ping
from hostler.core.endpoints.resources import VariantSpec
from hostler.core.endpoints.status import INSTANCE, InstanceState
from hostler.engines.engine import ContainerReport, InstanceReport
from hostler.errors import EngineError
from hostler.hosting import clock, launch
from hostler.hosting.container import Container, Unfit
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.platform import Platform
from hostler.hosting.standstill import Standstill
from hostler.hosting.trouble import Trouble
from hostler.wire import silence

log = logging.getLogger("hostler.instance")

MISSED_PERIOD = 1.0  # seconds to the next ping after one that was missed
SILENCE = 1.0  # seconds without an answer of its machine, after a ping that was missed
MISSES = 3  # pings missed one after another before an instance counts as ended (ours; AWS does not say, §5.4)
HOPELESS = 10.0  # seconds of pings answered with 4xx after which the start fails (ours: AWS waits until its time-out)
REMOVED = "The container is there no more: others have removed it."
STOP_AGAIN = 1.0  # seconds until the engine is asked again to stop what it could not
SENT_BY_OTHERS = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM)  # 128 +: a wrapper's


class Instance:
    """One running copy of a variant's containers: `begin()`, then `retire()`, then `stop()`."""

    def __init__(self, platform: Platform, key: InstanceKey, variant: VariantSpec, avoid: tuple[str, ...] = ()) -> None:
        settings = platform.settings
        self.key, self.id, self.variant = key, key.id, variant
        budget = settings.startup_timeout if variant.download_timeout is None else variant.download_timeout
        specs = variant.model.containers
        self.containers = tuple(
            Container(platform, key, position, spec, budget, partial(self._report_of, position), alone=len(specs) == 1)
            for position, spec in enumerate(specs)
        )
        # What the engine says of it: `look` and `_launch` write it.
        self.report = InstanceReport(key.id, {}, tuple(ContainerReport() for _ in specs))
        self.multi_model = next((c for c in self.containers if c.multi_model), None)  # one at most (§3, rule 6)
        self.state: InstanceState = "pending"
        self.reason = ""  # why it ended: a FailureReason
        self.ready_at = self.ended_at = 0.0  # by clock.now; 0: never
        self.ended_by_itself = False  # by no signal that others send
        self.culprits: tuple[Container, ...] = ()  # the containers whose failure ended it
        self.unheard = False  # the last ping was missed, and nothing says that its machine is there
        self.lost = False  # it was given up, because its machine is gone
        self.platform, self._avoid = platform, avoid  # `avoid`: machines that do not answer
        self._startup = settings.startup_timeout if variant.startup_timeout is None else variant.startup_timeout
        self._task: asyncio.Task[None] | None = None
        self._ping_now = asyncio.Event()

    def __repr__(self) -> str:
        return f"<instance {self.id} {self.state}{' ' + self.reason[:60] if self.reason else ''}>"

    @property
    def running(self) -> bool:
        """Whether all its containers were started."""
        return all(container.address for container in self.report.containers)

    def begin(self, adopted: InstanceReport | None = None) -> None:
        """Bring it up. Containers that an earlier control started (`adopted`) are taken over."""
        if adopted is not None:
            self.report = adopted
        self._task = asyncio.create_task(self._live(), name=f"instance {self.id}")

    async def give_up(self, container: Container, cause: str) -> None:
        """End a ready instance because this container runs, but is of no use any more."""
        facts = await container.facts(served=True, cause=cause)
        if self.state == "ready":
            self.ended_by_itself = True
            self.culprits = (container,)
            self._end(failure_reason.unhealthy(self.key.variant, [facts]))

    async def calls_timed_out(self, position: int, in_a_row: int, request_id: str) -> None:
        """Calls have timed out at a container. If it is not ours, which replace what a call blocks, it is given up
        after as many in a row as the setting says.
        """
        most, container = self.platform.settings.replace_after_timeouts, self.containers[position]
        if container.foreign and 0 < most <= in_a_row:
            seconds = self.platform.settings.invoke_timeout
            cause = f"It answered pings, but let calls time out after {seconds:g} seconds each, {in_a_row} in a row."
            await self.give_up(container, f"{cause} The last one was request {request_id}.")

    async def look(self, report: InstanceReport, *, whole: bool) -> None:
        """Take note of what the engine says of it now. `whole`: it was asked after all containers were started.

        1. A container has exited, or is there no more: the instance has ended.
        2. It cannot come up: so it ends.
        3. Others end it: it leaves the routes, and is replaced.
        4. Its machine is lost, to the engine: it is pinged now (see `lose`).
        """
        if self.state in ("ended", "stopping", "gone"):
            self.report = msgspec.structs.replace(self.report, lost=report.lost)  # perhaps it cannot be stopped
            return
        pairs = [*zip(report.containers, self.report.containers, strict=True)]
        ended = [
            container
            for container, (new, old) in zip(self.containers, pairs, strict=True)
            if new.exit is not None or (whole and old.address and not new.address)
        ]
        # What is there no more is remembered as it was; and a start may have ended since the engine was asked.
        known = tuple(new if new.address else old for new, old in pairs)
        self.report = msgspec.structs.replace(report, containers=known)
        if ended:  # 1.
            await self._containers_ended(ended)
        elif report.hopeless and self.state != "ready":  # 2.
            self._end(failure_reason.hopeless(self.key.variant, report.lack, report.trouble))
        elif report.leaving and self.state == "ready":  # 3.
            self._move("leave")
        elif report.lost:  # 4.
            self.doubt()

    async def _containers_ended(self, ended: list[Container]) -> None:
        """End, because these of its containers have exited or are there no more. The reason names them all (§2.4)."""
        if self._task is not None:
            self._task.cancel()  # its pings count no more
        served, reports = self.state in ("ready", "leaving"), [self._report_of(each.position) for each in ended]
        exits = [report.exit for report in reports]
        facts = await asyncio.gather(
            *(
                container.facts(served=served, cause=report.cause)
                if report.cause
                else container.facts(served=served, exit=report.exit, cause="" if report.exit is not None else REMOVED)
                for container, report in zip(ended, reports, strict=True)
            )
        )
        if self.state == "ended":  # `give_up` was first
            return
        self.ended_by_itself = any(exit is not None and exit not in SENT_BY_OTHERS for exit in exits)
        self.culprits = tuple(ended)
        self.platform.metrics.containers_ended += len(ended)
        self._end(failure_reason.unhealthy(self.key.variant, facts))

    def doubt(self) -> None:
        """Ping it now: others call its machine silent."""
        self._ping_now.set()

    def lose(self) -> None:
        """End it, because its machine is gone: what still runs there cannot be reached."""
        self.lost = True
        self._end(failure_reason.lost(self.key.variant, self.report.machine))

    def retire(self) -> None:
        """Take it out of service: it gets no more requests, and no more pings. `stop` follows."""
        if self._task is not None:
            self._task.cancel()
        self._move("stop")

    async def stop(self, grace: float) -> None:
        """End the containers and remove everything that they had, except their logs."""
        await self.detach()
        trouble = Trouble(log)
        while True:
            try:
                await self.platform.engine.stop(self.id, grace)
                break
            except EngineError as error:
                trouble.say(f"{self.id} cannot be stopped just now: {error}")
                await asyncio.sleep(STOP_AGAIN)
        self._move("gone")

    async def detach(self) -> None:
        """Look after it no more; the containers go on."""
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    # --- its life -------------------------------------------------------------------------------------------------

    async def _live(self) -> None:
        try:
            await self._launch()
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

    async def _launch(self) -> None:
        """Bring its containers from their artifacts to their start. Raises Unfit.

        1. The engine makes room, also for what runs already: that tells where the artifacts are.
        2. The artifacts of the containers that do not run are fetched.
        3. The engine starts these containers.
        """
        missing = [container for container in self.containers if not container.address]
        if missing:
            self._move("fetch")
        engine = self.platform.engine
        await launch.prepare(  # 1.
            engine, self.key, self.variant, self.containers, self._startup, lambda: self.report, self._avoid
        )
        await launch.fetch(missing)  # 2.
        self._move("start")
        if missing:  # 3.
            self.report = await launch.start(engine, self.key, self.containers, self._startup, lambda: self.report)
            self.platform.metrics.containers_started += len(missing)

    async def _until_healthy(self) -> None:
        begun = hopeful = clock.now()  # hopeful: the last time that no container refused the ping
        standstills = {container: Standstill(container) for container in self.containers}
        while troubles := await self._troubles():
            self._note_silence(self.report.lost)
            now = clock.now()
            if not any(ping.refused for _, ping in troubles):
                hopeful = now
            if now - hopeful > HOPELESS:
                raise await self._unhealthy(troubles, f"In {HOPELESS:g} seconds")
            if any([await standstills[container].look(ping) for container, ping in troubles]):
                raise await self._unhealthy(troubles, f"In {now - begun:.0f} seconds")
            pause = min(max(0.01, (now - begun) / 10), 0.5)  # so a tenth of the time is lost at most
            if now + pause > begun + self._startup:
                raise await self._unhealthy(troubles, f"In {self._startup:g} seconds")
            await asyncio.sleep(pause)
        self._note_silence(False)

    async def _while_healthy(self) -> None:
        missed, metrics, pause = 0, self.platform.metrics, contract.PING_PERIOD * self.key.phase
        while True:
            self._ping_now.clear()
            with contextlib.suppress(TimeoutError):
                async with asyncio.timeout(pause):
                    await self._ping_now.wait()
            troubles, silent = await _pinged(self._troubles(), self.report, doubted=self._ping_now.is_set())
            metrics.pings += len(self.containers)
            metrics.pings_missed += len(troubles)
            self._note_silence(silent)
            missed = missed + 1 if troubles and not self.unheard else 0
            if missed >= MISSES:
                raise await self._unhealthy(troubles, f"{MISSES} times in a row")
            pause = MISSED_PERIOD if missed or self.unheard else contract.PING_PERIOD

    def _note_silence(self, unheard: bool) -> None:
        """Note whether the last ping was missed because the machine is gone: then one word alone ends nothing."""
        if unheard != self.unheard:
            self.unheard = unheard
            self.platform.changed()

    async def _troubles(self) -> list[tuple[Container, Ping]]:
        """Check the health of all containers. Return those that did not pass, with their answers."""
        pings = await asyncio.gather(*(container.trouble() for container in self.containers))
        return [(container, ping) for container, ping in zip(self.containers, pings, strict=True) if ping]

    async def _unhealthy(self, troubles: list[tuple[Container, Ping]], when: str) -> Unfit:
        """Return the reason, which names all containers that failed the last round (§2.4)."""
        served = self.state == "ready"
        facts = (container.facts(served=served, ping=ping, when=when) for container, ping in troubles)
        self.culprits = tuple(container for container, _ in troubles)
        return Unfit(failure_reason.unhealthy(self.key.variant, await asyncio.gather(*facts)))

    # --- its state ------------------------------------------------------------------------------------------------

    def _report_of(self, position: int) -> ContainerReport:
        return self.report.containers[position]

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


async def _pinged(
    ping: Coroutine[None, None, list[tuple[Container, Ping]]], report: InstanceReport, *, doubted: bool
) -> tuple[list[tuple[Container, Ping]], bool]:
    """Return the troubles of a ping, and whether they are those of the machine: it is gone. `doubted`: others call it
    silent, so that it is asked beside the ping, and not after it.
    """
    if doubted:
        troubles, silent = await asyncio.gather(ping, _is_silent(report))
    else:
        troubles = await ping
        silent = bool(troubles) and await _is_silent(report)
    return troubles, bool(troubles) and silent


async def _is_silent(report: InstanceReport) -> bool:
    """Whether an instance's machine is gone: by its engine's word, or because nothing answers at the beat."""
    return report.lost or bool(report.beat and await silence.is_silent(report.beat, SILENCE))
