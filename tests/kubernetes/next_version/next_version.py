"""Makes a hostler of the next version: each message of its links, and each struct within, has fields that this version
does not know, and before each goes a message of a kind that it does not know. In the image every Python begins with it.
"""

from __future__ import annotations

import sys
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType
from typing import Any

VERSION = 2  # of the links' messages
UNKNOWN = {"of_the_next_version": {"list": [1, None, "one"], "bytes": b"\xff"}}
RUMOUR = {"type": "Rumour", **UNKNOWN}


def speak() -> None:
    """Have `hostler.wire.frames` and `hostler.wire.door` changed as soon as they are imported."""
    sys.meta_path.insert(0, _Finder())


class _Finder(MetaPathFinder):
    def find_spec(self, name: str, path: Any, target: ModuleType | None = None) -> ModuleSpec | None:
        if name not in _CHANGES:
            return None
        spec = PathFinder.find_spec(name, path, target)
        assert spec
        assert spec.loader
        spec.loader = _Changed(spec.loader)
        return spec


class _Changed(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _CHANGES[module.__name__](module)


def _of_door(door: Any) -> None:
    door.VERSION = VERSION


def _of_frames(frames: Any) -> None:
    """Have all that is sent begin with the rumour, except the first message of a link, which says who is there."""
    import msgspec

    encode = msgspec.msgpack.encode

    def grown(value: Any) -> Any:
        """Return a value as it is sent, with unknown fields in every struct."""
        if isinstance(value, msgspec.Struct):
            if value.__struct_config__.array_like:
                return [*(grown(getattr(value, name)) for name in value.__struct_fields__), UNKNOWN]
            fields = msgspec.msgpack.decode(encode(value))
            for name, sent in zip(value.__struct_fields__, value.__struct_encode_fields__, strict=True):
                if sent in fields:
                    fields[sent] = grown(getattr(value, name))
            return {**fields, **UNKNOWN}
        if isinstance(value, dict):
            return {key: grown(each) for key, each in value.items()}
        if isinstance(value, (list, tuple, set, frozenset)):
            return [grown(each) for each in value]
        return value

    def send(link: Any, message: Any) -> int:
        sent = 0
        for each in (grown(message),) if message.__struct_config__.tag == "Hello" else (RUMOUR, grown(message)):
            payload = encode(each)
            if link._writer.is_closing():
                return 0
            link._writer.write(len(payload).to_bytes(4, "big") + payload)
            sent += len(payload)
        return sent

    frames.Frames.send = send


_CHANGES = {"hostler.wire.door": _of_door, "hostler.wire.frames": _of_frames}
