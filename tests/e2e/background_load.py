"""Callers that go on asking an endpoint of hops, each with bodies of its own, while something happens to it."""

from __future__ import annotations

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator
from dataclasses import dataclass

from callers import Answer, Caller
from hop_endpoints import ask, way


@dataclass(frozen=True)
class Call:
    sent: float  # monotonic
    body: bytes
    answer: Answer

    @property
    def right(self) -> bool:
        """Whether it was answered, with what was sent."""
        return self.answer.status == 200 and way(self.answer.body)[0] == self.body


class Load:
    """Use `load` to have one."""

    def __init__(self) -> None:
        self.calls: list[Call] = []
        self._more = asyncio.Condition()

    @property
    def failed(self) -> list[Call]:
        return [call for call in self.calls if not call.right]

    async def more(self, count: int) -> list[Call]:
        """The next so many calls."""
        since = len(self.calls)
        async with self._more:
            await self._more.wait_for(lambda: len(self.calls) >= since + count)
        return self.calls[since:]

    async def go_on(self, url: str, endpoint: str, number: int) -> None:
        async with Caller(url) as caller:
            while True:
                sent, body = time.monotonic(), b"caller %d, call %d" % (number, len(self.calls))
                self.calls.append(Call(sent, body, await ask(caller, endpoint, body)))
                async with self._more:
                    self._more.notify_all()


@contextlib.asynccontextmanager
async def load(url: str, endpoint: str, callers: int = 8) -> AsyncIterator[Load]:
    """So many callers go on within this context; afterwards every call is in `calls` that was answered by then."""
    found = Load()
    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(found.go_on(url, endpoint, number)) for number in range(callers)]
        yield found
        for task in tasks:
            task.cancel()
