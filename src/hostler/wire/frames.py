"""Framed messages on a unix socket: four bytes of length (big-endian), then a msgpack-encoded tagged struct.

Both links (gateway-control, control-host) use it. It knows nothing of what the messages mean.
"""

from __future__ import annotations

import asyncio
from typing import Generic, TypeVar

import msgspec

Incoming = TypeVar("Incoming")

_LIMIT = 64 * 2**20


class Frames(Generic[Incoming]):
    """One end of a link. `incoming`: the union of message structs that the other end may send."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, incoming: object) -> None:
        self._reader = reader
        self._writer = writer
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Incoming] = msgspec.msgpack.Decoder(incoming)

    def send(self, message: msgspec.Struct) -> None:
        """Queue one message. Never blocks; a closed link swallows it, and `receive` reports the close."""
        payload = self._encoder.encode(message)
        self._writer.write(len(payload).to_bytes(4, "big") + payload)

    async def receive(self) -> Incoming | None:
        """Return the next message, or None once the other end has closed (also mid-message)."""
        try:
            length = int.from_bytes(await self._reader.readexactly(4), "big")
            if length > _LIMIT:
                return None
            return self._decoder.decode(await self._reader.readexactly(length))
        except (asyncio.IncompleteReadError, ConnectionError):
            return None

    def close(self) -> None:
        """Close the link for both ends."""
        self._writer.close()
