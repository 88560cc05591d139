"""The list of an engine that may not answer for a while: until it does, what it said last.

So whoever looks at several engines is never kept waiting, or in the dark, by one of them.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable

from hostler.engines.engine import Engine, InstanceReport
from hostler.errors import EngineError

logger = logging.getLogger("hostler.engine")

PATIENCE = 0.6  # seconds for an answer; a pass of the reconciler waits that long, and only while the engine answers


class LastList:
    """What an engine lists, now or when it last answered. `open`: connects to it, if need be; raises EngineError.

    `changed` is called when it answers again; after an answer that only came late, if there may be news.
    """

    def __init__(self, open: Callable[[], Awaitable[Engine]], changed: Callable[[], None]) -> None:
        self.away = ""  # why it cannot be asked just now; empty: it answers
        self.answered = False  # once at least
        self._open = open
        self._changed = changed
        self._last: dict[str, InstanceReport] = {}  # by id
        self._since: dict[str, InstanceReport | None] = {}  # started, or stopped (None), since the question under way
        self._asking: asyncio.Task[None] | None = None
        self._joined = False  # somebody has joined the question under way: its answer may be too old for them
        self._failed = False  # the last question, and that was said

    async def get(self) -> list[InstanceReport]:
        """Return the list; the last one if the engine is away, after PATIENCE only when that is new."""
        if (asking := self._asking) is not None:
            self._joined = True
        else:
            self._joined = False
            self._since.clear()
            asking = self._asking = asyncio.create_task(self._ask())
        if not self.away:
            await asyncio.wait({asking}, timeout=PATIENCE)
            if asking.done():
                asking.result()
            else:
                self.away = f"it gave no list within {PATIENCE:g} s"
        return [*self._last.values()]

    def started(self, report: InstanceReport) -> None:
        """Take note of an instance that runs from now on, which an answer under way may lack."""
        self._last[report.id] = self._since[report.id] = report

    def stopped(self, id: str) -> None:
        """Take note of an instance that is there no more, which an answer under way may yet have."""
        self._last.pop(id, None)
        self._since[id] = None

    def close(self) -> None:
        """Give up a question under way."""
        if self._asking is not None:
            self._asking.cancel()

    async def _ask(self) -> None:
        try:
            engine = await self._open()
            listed = {report.id: report for report in await engine.list()}
        except EngineError as error:
            self._leaves(str(error))
            return
        finally:
            self._asking = None
        last = {id: report for id, report in {**listed, **self._since}.items() if report is not None}
        news = self._failed or self._joined or not self.answered or last != self._last
        self._last, self.answered = last, True
        if self._failed:
            logger.info("Docker answers again")
            self._failed = False
        if self.away:
            self.away = ""
            if news:  # else a Docker that is always slow would be asked without end
                self._changed()

    def _leaves(self, why: str) -> None:
        if not self._failed:
            logger.warning("Docker cannot be asked: %s. Its containers are left as they are", why.rstrip("."))
        self._failed, self.away = True, why
