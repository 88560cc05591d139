"""Calls of an endpoint of hops, repeated while something happens to it: what each one got, and from which process."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field

from callers import Caller, UnansweredError
from hop_endpoints import call_endpoint, trace
from running import Hostler

CALLERS = 8


@dataclass(frozen=True)
class Call:
    sent: float  # monotonic
    ended: float
    status: int  # 0: no answer
    process: str = ""  # of the hop that answered
    body: bytes = b""

    @property
    def failed(self) -> bool:
        return not self.process


@dataclass
class Load:
    """The calls so far. `stopped`: no further ones begin."""

    url: str
    endpoint: str
    calls: list[Call] = field(default_factory=list)
    stopped: bool = False

    def failed(self) -> list[Call]:
        return [call for call in self.calls if call.failed]

    def processes(self, since: float = 0.0) -> set[str]:
        """Return the processes that answered calls sent since then."""
        return {call.process for call in self.calls if call.sent >= since and call.process}

    def noticed(self, died: float) -> float:
        """Return when a call that was sent after this death was answered: the gateway has met the death by then."""
        return min(call.ended for call in self.calls if call.process and call.sent > died)

    async def reach(self, calls: int) -> None:
        """Wait until there are so many more calls."""
        goal = len(self.calls) + calls
        while len(self.calls) < goal:  # noqa: ASYNC110 (an event for each call would slow the callers)
            await asyncio.sleep(0.01)

    async def call_repeatedly(self, number: int) -> None:
        async with Caller(self.url) as caller:
            while not self.stopped:
                sent, body = time.monotonic(), b"caller %d, call %d" % (number, len(self.calls))
                try:
                    answer = await call_endpoint(caller, self.endpoint, body)
                except (UnansweredError, OSError):
                    self.calls.append(Call(sent, time.monotonic(), 0))
                    await asyncio.sleep(0.02)
                    continue
                process = ""
                if answer.status == 200:
                    echoed, [hop] = trace(answer.body)
                    process = hop["process"] if echoed == body else ""
                self.calls.append(Call(sent, time.monotonic(), answer.status, process, answer.body[:300]))


def under_load(
    hostler: Hostler,
    endpoint: str,
    change: Callable[[Load], Awaitable[None]],
    around: int = 200,
    callers: int = CALLERS,
) -> Load:
    """Return the calls before, during and after a change: at least `around` before it and after it."""

    async def run() -> Load:
        load = Load(hostler.url, endpoint)
        async with asyncio.TaskGroup() as group:
            for number in range(callers):
                group.create_task(load.call_repeatedly(number))
            try:
                await load.reach(around)
                await change(load)
                await load.reach(around)
            finally:
                load.stopped = True
        return load

    return asyncio.run(asyncio.wait_for(run(), 600))
