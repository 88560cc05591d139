"""Callers that invoke an endpoint of hops without a pause, each with its own bodies, while a test changes it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from callers import Answer, Caller
from hop_endpoints import call_endpoint, trace


@dataclass(frozen=True)
class Call:
    sent: float  # monotonic
    body: bytes
    answer: Answer
    ended: float  # monotonic

    @property
    def correct(self) -> bool:
        """Whether the answer is 200 and has the body that was sent."""
        return self.answer.status == 200 and trace(self.answer.body)[0] == self.body


class Load:
    """The calls of all callers so far, in the order of their answers. Made by `keep_calling`."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._called = asyncio.Condition()

    @property
    def failed(self) -> list[Call]:
        return [call for call in self.calls if not call.correct]

    async def next_calls(self, count: int) -> list[Call]:
        """Wait for the next `count` calls, and return them."""
        since = len(self.calls)
        async with self._called:
            await self._called.wait_for(lambda: len(self.calls) >= since + count)
        return self.calls[since:]

    async def calls_from_now(self, count: int) -> list[Call]:
        """Wait for `count` calls that are sent from now on, and return them. An earlier one may be answered later."""
        first, now = len(self.calls), time.monotonic()

        def sent() -> list[Call]:
            return [call for call in self.calls[first:] if call.sent > now]

        async with self._called:
            await self._called.wait_for(lambda: len(sent()) >= count)
        return sent()

    async def call_repeatedly(self, url: str, endpoint: str, number: int) -> None:
        async with Caller(url) as caller:
            while True:
                sent, body = time.monotonic(), b"caller %d, call %d" % (number, len(self.calls))
                answer = await call_endpoint(caller, endpoint, body)
                self.calls.append(Call(sent, body, answer, time.monotonic()))
                async with self._called:
                    self._called.notify_all()


@contextlib.asynccontextmanager
async def keep_calling(url: str, endpoint: str, callers: int = 8) -> AsyncIterator[Load]:
    """Run callers within this context; afterwards `calls` has every call that was answered by then."""
    load = Load()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(load.call_repeatedly(url, endpoint, number)) for number in range(callers)]
        yield load
        for task in tasks:
            task.cancel()
