"""CBOR (RFC 8949), as far as Smithy's RPC v2 protocol has it, and no further: what else a body holds is refused.

A general decoder makes values of hundreds of tags, expressions and shared items among them, and takes any value for a
key: a small body of those can hold a process up for minutes. Values are None, bool, int, float, str, bytes, lists and
dicts with text for keys; a Timestamp is written with its tag, and read as the number in it.
"""

from __future__ import annotations

import struct
from typing import Any

_DEEPEST = 32
_EPOCH = 1  # the tag of a time in epoch seconds
_BREAK = 0xFF
_INDEFINITE = 31
_SIMPLE = {20: False, 21: True, 22: None, 23: None}  # 23: undefined
_FLOATS = {25: ">e", 26: ">f", 27: ">d"}


class Timestamp(float):
    """Epoch seconds."""


class NotCbor(ValueError):
    """The bytes are no item of this CBOR. The message says why."""


def loads(data: bytes) -> Any:
    """Return the value of an item, and nothing after it. Raises NotCbor."""
    reader = _Reader(data)
    value = reader.item(0)
    if reader.at != len(data):
        raise NotCbor("something follows its end")
    return value


class _Reader:
    def __init__(self, data: bytes) -> None:
        self._data = data
        self.at = 0

    def item(self, depth: int) -> Any:
        if depth > _DEEPEST:
            raise NotCbor("it is nested too deeply")
        major, info = self._initial()
        match major:
            case 0:
                return self._number(info)
            case 1:
                return -1 - self._number(info)
            case 2 | 3:
                text = self._string(major, info)
                return text if major == 2 else self._text(text)
            case 4:
                return self._array(info, depth + 1)
            case 5:
                return self._map(info, depth + 1)
            case 6:
                return self._tagged(info, depth + 1)
        return self._simple(info)

    def _take(self, count: int) -> bytes:
        taken = self._data[self.at : self.at + count]
        if len(taken) < count:
            raise NotCbor("its end is missing")
        self.at += count
        return taken

    def _initial(self) -> tuple[int, int]:
        (byte,) = self._take(1)
        return byte >> 5, byte & 31

    def _number(self, info: int) -> int:
        if info < 24:
            return info
        if info > 27:
            raise NotCbor("a number has no length")
        return int.from_bytes(self._take(1 << (info - 24)))

    def _ended(self) -> bool:
        """Consume the break that ends an item of indefinite length, if it is here."""
        if self._data[self.at : self.at + 1] != b"\xff":
            return False
        self.at += 1
        return True

    def _string(self, major: int, info: int) -> bytes:
        if info != _INDEFINITE:
            return self._take(self._number(info))
        pieces = []
        while not self._ended():
            piece_major, piece_info = self._initial()
            if piece_major != major:
                raise NotCbor("a string has pieces of another type")
            pieces.append(self._take(self._number(piece_info)))
        return b"".join(pieces)

    def _text(self, data: bytes) -> str:
        try:
            return data.decode()
        except UnicodeDecodeError:
            raise NotCbor("a text is not UTF-8") from None

    def _array(self, info: int, depth: int) -> list[Any]:
        if info != _INDEFINITE:
            return [self.item(depth) for _ in range(self._number(info))]
        items = []
        while not self._ended():
            items.append(self.item(depth))
        return items

    def _map(self, info: int, depth: int) -> dict[str, Any]:
        result = {}
        left = self._number(info) if info != _INDEFINITE else -1
        while left and not (left < 0 and self._ended()):
            major, key_info = self._initial()
            if major != 3:
                raise NotCbor("a key is no text")
            key = self._text(self._string(3, key_info))
            result[key] = self.item(depth)
            left -= 1
        return result

    def _tagged(self, info: int, depth: int) -> float:
        tag, value = self._number(info), self.item(depth)
        if tag != _EPOCH or not isinstance(value, (int, float)) or isinstance(value, bool):
            raise NotCbor(f"it has a value with the tag {tag}")
        return value

    def _simple(self, info: int) -> Any:
        if info in _FLOATS:
            return struct.unpack(_FLOATS[info], self._take(1 << (info - 24)))[0]
        if info not in _SIMPLE:
            raise NotCbor("it has a value of an unknown type")
        return _SIMPLE[info]


def dumps(value: Any) -> bytes:
    """Return the item of a value."""
    out = bytearray()
    _write(value, out)
    return bytes(out)


def _write(value: Any, out: bytearray) -> None:
    match value:
        case None:
            out.append(0xF6)
        case bool():
            out.append(0xF5 if value else 0xF4)
        case int():
            _head(*((0, value) if value >= 0 else (1, -1 - value)), out)
        case Timestamp():
            _head(6, _EPOCH, out)
            out += struct.pack(">Bd", 0xFB, value)
        case float():
            out += struct.pack(">Bd", 0xFB, value)
        case str():
            text = value.encode()
            _head(3, len(text), out)
            out += text
        case bytes():
            _head(2, len(value), out)
            out += value
        case list():
            _head(4, len(value), out)
            for item in value:
                _write(item, out)
        case dict():
            _head(5, len(value), out)
            for key, item in value.items():
                _write(key, out)
                _write(item, out)
        case _:
            raise TypeError(f"CBOR is not written of {type(value)}")


def _head(major: int, number: int, out: bytearray) -> None:
    """Write the type of an item and its number: value, length or tag. Raises OverflowError beyond 64 bits."""
    if number < 24:
        out.append(major << 5 | number)
        return
    size = next((size for size in (1, 2, 4) if number < 1 << 8 * size), 8)
    out.append(major << 5 | 23 + size.bit_length())
    out += number.to_bytes(size)
