"""RecordIO frames of protobuf Records, SageMaker's own format of training data: rows from a body, labels to one.

A frame is the number 0xCED7230A, the record's length, both 4 bytes in little-endian order, and the record, padded to
four bytes. Of a Record (aialgs.data in aws/sagemaker-containers, record_pb2.py) only the features named `values` are
read, a tensor that is dense, or sparse if it has keys; and only labels are written.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import TYPE_CHECKING, NamedTuple

from hostler.servers.codecs import checks
from hostler.servers.frameworks.predictor import Rejected

if TYPE_CHECKING:
    import numpy as np

_MAGIC = 0xCED7230A
_FRAME = struct.Struct("<II")
_FEATURES, _LABEL = 1, 2  # fields of a Record
_KEY, _VALUE = 1, 2  # of a map's entry
_VALUES, _KEYS, _SHAPE = 1, 2, 3  # of a tensor
_TENSORS = {2: "<f4", 3: "<f8", 7: "varint"}  # of a Value: how the values of its tensors are written
_VARINT, _EIGHT, _BYTES, _FOUR = 0, 1, 2, 5  # protobuf's wire types
_LONGEST = 10  # bytes of a varint


class _Row(NamedTuple):
    """One record's values; `keys` are their columns, None for a dense row. `width`: columns, 0 if nothing says it."""

    values: np.ndarray
    keys: np.ndarray | None
    width: int


class _Malformed(ValueError):
    """Bytes that are no such record."""


def table(body: bytes) -> np.ndarray:
    """Return a float64 array, a row for each record; columns without a value in a sparse row are NaN.

    Raises Rejected: 400 for a body that does not parse, 413 for one of too many cells.
    """
    import numpy as np

    try:
        rows = [row for record in _records(body) for row in _rows(record)]
    except _Malformed as error:
        raise Rejected(400, f"The body is not recordio-protobuf: {error}.") from None
    if not rows:
        raise Rejected(400, "The body is not recordio-protobuf: it has no record with features named values.")
    widths = {row.width or int(row.keys.max(initial=0)) + 1 if row.keys is not None else row.width for row in rows}
    if len(widths) > 1:
        raise Rejected(400, "The records of the body have different numbers of features.")
    width = widths.pop()
    checks.check_cells(len(rows) * width)
    table = np.full((len(rows), width), np.nan)
    for number, row in enumerate(rows):
        if row.keys is None:
            table[number] = row.values
        elif row.keys.max(initial=0) >= width:
            raise Rejected(400, "A record of the body has a feature beyond its shape.")
        else:
            table[number, row.keys] = row.values
    return table


def labels(rows: Sequence[Mapping[str, Sequence[float]]]) -> bytes:
    """Encode rows: a record for each, its labels float32 tensors by name."""
    return b"".join(_framed(b"".join(_field(_LABEL, _entry(*label)) for label in row.items())) for row in rows)


def _records(body: bytes) -> Iterator[bytes]:
    offset = 0
    while offset < len(body):
        if len(body) - offset < _FRAME.size:
            raise _Malformed("it ends within a frame")
        magic, length = _FRAME.unpack_from(body, offset)
        if magic != _MAGIC:
            raise _Malformed("a frame does not begin with 0xCED7230A")
        offset += _FRAME.size
        padded = length + -length % 4
        if padded > len(body) - offset:
            raise _Malformed("it ends within a record")
        yield body[offset : offset + length]
        offset += padded


def _rows(record: bytes) -> Iterator[_Row]:
    """Yield the row of a record; nothing if it has no features named `values`."""
    found: bytes | None = None
    for number, entry in _fields(record):
        if number == _FEATURES and isinstance(entry, bytes):
            pair = dict(_fields(entry))
            if pair.get(_KEY) == b"values" and isinstance(value := pair.get(_VALUE, b""), bytes):
                found = value
    if found is None:
        return
    tensors = [(_TENSORS[number], data) for number, data in _fields(found) if number in _TENSORS]
    if tensors and isinstance(tensors[-1][1], bytes):
        yield _row(tensors[-1][0], tensors[-1][1])


def _row(kind: str, tensor: bytes) -> _Row:
    import numpy as np

    parts: dict[int, list[np.ndarray]] = {_VALUES: [], _KEYS: [], _SHAPE: []}
    for number, data in _fields(tensor):
        form = kind if number == _VALUES else "varint"
        if number in parts and not (isinstance(data, int) and form != "varint"):  # an unknown field to protobuf
            parts[number].append(_numbers(data, form))
    values, keys, shape = (np.concatenate(part) if part else None for part in parts.values())
    # Negative and huge numbers of columns are as large as an int64 can be, and no table is as wide.
    width = int(shape[0]) if shape is not None and shape.size else 0
    if values is None:
        values = np.empty(0)
    if keys is None and (values.size or not width):
        return _Row(values, None, values.size)
    keys = np.empty(0, np.int64) if keys is None else keys
    if keys.size != values.size:
        raise _Malformed("a tensor has more keys than values, or less")
    if (keys.size and (keys.min() < 0 or keys.max() >= 2**31)) or not 0 <= width < 2**31:
        raise _Malformed("a tensor's key or shape is too large")
    return _Row(values, keys, width)


def _numbers(data: bytes | int, kind: str) -> np.ndarray:
    """Return the numbers of one occurrence of a repeated field: packed, or one alone."""
    import numpy as np

    if isinstance(data, int):
        data = _encoded(data)
    if kind == "varint":
        return _varints(data)
    if len(data) % int(kind[-1]):
        raise _Malformed("a tensor's values end within a number")
    numbers: np.ndarray = np.frombuffer(data, kind)
    return numbers


def _varints(data: bytes) -> np.ndarray:
    """Decode packed varints as int64."""
    import numpy as np

    octets = np.frombuffer(data, np.uint8)
    ends = np.flatnonzero(octets < 128)
    if not octets.size:
        return np.empty(0, np.int64)
    if not ends.size or ends[-1] != octets.size - 1:
        raise _Malformed("it ends within a number")
    starts = np.concatenate(([0], ends[:-1] + 1))
    lengths = ends - starts + 1
    if lengths.max() > _LONGEST:
        raise _Malformed("a number is too long")
    shifts = (np.arange(octets.size) - np.repeat(starts, lengths)) * 7
    parts = (octets & 127).astype(np.uint64) << shifts.astype(np.uint64)
    numbers: np.ndarray = np.bitwise_or.reduceat(parts, starts).astype(np.int64)
    return numbers


def _fields(message: bytes) -> Iterator[tuple[int, bytes | int]]:
    """Yield a message's fields: a varint as a number, any other as its bytes."""
    offset = 0
    while offset < len(message):
        tag, offset = _varint(message, offset)
        wire = tag & 7
        if wire == _VARINT:
            value, offset = _varint(message, offset)
            yield tag >> 3, value
            continue
        if wire == _BYTES:
            length, offset = _varint(message, offset)
        elif wire in (_EIGHT, _FOUR):
            length = 8 if wire == _EIGHT else 4
        else:
            raise _Malformed("a field has an unknown wire type")
        if length > len(message) - offset:
            raise _Malformed("it ends within a field")
        yield tag >> 3, message[offset : offset + length]
        offset += length


def _varint(data: bytes, offset: int) -> tuple[int, int]:
    """Return the varint at an offset, and the offset after it."""
    value = 0
    for position, octet in enumerate(data[offset : offset + _LONGEST]):
        value |= (octet & 127) << (7 * position)
        if octet < 128:
            return value, offset + position + 1
    raise _Malformed("it ends within a number")


def _framed(record: bytes) -> bytes:
    return _FRAME.pack(_MAGIC, len(record)) + record + bytes(-len(record) % 4)


def _entry(name: str, values: Sequence[float]) -> bytes:
    tensor = _field(_VALUES, struct.pack(f"<{len(values)}f", *values))
    return _field(_KEY, name.encode()) + _field(_VALUE, _field(2, tensor))


def _field(number: int, data: bytes) -> bytes:
    return _encoded(number << 3 | _BYTES) + _encoded(len(data)) + data


def _encoded(number: int) -> bytes:
    """Encode a varint."""
    octets = bytearray()
    while number > 127:
        octets.append(number & 127 | 128)
        number >>= 7
    octets.append(number)
    return bytes(octets)
