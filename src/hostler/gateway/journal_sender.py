"""Brings the journal of the metrics to a control on another machine, which keeps it as if it had been written there.

Pieces go one at a time, each with its place in a segment, and again until control has them: twice is as good as once.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import Callable
from pathlib import Path

from hostler.wire import metrics_journal
from hostler.wire.gateway_messages import JournalKept, JournalPart

_PAUSE = 1.0  # seconds
_PATIENCE = 10.0  # seconds that control may take to keep a piece
_LAST = 2.0  # seconds for the last pieces when the gateway ends
_PIECE = 256 * 2**10  # bytes


class JournalSender:
    """The journal of the gateway of this name in a folder. `send` sends on the link, if there is one."""

    def __init__(self, folder: Path, name: str, send: Callable[[JournalPart], None]) -> None:
        self._folder = folder
        self._name = name
        self._send = send
        self._place = (0, 0)  # segment, and offset in it, up to which control has it
        self._kept = asyncio.Event()

    async def run(self) -> None:
        """Send what is new, until cancelled."""
        while True:
            await asyncio.sleep(_PAUSE)
            await self.send_all()

    async def send_all(self) -> None:
        """Send everything that control does not have; give up where it does not answer."""
        while (part := await asyncio.to_thread(self._next)) is not None:
            self._kept.clear()
            self._send(part)
            try:
                await asyncio.wait_for(self._kept.wait(), _PATIENCE)
            except TimeoutError:
                return

    async def finish(self) -> None:
        """Send what is left, once nothing more is written."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.send_all(), _LAST)

    def kept(self, message: JournalKept) -> None:
        """Control has the journal up to there."""
        if (message.segment, message.offset) > self._place:
            self._place = (message.segment, message.offset)
            self._kept.set()

    def _next(self) -> JournalPart | None:
        """Return the next piece, if any, and remove segments that control has, but the last one."""
        segment, offset = self._place
        for number in metrics_journal.segments(self._folder).get(self._name, []):
            path = metrics_journal.segment(self._folder, self._name, number)
            if number < segment:  # a later one has a record: from that a new gateway learns how far its log is read
                path.unlink(missing_ok=True)
                continue
            with contextlib.suppress(OSError), path.open("rb") as file:
                file.seek(offset if number == segment else 0)
                begin = file.tell()
                if data := file.read(_PIECE):
                    return JournalPart(number, begin, data)
        return None
