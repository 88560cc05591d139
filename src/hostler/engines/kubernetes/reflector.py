"""What there is of a kind in a namespace: a list that a watch keeps up to date.

It is as of some moment in the last seconds, or says that it is not: a server that is mute, or away, never keeps anybody
waiting, and nothing follows from its silence.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from typing import Generic, Protocol, TypeVar

from hostler.engines.kubernetes.answers import Metadata
from hostler.engines.kubernetes.api import Api, Expired, parsed
from hostler.errors import EngineAway, EngineError

logger = logging.getLogger("hostler.engine")

STALE = 30.0  # seconds without a word of the server after which the cache does not count
_FIRST_PAUSE, _LONGEST_PAUSE = 0.2, 5.0  # seconds until the next attempt


class _Object(Protocol):
    @property
    def metadata(self) -> Metadata: ...


T = TypeVar("T", bound=_Object)


class Reflector(Generic[T]):
    """`path`: of the kind in its namespace. `query`: selectors. `changed`: called with the name of what has changed."""

    def __init__(
        self, api: Api, path: str, query: Mapping[str, str], kind: type[T], changed: Callable[[str], None]
    ) -> None:
        self.objects: dict[str, T] = {}  # by name
        self.away = ""  # why the server cannot be asked just now; empty: it answers
        self.asked = asyncio.Event()  # once at least, whether it has answered or not
        self._api, self._path, self._query, self._kind, self._changed = api, path, query, kind, changed
        self._heard = 0.0  # when the server said something
        self._version = ""  # of the last object; empty: it must be listed

    def check(self) -> None:
        """Raise EngineAway if the cache does not say what there is."""
        if self.away:
            raise EngineAway(self.away)
        if asyncio.get_running_loop().time() > self._heard + STALE:
            raise EngineAway("the API server does not answer: it has said nothing for a while")

    async def run(self) -> None:
        """Keep the cache, until cancelled."""
        pause = _FIRST_PAUSE
        while True:
            try:
                if not self._version:
                    await self._list()
                await self._watch()
                pause = _FIRST_PAUSE
                await asyncio.sleep(_FIRST_PAUSE)  # there are servers that end each watch at once
            except Expired:
                self._version = ""
                await asyncio.sleep(_FIRST_PAUSE)
            except EngineError as error:
                if not isinstance(error, EngineAway):
                    self._version = ""
                await self._note_failure(error, pause)
                pause = min(2 * pause, _LONGEST_PAUSE)
            except Exception:
                logger.exception("%s cannot be followed", self._path)  # it begins anew: who asks must not wait for ever
                self._version = ""
                await asyncio.sleep(_LONGEST_PAUSE)

    async def _note_failure(self, error: EngineError, pause: float) -> None:
        """Take note that the server cannot be asked, and wait. A connection that broke once says nothing yet."""
        if pause > _FIRST_PAUSE and not self.away:
            logger.warning("%s: %s. What runs is left as it is", self._path, error)
            self.away = str(error)
            self.asked.set()
            self._changed("")
        await asyncio.sleep(pause)

    def _note_answer(self) -> None:
        now = asyncio.get_running_loop().time()
        counted, self._heard = not self.away and now <= self._heard + STALE, now
        self.asked.set()
        if self.away:
            logger.info("%s: the API server answers again", self._path)
            self.away = ""
        if not counted:
            self._changed("")

    async def _list(self) -> None:
        items, self._version = await self._api.list(self._path, self._query, self._kind)
        before = dict(self.objects)
        self.objects.clear()
        self.objects.update({item.metadata.name: item for item in items})
        self._note_answer()
        for name in before.keys() | self.objects.keys():
            if before.get(name) != self.objects.get(name):
                self._changed(name)

    async def _watch(self) -> None:
        async for change in self._api.watch(self._path, self._query, self._version):
            if change is None:
                self._note_answer()
                continue
            item = parsed(change.object, self._kind)
            self._version = item.metadata.resource_version
            if change.type == "DELETED":
                self.objects.pop(item.metadata.name, None)
            elif change.type != "BOOKMARK":
                self.objects[item.metadata.name] = item
            self._note_answer()
            if change.type != "BOOKMARK":
                self._changed(item.metadata.name)
        self._note_answer()
