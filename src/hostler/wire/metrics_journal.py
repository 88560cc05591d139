"""What a gateway leaves for the metrics: a journal, in segments, each a file of records.

A record is four bytes of length, four of checksum (both big-endian) and msgpack. What is torn or damaged is passed
over: the checksum says where the next record begins.
"""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from zlib import crc32

import msgspec


class Row(msgspec.Struct, gc=False, array_like=True):
    """An invocation of a variant, as far as metrics go. Times are whole microseconds."""

    target: str
    error: int  # of its model: 4 (it answered with 4xx), 5 (any other), 0: none
    model: int  # the time with containers; -1: its model neither answered nor failed
    overhead: int  # the time without
    wait: int  # for its target; 0: that was resident; -1: it has none
    containers: dict[str, int]  # the time with each of several containers that were called, the last one last


class Sheet(msgspec.Struct, gc=False, array_like=True):
    """Invocations of one variant that ended in one minute."""

    minute: int  # epoch seconds // 60
    region: str
    endpoint: str
    variant: str
    instances: int  # of the variant, then
    rows: list[Row]


class LogEnd(msgspec.Struct, frozen=True, array_like=True):
    """A place in the access log, by its bytes: so it is known again in a log that was moved, or copied."""

    size: int = 0  # bytes before it; 0: the log has not begun
    checksum: int = 0  # of the last of them


class Record(msgspec.Struct, gc=False, array_like=True):
    """The sheets of one batch. `log`: after its lines; those before it are in the journal. None: no log is kept."""

    log: LogEnd | None
    sheets: list[Sheet]


_HEAD = 8  # bytes
_encoder = msgspec.msgpack.Encoder()
_decoder = msgspec.msgpack.Decoder(Record)


def encode(record: Record) -> bytes:
    payload = _encoder.encode(record)
    return len(payload).to_bytes(4, "big") + crc32(payload).to_bytes(4, "big") + payload


def decode(data: bytes) -> Iterator[tuple[Record, int]]:
    """Yield the whole records of the data, each with the offset of its end.

    Bytes that are none, and records that another version wrote in another form, are left out.
    """
    begin = 0
    while len(data) >= begin + _HEAD:
        end = begin + _HEAD + int.from_bytes(data[begin : begin + 4], "big")
        payload = data[begin + _HEAD : end]
        if len(data) < end or crc32(payload) != int.from_bytes(data[begin + 4 : begin + _HEAD], "big"):
            begin += 1
            continue
        begin = end
        try:
            record = _decoder.decode(payload)
        except msgspec.DecodeError:
            continue
        yield record, end


def segments(folder: Path) -> dict[str, list[int]]:
    """Return the numbers of each gateway's segments, the oldest first."""
    found: dict[str, list[int]] = {}
    for path in folder.glob("*.journal"):
        gateway, _, number = path.stem.rpartition(".")
        if gateway and number.isdecimal():
            found.setdefault(gateway, []).append(int(number))
    return {gateway: sorted(numbers) for gateway, numbers in found.items()}


def segment(folder: Path, gateway: str, number: int) -> Path:
    return folder / f"{gateway}.{number}.journal"
