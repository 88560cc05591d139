"""The gateways' messages about targets: each goes to the runtime, or the instance's targets, that it concerns."""

from __future__ import annotations

from collections.abc import Callable

from hostler.hosting import clock
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.wire import gateway_messages


class TargetMessages:
    """The gateways' listener. `changed`: called when a pass of the reconciler may be due. Its methods: see Listener."""

    def __init__(self, runtimes: RuntimeRegistry, changed: Callable[[], None]) -> None:
        self._runtimes = runtimes
        self._changed = changed

    def acknowledged(self) -> None:
        self._changed()

    def needed(self, gateway: str, need: gateway_messages.TargetRequest) -> None:
        self.hit(need.hits)
        if runtime := self._runtimes.serving(need.key, need.variant, need.fleet):
            runtime.requested(gateway, need.target, need.hot)

    def hit(self, hits: tuple[gateway_messages.Hit, ...]) -> None:
        self._runtimes.warm_up.uses += 1
        now, joined = clock.now(), self._runtimes.joined
        for hit in hits:
            if targets := joined.get(hit.instance):
                targets.cache.hit(hit.target, hit.uses, now)

    def gone(self, gone: gateway_messages.TargetMissing) -> None:
        if targets := self._runtimes.joined.get(gone.instance):
            targets.missing(gone.target, gone.generation, no_memory=gone.status == 507)
        if not gone.status:
            self._changed()  # nothing listens there: the container may have ended

    def abandoned(self, gateway: str, abandoned: gateway_messages.Abandoned) -> None:
        if runtime := self._runtimes.serving(abandoned.key, abandoned.variant, abandoned.fleet):
            runtime.abandoned(gateway, abandoned.target)

    def unlinked(self, gateway: str) -> None:
        for runtime in self._runtimes.all.values():
            runtime.unlinked(gateway)
        self._changed()
