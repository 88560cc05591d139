"""Framed messages on a connection: four bytes of length (big-endian), then a msgpack-encoded tagged struct.

All links use it. It knows nothing of what the messages mean. A message with an unknown tag is of a newer version, and
skipped; one that cannot be read ends the link, with a line in the log.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable
from typing import Generic, TypeVar, get_args

import msgspec

log = logging.getLogger(__name__)

Incoming = TypeVar("Incoming")

LIMIT = 64 * 2**20  # bytes of a message


class _Tagged(msgspec.Struct):
    """Any message, of which the tag alone is read."""

    type: str


class Frames(Generic[Incoming]):
    """One end of a link. `incoming`: the union of message structs that the other end may send. `limit`: bytes of one
    such message. `warn`: gets the line for the log when the link is closed because of one.
    """

    def __init__(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        incoming: object,
        limit: int = LIMIT,
        warn: Callable[[str], object] = log.warning,
    ) -> None:
        self._reader = reader
        self._writer = writer
        self._limit = limit
        self._warn = warn
        self._encoder = msgspec.msgpack.Encoder()
        self._decoder: msgspec.msgpack.Decoder[Incoming] = msgspec.msgpack.Decoder(incoming)
        self._tags = {each.__struct_config__.tag for each in get_args(incoming) or (incoming,)}

    def send(self, message: msgspec.Struct) -> int:
        """Queue one message; return its bytes. Never blocks; a closed link swallows it, and `receive` reports the
        close.
        """
        if self._writer.is_closing():
            return 0
        payload = self._encoder.encode(message)
        if not self._writer.is_closing():  # uvloop raises RuntimeError, until `receive` has had its turn
            self._writer.write(len(payload).to_bytes(4, "big") + payload)
        return len(payload)

    @property
    def unsent(self) -> int:
        """Bytes that the system has not taken yet, because the other end reads slowly."""
        return self._writer.transport.get_write_buffer_size()

    async def receive(self) -> Incoming | None:
        """Return the next message, or None once the link has ended (also mid-message, or by one that is malformed)."""
        try:
            while True:
                length = int.from_bytes(await self._reader.readexactly(4), "big")
                if length > self._limit:
                    self._warn(f"a message of {length} bytes is too long, so the link is closed")
                    return None
                payload = await self._reader.readexactly(length)
                try:
                    return self._decoder.decode(payload)
                except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError) as error:
                    if not self._unknown(payload):
                        self._warn(f"a message cannot be read, so the link is closed: {error}")
                        return None
        except (asyncio.IncompleteReadError, OSError):
            return None

    def _unknown(self, payload: bytes) -> bool:
        """Whether a message is of a kind that this version does not know."""
        try:
            return msgspec.msgpack.decode(payload, type=_Tagged).type not in self._tags
        except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
            return False

    def close(self) -> None:
        """Close the link for both ends."""
        self._writer.close()

    def abort(self) -> None:
        """Close the link, and forget the messages that wait to be sent."""
        self._writer.transport.abort()
