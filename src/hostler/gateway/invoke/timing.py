"""Where an invocation's time went: Server-Timing, and the wait for a target. Times are seconds of a monotonic clock."""

from __future__ import annotations

import msgspec

from hostler.wire.gateway_messages import Timing


class Wait(msgspec.Struct):
    """The waiting of one invocation for its target."""

    since: float = 0.0  # of the wait that lasts; 0: none does
    total: float = 0.0  # seconds of those that ended
    load: Timing | None = None  # of the target, while it waited

    def end(self, now: float, load: Timing | None) -> None:
        self.total, self.since = self.until(now), 0.0
        self.load = load or self.load

    def until(self, now: float) -> float:
        """Return the seconds that it has waited, the wait that lasts included."""
        return self.total + now - self.since if self.since else self.total


def server_timing(infer: float, multi_model: bool, wait: Wait | None) -> str:
    """Render Server-Timing, in ms. `infer`: seconds with containers. `wait`: None on a hit.

    `queue` is the waiting that no download, extraction or load explains.
    """
    if not multi_model:
        return f"infer;dur={infer * 1e3:.2f}"
    if wait is None:
        return f"queue;dur=0, infer;dur={infer * 1e3:.2f}, cache;desc=hit"
    load = wait.load or Timing()
    queue = max(0.0, wait.total - load.download - load.extract - load.load)
    return (
        f"queue;dur={queue * 1e3:.2f}, download;dur={load.download * 1e3:.2f}, "
        f"extract;dur={load.extract * 1e3:.2f}, load;dur={load.load * 1e3:.2f}, "
        f"infer;dur={infer * 1e3:.2f}, cache;desc=miss"
    )
