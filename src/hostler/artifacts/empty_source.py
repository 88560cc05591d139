"""A source in which every object is there, and empty: for endpoints that answer without a model."""

from __future__ import annotations

import io
import tarfile
from collections.abc import AsyncGenerator

from hostler.artifacts.source import Listed, OpenedStream, Unchanged

_ETAG = "canned"


class EmptySource:
    """A Source whose objects are all the same archive, without a member."""

    def __init__(self) -> None:
        buffer = io.BytesIO()
        tarfile.open(fileobj=buffer, mode="w:gz").close()
        self._archive = buffer.getvalue()

    async def open(self, bucket: str, key: str, known: str = "") -> OpenedStream | Unchanged:
        return Unchanged() if known == _ETAG else OpenedStream(_ETAG, len(self._archive), self._pieces())

    async def list(self, bucket: str, prefix: str, most: int) -> tuple[Listed, ...]:
        return (Listed(f"{prefix}empty", _ETAG, len(self._archive)),)

    async def _pieces(self) -> AsyncGenerator[bytes, None]:
        yield self._archive
