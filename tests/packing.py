"""Archives of files; sources and a cache for the tests of the cache and of a container's storage."""

from __future__ import annotations

import asyncio
import gzip
import io
import os
import tarfile
from collections.abc import AsyncGenerator, Callable, Mapping
from pathlib import Path

from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource, Opened, OpenedStream, Unchanged

LIMITS = ArchiveLimits(bytes=1 << 20, files=100, ratio=200)


def archive(**files: bytes) -> bytes:
    """Return an artifact, as S3 has it."""
    return gzip.compress(tar(files, 0o644))


def tar(files: Mapping[str, bytes], mode: int = 0o755) -> bytes:
    """Return a tar of these files, by their paths. `mode`: of each; programs may be executed."""
    packed = io.BytesIO()
    with tarfile.open(fileobj=packed, mode="w") as writer:
        for name, content in files.items():
            member = tarfile.TarInfo(name)
            member.size, member.mode = len(content), mode
            writer.addfile(member, io.BytesIO(content))
    return packed.getvalue()


class CountingSource(EmbeddedSource):
    """The embedded source; counts requests and answers, and delays answers while `gate` is closed.

    With `streamed` its objects come in pieces, like those of a real S3.
    """

    def __init__(self, root: Path, *, streamed: bool = False) -> None:
        super().__init__(root)
        self.requests = self.opened = self.unchanged = 0
        self.gate = asyncio.Event()
        self.gate.set()
        self.after_open: Callable[[], None] = lambda: None
        self._streamed = streamed

    async def open(self, bucket: str, key: str, known: str = "") -> Opened | Unchanged:
        self.requests += 1
        await self.gate.wait()
        opened = await super().open(bucket, key, known)
        if isinstance(opened, Unchanged):
            self.unchanged += 1
            return opened
        self.opened += 1
        self.after_open()
        if not self._streamed:
            return opened
        with opened.file:
            return OpenedStream(opened.etag, opened.size, self.pieces(opened.file.readall()))

    async def pieces(self, data: bytes) -> AsyncGenerator[bytes, None]:
        """Yield an object's bytes in pieces."""
        yield data


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
