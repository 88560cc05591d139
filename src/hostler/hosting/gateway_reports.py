"""What gateways report: each message goes to the runtime, the instance's targets or the instance that it concerns."""

from __future__ import annotations

from collections.abc import Callable

from hostler.hosting import clock
from hostler.hosting.fault_decisions import FaultDecisions
from hostler.hosting.instances import Instances
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.wire import gateway_messages


class GatewayReports:
    """`changed`: called when a pass of the reconciler may be due."""

    def __init__(
        self, runtimes: RuntimeRegistry, instances: Instances, faults: FaultDecisions, changed: Callable[[], None]
    ) -> None:
        self._runtimes = runtimes
        self._instances = instances
        self._faults = faults
        self._changed = changed
        self._now = clock.of_loop()

    def receive(self, gateway: str, message: gateway_messages.Up) -> None:
        """Take in one message. It runs on the loop: it must not block."""
        match message:
            case gateway_messages.TargetRequest(key, variant, fleet, target, hits, hot):
                self._hit(hits)
                if runtime := self._runtimes.serving(key, variant, fleet):
                    runtime.requested(gateway, target, hot)
            case gateway_messages.Hits(hits):
                self._hit(hits)
            case gateway_messages.Withdrawn():
                self._hit(message.hits)
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
