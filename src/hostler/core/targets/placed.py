"""An artifact that a container can read: what storages return, on this machine and on others."""

from __future__ import annotations

import msgspec


class Placed(msgspec.Struct, frozen=True):
    """An artifact where a container can read it."""

    model_id: str  # the container's name for the target; the folder's, with dots, of what is no target
    target: str  # empty for what is no target
    bucket: str
    key: str
    version: str  # of the object: its ETag; empty: an earlier hostler placed it
    shown: str  # the folder's path, as the container sees it
    size: int  # bytes, extracted
    memory: int | None = None  # bytes that its last load took; None: it was never measured
    download: float = 0.0  # seconds; both are 0 if the artifact was on disk already
    extract: float = 0.0
