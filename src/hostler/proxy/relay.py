"""Passes bytes between two connections, each way as fast as its reader reads, and each way's end by itself.

An end that TLS has cannot be closed in one direction: then the other end's end closes both, once all is written.
"""

from __future__ import annotations

import asyncio
import socket
import struct

_BUFFER = 262_144  # bytes written and not sent; past it the other end is not read


class End(asyncio.Protocol):
    """One connection of a relay. Nothing is passed on before it is joined to the other end."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport | None = None  # None: not there yet, or no more
        self.other: End | None = None
        self.early = b""  # what arrived before it was joined; its transport is not read meanwhile
        self.has_ended = False  # the peer sends no more
        self.error: Exception | None = None  # by which it was lost

    def join(self, other: End) -> None:
        """Make the two ends a relay: pass on what came early, also from one that has closed since, and read both."""
        self.other, other.other = other, self
        for end, opposite in ((self, other), (other, self)):
            early, end.early = end.early, b""
            if early:
                end.data_received(early)
            if end.transport is None:
                end._close_other(end.error)
            elif end.has_ended and not end._pass_end():
                end.transport.close()
            elif opposite.transport is not None:
                end.transport.resume_reading()

    # --- asyncio's callbacks

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.use(transport)  # type: ignore[arg-type]

    def use(self, transport: asyncio.Transport) -> None:
        """Write to this transport from now on."""
        self.transport = transport
        transport.set_write_buffer_limits(_BUFFER)

    def data_received(self, data: bytes) -> None:
        if self.other is None:
            self.early += data
        elif self.other.transport is not None:
            self.other.transport.write(data)

    def eof_received(self) -> bool:
        """Pass the end on. Returns whether this connection stays open, for the other direction."""
        self.has_ended = True
        if self.other is None:  # it is passed on later
            return self.transport is not None and self.transport.can_write_eof()
        return self._pass_end()

    def _pass_end(self) -> bool:
        other = self.other
        if other is None or other.transport is None or self.transport is None:
            return False
        if other.has_ended or not other.transport.can_write_eof():
            return False
        other.transport.write_eof()
        return self.transport.can_write_eof()

    def connection_lost(self, error: Exception | None) -> None:
        self.transport, self.error = None, error
        self._close_other(error)

    def _close_other(self, error: Exception | None) -> None:
        if self.other is None or self.other.transport is None:
            return
        if error is None:
            self.other.transport.close()  # once all is written
        else:
            reset(self.other.transport)  # so that nobody takes a part for the whole

    def pause_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.pause_reading()

    def resume_writing(self) -> None:
        if self.other is not None and self.other.transport is not None:
            self.other.transport.resume_reading()


def reset(transport: asyncio.Transport) -> None:
    """Close a connection so that its peer sees that it is broken."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    transport.abort()


def keep_alive(transport: asyncio.BaseTransport) -> None:
    """Have the system find out that a peer is gone."""
    sock = transport.get_extra_info("socket")
    if sock is not None:
        sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
