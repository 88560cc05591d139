"""A pipe of bytes from the event loop to a thread, a few pieces ahead: a download is extracted while it comes.

Knows neither where the bytes come from nor what becomes of them.
"""

from __future__ import annotations

import asyncio
import queue
import threading
import time
from collections.abc import AsyncIterator

AHEAD = 4  # pieces that wait for the thread


class Pipe:
    """`fill` belongs to the event loop, `read` to one thread, which releases its slot of `slots` while it waits.

    `filled`: when the last piece came, by time.monotonic; 0 before.
    """

    def __init__(self, slots: threading.Semaphore) -> None:
        self.filled = 0.0
        self._loop = asyncio.get_running_loop()
        self._slots = slots
        self._room = asyncio.Semaphore(AHEAD)
        self._pieces: queue.SimpleQueue[bytes | Exception] = queue.SimpleQueue()  # an empty piece is the end
        self._piece = b""
        self._position = 0  # bytes of the piece that were read

    async def fill(self, pieces: AsyncIterator[bytes]) -> None:
        """Pass on all pieces, or the error. If it is cancelled, `read` raises InterruptedError."""
        try:
            async for piece in pieces:
                if piece:
                    await self._room.acquire()
                    self._pieces.put(piece)
            self.filled = time.monotonic()
            self._pieces.put(b"")
        except Exception as error:
            self._pieces.put(error)
        except asyncio.CancelledError:
            self._pieces.put(InterruptedError("the pipe is no longer filled"))
            raise

    def read(self, size: int) -> bytes:
        """Return at least one byte and at most `size`; none at the end. Blocks. Raises the error that `fill` met."""
        if self._position == len(self._piece):
            self._piece, self._position = self._next(), 0
        data = self._piece[self._position : self._position + size]
        self._position += len(data)
        return data

    def _next(self) -> bytes:
        try:
            piece = self._pieces.get_nowait()
        except queue.Empty:
            self._slots.release()
            try:
                piece = self._pieces.get()
            finally:
                self._slots.acquire()
        if isinstance(piece, Exception) or not piece:
            self._pieces.put(piece)  # the next read gets it again
        if isinstance(piece, Exception):
            raise piece
        if piece:
            self._loop.call_soon_threadsafe(self._room.release)
        return piece
