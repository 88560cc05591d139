"""Where artifacts come from: the embedded S3's plain files, or a real S3 through obstore."""

from __future__ import annotations

from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol


@dataclass(frozen=True)
class ObjectInfo:
    """What HEAD says of an object. `path` is set when the bytes lie on this machine and can be read directly."""

    bucket: str
    key: str
    size: int
    etag: str
    path: Path | None = None


class Source(Protocol):
    """Reads objects. Errors are ArtifactMissing (S3's own reason) and StorageUnavailable."""

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        """What is there. Raises ArtifactMissing, StorageUnavailable."""

    def read(self, info: ObjectInfo) -> AsyncIterator[bytes]:
        """The bytes of exactly the version that `info` describes; a change in between raises ArtifactBad."""
