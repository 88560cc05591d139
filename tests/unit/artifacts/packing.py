"""Archives, sources and a cache for the tests of the cache and of a container's storage."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource, ObjectInfo

LIMITS = ArchiveLimits(bytes=1 << 20, files=100, ratio=200)


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class CountingSource(EmbeddedSource):
    """The embedded source; counts requests, and delays answers while `gate` is closed.

    With `streamed` its objects have no path on this machine, like those of a real S3.
    """

    def __init__(self, root: Path, *, streamed: bool = False) -> None:
        super().__init__(root)
        self.heads = self.reads = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.after_head: Callable[[], None] = lambda: None
        self._streamed = streamed

    async def head(self, bucket: str, key: str) -> ObjectInfo:
        self.heads += 1
        await self.gate.wait()
        info = await super().head(bucket, key)
        self.after_head()
        return ObjectInfo(bucket, key, info.size, info.etag) if self._streamed else info

    async def read(self, info: ObjectInfo) -> AsyncIterator[bytes]:
        self.reads += 1
        async for chunk in super().read(await EmbeddedSource.head(self, info.bucket, info.key)):
            yield chunk


class ArtifactSetup:
    """A folder with a bucket and a cache."""

    def __init__(self, folder: Path, *, budget: int = 1 << 30, streamed: bool = False) -> None:
        self.folder = folder
        self.bucket = folder / "s3" / "bucket"
        self.bucket.mkdir(parents=True, exist_ok=True)
        self.source = CountingSource(folder / "s3", streamed=streamed)
        self.cache = ArtifactCache(folder / "artifacts", self.source, budget, LIMITS)

    def put(self, key: str, **files: bytes) -> None:
        """Write an object by a rename, as the embedded S3 does."""
        (self.bucket / key).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "new").write_bytes(archive(**files))
        os.replace(self.folder / "new", self.bucket / key)

    def entries(self) -> list[str]:
        """Return the names in the cache's folder; the folder for unfinished work must be empty."""
        assert list((self.folder / "artifacts" / ".work").iterdir()) == []
        return sorted(path.name for path in (self.folder / "artifacts").iterdir() if path.name != ".work")
