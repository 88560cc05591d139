"""Targets of one runtime that are loaded before anybody asks: those to be preloaded, and those that were hot before.

It knows which of them were asked for, and who waits for that. Where a target is, and how it is loaded, only the
runtime knows.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Mapping, Sequence
from typing import Protocol

from hostler.core.targets import warmup
from hostler.core.targets.policy import TargetPolicy

log = logging.getLogger("hostler.targets")


class Holder(Protocol):
    """What the runtime does for it. Instances are given by id."""

    lives: TargetPolicy

    def where(self, target: str) -> str:
        """An instance that has the target, or is about to; empty: none."""

    def free(self) -> dict[str, int]:
        """Bytes that nothing declares, of each instance that keeps what it has loaded."""

    def ask(self, target: str, instance: str) -> bool:
        """Have it loaded; `told` is called when it is resident or refused. False: it will not be."""

    def let_go(self, target: str, instance: str) -> None:
        """It need not be loaded any more, unless somebody else waits for it."""

    def touch(self, target: str, instance: str) -> None:
        """It is to be kept as if it had been used just now."""


class Preloader:
    """`name` is for the log."""

    def __init__(self, holder: Holder, name: str) -> None:
        self._holder = holder
        self._name = name
        self.troubles: dict[str, str] = {}  # target to be preloaded -> why it was not when that was tried last
        self._preloaded: dict[str, str] = {}  # target to be preloaded -> instance where that was asked for, or it was
        self._under_way = 0  # calls of `load`
        self._awaited: dict[
            tuple[str, str], asyncio.Future[str]
        ] = {}  # (target, instance) -> "", or where it goes instead

    @property
    def busy(self) -> bool:
        return self._under_way > 0

    def awaits(self, target: str, instance: str) -> bool:
        return (target, instance) in self._awaited

    def choose(self, hot: Sequence[Sequence[tuple[str, int]]]) -> list[tuple[str, str]]:
        """What to load, and where, the first first: what is to be preloaded and has not been asked for, then of what
        was `hot` (for each instance its targets with their bytes) as much as there is room for.
        """
        unasked = [target for target in self._holder.lives.preload if target not in self._preloaded]
        self._preloaded |= {target: id for target in unasked if (id := self._holder.where(target))}
        first = [target for target in unasked if target not in self._preloaded]
        if not first and not any(hot):
            return []
        absent = [[one for one in targets if not self._holder.where(one[0])] for targets in hot]
        chosen = warmup.hottest(absent, self._holder.free(), first)
        self._preloaded |= {target: id for target, id in chosen if target in first}
        return chosen

    async def load(
        self,
        chosen: Sequence[tuple[str, str]],
        abreast: int,
        timeout: float | None = None,
        sizes: Mapping[str, int] | None = None,
    ) -> None:
        """Load these (target, instance), the first first and so many at a time. Returns when each is resident or
        refused, or time is up. Of those whose `sizes` are given (bytes), what does not fit into free memory any more is
        left out.
        """
        known, rest = sizes or {}, iter(chosen)

        async def some() -> None:
            for target, id in rest:
                if target not in known or known[target] <= self._holder.free().get(id, 0):
                    await self._load(target, id)

        self._under_way += 1
        try:
            async with asyncio.timeout(timeout):
                await asyncio.gather(*(some() for _ in range(abreast)))
        except TimeoutError:
            pass
        finally:
            self._under_way -= 1
        for target, id in reversed(chosen):  # the order in which they were used, not that in which they came
            self._holder.touch(target, id)

    async def _load(self, target: str, instance: str) -> None:
        while instance and not self.awaits(target, instance):
            key = (target, instance)
            told = self._awaited[key] = asyncio.get_running_loop().create_future()
            try:
                instance = await told if self._holder.ask(target, instance) else ""
            except asyncio.CancelledError:
                self._holder.let_go(target, instance)
                raise
            finally:
                del self._awaited[key]

    # --- what the runtime tells ---

    def told(self, target: str, instance: str, why: str = "") -> None:
        """It is resident there; or it is not, and why."""
        self._answer(target, instance)
        if not why:
            self.troubles.pop(target, None)
        elif target in self._holder.lives.preload and self.troubles.get(target) != why:
            self.troubles[target] = why
            log.warning("%s: %s could not be preloaded: %s", self._name, target, why)

    def moved(self, target: str, instance: str, to: str) -> None:
        """There is no room for it there, but perhaps where it goes now."""
        if self._preloaded.get(target) == instance:
            self._preloaded[target] = to
        self._answer(target, instance, to)

    def lost(self, instance: str) -> None:
        """The instance is gone: what was preloaded there is to be so again, elsewhere."""
        self._stop_waiting(instance)
        self._preloaded = {target: id for target, id in self._preloaded.items() if id != instance}

    def governed(self) -> None:
        """The operator has said something else: what need not be preloaded any more may be asked for again one day."""
        wanted = set(self._holder.lives.preload)
        self._preloaded = {target: id for target, id in self._preloaded.items() if target in wanted}
        self.troubles = {target: why for target, why in self.troubles.items() if target in wanted}

    def end(self) -> None:
        self._stop_waiting()

    def _stop_waiting(self, instance: str | None = None) -> None:
        for target, id in self._awaited:
            if instance in (None, id):
                self._answer(target, id)

    def _answer(self, target: str, instance: str, to: str = "") -> None:
        waits = self._awaited.get((target, instance))
        if waits and not waits.done():
            waits.set_result(to)
