"""Bytes from the event loop to a thread, a few pieces ahead: what is being downloaded is extracted meanwhile.

It knows neither where the bytes come from nor what becomes of them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator

AHEAD = 4  # pieces that wait for the thread


class Pipe:
    """`fill` belongs to the event loop, `read` to one thread, which gives back its place in `working` while it waits.

    `whole` is when the last piece had come, by time.monotonic; 0 before.
    """

    def __init__(self, working: threading.Semaphore) -> None:
        self.whole = 0.0
        self._loop = asyncio.get_running_loop()
        self._working = working
        self._room = asyncio.Semaphore(AHEAD)
        self._pieces: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()  # an empty one is the end
        self._piece = b""
        self._at = 0  # how much of it was read

    async def fill(self, pieces: AsyncIterator[bytes]) -> None:
        """Pass on all of them, or what goes wrong. Cancelled, it breaks the reading off."""
        try:
            async for piece in pieces:
                if piece:
                    await self._room.acquire()
                    self._pieces.put(piece)
            self.whole = time.monotonic()
            self._pieces.put(b"")
        except Exception as error:
            self._pieces.put(error)
        except asyncio.CancelledError:
            self._pieces.put(InterruptedError("nobody fills the pipe any more"))
            raise

    def read(self, size: int) -> bytes:
        """Some bytes, at most `size`; none at the end. Blocks. Raises what `fill` met."""
        if self._at == len(self._piece):
            self._piece, self._at = self._next(), 0
        data = self._piece[self._at : self._at + size]
        self._at += len(data)
        return data

    def _next(self) -> bytes:
        try:
            piece = self._pieces.get_nowait()
        except queue.Empty:
            self._working.release()
            try:
                piece = self._pieces.get()
            finally:
                self._working.acquire()
        if isinstance(piece, Exception) or not piece:
            self._pieces.put(piece)  # for whoever reads on
        if isinstance(piece, Exception):
            raise piece
        if piece:
            self._loop.call_soon_threadsafe(self._room.release)
        return piece
