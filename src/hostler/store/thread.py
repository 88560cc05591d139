"""A store's own thread, for its blocking calls."""

from __future__ import annotations

import asyncio
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from typing import ParamSpec, Protocol, TypeVar

from sqlalchemy.exc import OperationalError

from hostler.errors import ApiError

P = ParamSpec("P")
T = TypeVar("T")


class _Store(Protocol):
    def close(self) -> None: ...


class StoreThread:
    """One thread for all calls of a store: one writer, and answers in the order of the calls."""

    def __init__(self, store: _Store, name: str = "store") -> None:
        """Start no thread yet: the first call does, under that name."""
        self._store = store
        self._thread = ThreadPoolExecutor(1, name)

    async def call(self, method: Callable[P, T], *args: P.args, **kwargs: P.kwargs) -> T:
        """Call a method of the store. Raises ApiError if the database cannot be written, above all on a full disk."""
        try:
            return await asyncio.get_running_loop().run_in_executor(self._thread, lambda: method(*args, **kwargs))
        except OperationalError as error:
            message = (
                f"hostler cannot keep its state, so nothing was changed: {error.orig}. Make room where its data is."
            )
            raise ApiError("ServiceUnavailable", message, 503) from error

    def close(self) -> None:
        """Wait for the calls in progress, then close the store."""
        self._thread.shutdown()
        self._store.close()
