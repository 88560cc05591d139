"""Periods and the time that they begin (§9.3). All times are epoch seconds, in UTC."""

from __future__ import annotations

from hostler.core.metrics.series import MINUTE

SHORT = (1, 5, 10, 20, 30)  # seconds; of metrics of high resolution
_SHORT_KEPT = 3 * 3600
_DAY = 86_400
_STEPS = ((15 * _DAY, MINUTE), (63 * _DAY, 300))  # up to which age a start is rounded down to which step
_OLDEST_STEP = 3600


def is_period(seconds: int) -> bool:
    return seconds in SHORT or (seconds > 0 and seconds % MINUTE == 0)


def begin(start: float, period: int, now: float) -> int:
    """Return the begin of the first period of a request."""
    step = next((step for age, step in _STEPS if now - start < age), _OLDEST_STEP) if period >= MINUTE else period
    return int(start // step * step)


def is_kept(start: float, period: int, now: float) -> bool:
    """Whether periods as short as this one are kept since then."""
    return period >= MINUTE or now - start <= _SHORT_KEPT
