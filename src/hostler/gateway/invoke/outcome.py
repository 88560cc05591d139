"""The outcome of an invocation: made once, when it ends, and handed to all that learn of it in batches.

While a request waits nothing else is done for it: text, sums and files are made of whole batches, later.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable

import msgspec

from hostler.gateway.routes import Endpoint, Variant

_EVERY = 0.25  # seconds between two batches
_TOGETHER = 256  # outcomes of a batch: less than a millisecond's work


class Outcome(msgspec.Struct, gc=False):
    """What became of an invocation; of a request that was refused before it was one: without a variant. In seconds."""

    ended: float  # by the monotonic clock
    id: str
    endpoint: Endpoint  # of a refused request: what its path and its signature name
    variant: Variant | None
    target: str
    position: int  # of the container that was called; the last of several
    status: int  # of the answer; 499: the caller hung up before it
    error: str  # AWS's exception; or Cut: the answer was broken off after its head
    model_status: int  # of the container's answer; 0: it gave none
    bytes_in: int
    bytes_out: int
    since_arrival: float
    with_model: float  # of these, with containers; 0: none was called
    wait: float | None  # of these, for its target; None: it did not wait; so it was a hit if a container was called
    by_container: tuple[tuple[str, float], ...] = ()  # `with_model` by the labels of a chain's containers
    fault: str = ""  # id of the fault on purpose that it met

    @property
    def failed(self) -> bool:
        """Whether the model failed: it answered with an error, not to the end or not at all, or could not be loaded."""
        return self.error in ("ModelError", "Cut")

    @property
    def answered(self) -> bool:
        """Whether its container answered or failed, so that it has a latency."""
        return self.with_model > 0 and (self.status == 200 or self.failed)


Batch = list[Outcome]  # in the order in which they ended


class Outcomes:
    """Gathers the outcomes of one gateway. `sinks`: each is called with every batch, in their order."""

    def __init__(self, *sinks: Callable[[Batch], None]) -> None:
        self._sinks = sinks
        self._gathered: Batch = []
        self._timer: asyncio.TimerHandle | None = None

    def add(self, outcome: Outcome) -> None:
        """Take the outcome of an invocation that has just ended."""
        gathered = self._gathered
        gathered.append(outcome)
        if len(gathered) >= _TOGETHER:
            self.flush()
        elif self._timer is None:
            self._timer = asyncio.get_running_loop().call_later(_EVERY, self._due)

    def flush(self) -> None:
        """Hand on what is gathered, so that all who are asked know of every invocation that has ended."""
        batch, self._gathered = self._gathered, []
        if batch:
            for sink in self._sinks:
                sink(batch)

    def _due(self) -> None:
        self._timer = None
        self.flush()
