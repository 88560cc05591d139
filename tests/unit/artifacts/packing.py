"""Archives and sources for the tests of the disk and of a container's storage."""

from __future__ import annotations

import asyncio
import io
import os
import tarfile
from collections.abc import AsyncIterator, Callable
from pathlib import Path

from hostler.artifacts.archive import Limits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource, ObjectInfo

LIMITS = Limits(bytes=1 << 20, files=100, ratio=200)


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz") as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


class CountingSource(EmbeddedSource):
    """The embedded source; counts what is asked of it, and holds answers back while `gate` is closed.

    With `streamed`, it hides that the files lie on this machine: as a real S3 does.
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
        found = await super().head(bucket, key)
        self.after_head()
        return ObjectInfo(bucket, key, found.size, found.etag) if self._streamed else found

    async def read(self, info: ObjectInfo) -> AsyncIterator[bytes]:
        self.reads += 1
        async for chunk in super().read(await EmbeddedSource.head(self, info.bucket, info.key)):
            yield chunk


class Place:
    """A folder with a bucket and a disk cache."""

    def __init__(self, folder: Path, *, budget: int = 1 << 30, streamed: bool = False) -> None:
        self.folder = folder
        self.bucket = folder / "s3" / "bucket"
        self.bucket.mkdir(parents=True, exist_ok=True)
        self.source = CountingSource(folder / "s3", streamed=streamed)
        self.disk = ArtifactCache(folder / "artifacts", self.source, budget, LIMITS)

    def put(self, key: str, **files: bytes) -> None:
        """Objects appear by a rename, as all that the embedded S3 writes."""
        (self.bucket / key).parent.mkdir(parents=True, exist_ok=True)
        (self.folder / "new").write_bytes(archive(**files))
        os.replace(self.folder / "new", self.bucket / key)

    def entries(self) -> list[str]:
        """What the cache's folder holds; the folder for half work must be empty."""
        assert list((self.folder / "artifacts" / ".work").iterdir()) == []
        return sorted(path.name for path in (self.folder / "artifacts").iterdir() if path.name != ".work")
