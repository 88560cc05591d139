"""Finds that a mapped command will not come up, though it runs: it neither answers nor works, and its deeds say why.

Without that, the reason would come when the time for its start is up, after minutes.
"""

from __future__ import annotations

from hostler.core.endpoints import failure_reason
from hostler.core.endpoints.failure_facts import Ping
from hostler.hosting import clock
from hostler.hosting.container import Container

PATIENCE = 5.0  # seconds of standstill
_PERIOD = 1.0  # seconds between two looks
_IDLE = 0.02  # share of a processor; a starting program takes more, also on a busy machine


class Standstill:
    """Watches one container while its instance starts."""

    def __init__(self, container: Container) -> None:
        self._container = container
        self._looked = clock.now()
        self._used = 0.0  # seconds of processor time, at that look
        self._since = 0.0  # 0: it works, or nothing explains its silence

    async def look(self, ping: Ping) -> bool:
        """Return whether it has stood still for long enough; `ping` was not passed just now."""
        now = clock.now()
        if not self._container.foreign or ping.status or ping.timed_out or now < self._looked + _PERIOD:
            return False
        used = await self._container.processor_time()
        idle = used - self._used < _IDLE * (now - self._looked)
        self._looked, self._used = now, used
        if not idle or not failure_reason.explains_silence(await self._container.facts(served=False, ping=ping)):
            self._since = 0.0
            return False
        self._since = self._since or now
        return now - self._since >= PATIENCE
