"""What gateways report: each message goes to the runtime, the instance's targets or the instance that it concerns."""

from __future__ import annotations

import asyncio
from collections.abc import Callable

from hostler.hosting import clock
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.fault_decisions import FaultDecisions
from hostler.hosting.instances import Instances
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.wire import gateway_messages


class GatewayReports:
    """`changed`: called when a pass of the reconciler may be due. `keep`: writes a piece of a gateway's journal, in a
    thread; `tell`: sends a gateway the answer.
    """

    def __init__(
        self,
        runtimes: RuntimeRegistry,
        instances: Instances,
        faults: FaultDecisions,
        changed: Callable[[], None],
        keep: Callable[[str, gateway_messages.JournalPart], gateway_messages.JournalKept | None] = lambda *_: None,
        tell: Callable[[str, gateway_messages.JournalKept], None] = lambda *_: None,
    ) -> None:
        self._runtimes = runtimes
        self._instances = instances
        self._faults = faults
        self._changed = changed
        self._keep = keep
        self._tell = tell
        self._work = BackgroundTasks()
        self._now = clock.of_loop()

    def receive(self, gateway: str, message: gateway_messages.Up) -> None:
        """Take in one message. It runs on the loop: it must not block."""
        match message:
            case gateway_messages.TargetRequest(key, variant, fleet, target, hits, hot):
                self._hit(hits)
                if runtime := self._runtimes.serving(key, variant, fleet):
                    runtime.requested(gateway, target, hot)
            case gateway_messages.Hits(hits=hits) | gateway_messages.Withdrawn(hits=hits):
                self._hit(hits)
            case gateway_messages.TargetMissing():
                self._missing(message)
            case gateway_messages.Abandoned(key, variant, fleet, target):
                if runtime := self._runtimes.serving(key, variant, fleet):
                    runtime.abandoned(gateway, target)
            case gateway_messages.CallsTimedOut():
                self._instances.calls_timed_out(message)
            case gateway_messages.FaultQuery():
                self._faults.receive(gateway, message)
            case gateway_messages.Ack():
                self._changed()
            case gateway_messages.Counts(down=down):
                self._heard(gateway, down)
            case gateway_messages.JournalPart():
                self._work.spawn(self._keep_part(gateway, message))

    async def _keep_part(self, gateway: str, part: gateway_messages.JournalPart) -> None:
        if kept := await asyncio.to_thread(self._keep, gateway, part):
            self._tell(gateway, kept)

    def unlinked(self, gateway: str) -> None:
        """The gateway is gone, and its callers with it."""
        for runtime in self._runtimes.all.values():
            runtime.unlinked(gateway)
        self._instances.witnesses.forget(gateway)
        self._runtimes.avoid(self._instances.witnesses.down())
        self._changed()

    def _heard(self, gateway: str, down: tuple[str, ...]) -> None:
        """Take its word for which instances are on machines that are silent."""
        self._instances.hear(gateway, down)
        self._runtimes.avoid(self._instances.witnesses.down())
        if down:
            self._changed()

    def _missing(self, message: gateway_messages.TargetMissing) -> None:
        if targets := self._runtimes.joined.get(message.instance):
            targets.missing(message.target, message.generation, no_memory=message.status == 507)
        if not message.status:
            self._changed()  # nothing listens there: the container may have ended

    def _hit(self, hits: tuple[gateway_messages.Hit, ...]) -> None:
        self._runtimes.warm_up.uses += 1
        now, joined = self._now(), self._runtimes.joined
        for hit in hits:
            if targets := joined.get(hit.instance):
                targets.cache.hit(hit.target, hit.uses, now)
