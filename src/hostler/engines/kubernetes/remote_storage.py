"""The artifacts of one container whose instance is on another machine: each call is a request to its agent.

It knows which targets are in place, so that an agent that restarts learns it again. The link is agent_links.py's.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Collection
from functools import partial
from typing import TypeVar

from hostler.core.endpoints.resources import DataForm
from hostler.core.targets.placed import Placed
from hostler.errors import StorageUnavailable
from hostler.wire.agent_messages import (
    Discard,
    Down,
    Failed,
    Fetch,
    Fetched,
    FetchFolder,
    Listed,
    ListTargets,
    Remember,
    Request,
    Up,
)  # fmt: skip
from hostler.wire.artifact_errors import as_error

logger = logging.getLogger("hostler.agents")

_RETRY = 1.0  # seconds until an agent that is away is asked again
_Answer = TypeVar("_Answer")
Ask = Callable[[Callable[[int], Request]], Awaitable[Up]]  # sends the request of this number; returns the answer


class RemoteStorage:
    """Storage over a link. `ask` waits for a link, and raises StorageAway if there is none for too long; `tell` sends
    what needs no answer, if there is a link. `disk`: that of its instance. `linked`: whether there is a link.
    """

    def __init__(
        self, container: int, disk: str, ask: Ask, tell: Callable[[Down], None], linked: Callable[[], bool]
    ) -> None:
        self.disk = disk
        self._container = container
        self._linked = linked
        self._ask = ask
        self._tell = tell
        self._held: set[str] = set()  # model ids of the targets in place
        self._fetching: set[str] = set()
        self._in_use = False  # for targets; until then another control's may be in place

    @property
    def away(self) -> bool:
        """See Storage: its agent is not linked."""
        return not self._linked()

    async def known(self, held: Collection[str]) -> dict[str, Placed]:
        """See Storage. It waits for the agent for as long as that takes: nothing can be loaded before."""
        while True:
            try:
                placed = await self._known(self._ask, held)
                break
            except StorageUnavailable as error:
                logger.warning("it is not known yet what is in place: %s", error)
                await asyncio.sleep(_RETRY)
        self._held = set(placed)
        self._in_use = True
        return placed

    async def fetch(self, model_id: str, target: str, bucket: str, key: str, failed: str = "") -> Placed:
        """See Storage."""
        self._fetching.add(model_id)
        self._in_use = True
        try:
            answer = await self._ask(lambda n: Fetch(n, self._container, model_id, target, bucket, key, failed))
            placed = _expect(answer, Fetched).placed
            self._held.add(model_id)
            return placed
        finally:
            self._fetching.discard(model_id)

    async def fetch_folder(self, folder: str, bucket: str, key: str, form: DataForm = "archive") -> Placed:
        """See Storage."""
        answer = await self._ask(lambda n: FetchFolder(n, self._container, folder, bucket, key, form))
        return _expect(answer, Fetched).placed

    async def discard(self, model_id: str, *, failed: bool = False, forget: bool = False) -> None:
        """See Storage. An agent that is away takes the target out once it is linked again."""
        self._held.discard(model_id)
        try:
            await self._ask(lambda n: Discard(n, self._container, model_id, failed, forget))
        except StorageUnavailable:
            return

    async def remember(self, model_id: str, memory: int) -> None:
        """See Storage."""
        self._tell(Remember(self._container, model_id, memory))

    async def close(self) -> None:
        """See Storage: everything goes with the instance."""

    async def resume(self, ask: Ask) -> None:
        """Tell an agent on a new link what is in place; have it take out what is not, as it was away at the discard."""
        if not self._in_use:
            return
        placed = await self._known(ask, self._held)
        for model_id in placed.keys() - self._held - self._fetching:
            await ask(partial(Discard, container=self._container, model_id=model_id))

    async def _known(self, ask: Ask, held: Collection[str]) -> dict[str, Placed]:
        answer = await ask(lambda n: ListTargets(n, self._container, tuple(held)))
        return {placed.model_id: placed for placed in _expect(answer, Listed).placed}


def _expect(answer: Up, kind: type[_Answer]) -> _Answer:
    """Return an answer of this kind. Raises the ArtifactError that came instead."""
    if isinstance(answer, Failed):
        raise as_error(answer.error)
    if not isinstance(answer, kind):
        raise StorageUnavailable("The agent gave another answer than the one that it was asked for.")
    return answer
