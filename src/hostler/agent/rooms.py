"""The folders of an instance's containers in the volume that they share with the agent, and their storages.

<folder>/c<n>     /opt/ml of container n
<folder>/a<n>     /opt/ml/.artifacts there, which n may only read; one of them is the cache of all
<folder>/agent.json    see memory.py
"""

from __future__ import annotations

import os
import shutil
from collections.abc import Collection, Sequence
from pathlib import Path

from hostler import contract, failures
from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import Source
from hostler.artifacts.storage import LocalStorage, in_thread
from hostler.core.targets.placed import Placed
from hostler.failures import Failure
from hostler.wire.agent_messages import ContainerRoom, Welcome

_MODE, _OPEN_MODE = 0o2775, 0o2777  # the group is the pod's; what is made below has it, too


class Rooms:
    """Rooms in `folder`. `base`: what containers see it as; empty: a container sees its folder by its real path."""

    def __init__(self, folder: Path, source: Source, base: str = contract.BASE_DIR) -> None:
        self._folder = folder
        self._source = source
        self._base = base
        self._containers: tuple[ContainerRoom, ...] = ()
        self._cache: ArtifactCache | None = None
        self._storages: list[LocalStorage] = []

    async def open(self, welcome: Welcome) -> None:
        """Make what is not there yet. Only the first Welcome's limits count. Raises OSError."""
        if self._cache is None:
            self._cache = await in_thread(self._make, welcome)
            self._containers = welcome.containers
            self._storages = [self._storage(container) for container in range(len(welcome.containers))]

    def storage(self, container: int) -> LocalStorage:
        """Return a container's storage. Raises IndexError."""
        return self._storages[container]

    async def known(self, container: int, held: Collection[str]) -> dict[str, Placed]:
        """Return the targets in place, acquired again, as for a new control: `held` are those that count from now on.

        The uses of before are given up after that, so that no artifact is without one in between.
        """
        before, after = self._storages[container], self._storage(container)
        placed = await after.known(held)
        self._storages[container] = after
        await before.close()
        return placed

    def failure(self, container: int) -> Failure | None:
        """Return the report that one of hostler's own servers has left. Blocks."""
        return failures.read(self._folder / f"c{container}")

    async def close(self) -> None:
        """End the fetches under way."""
        if self._cache is not None:
            await self._cache.close()

    def _make(self, welcome: Welcome) -> ArtifactCache:
        """Make the folders, and adopt what an agent before this one has brought. Blocks."""
        for unfinished in self._folder.glob("c*-*"):  # copies
            shutil.rmtree(unfinished, ignore_errors=True)
        for container, room in enumerate(welcome.containers):
            folder = self._folder / f"c{container}"
            models = folder / (contract.MODELS_DIR if room.multi_model else contract.MODEL_DIR)
            for made in (folder, models, self._folder / f"a{container}"):
                if not os.path.lexists(made):  # the container may have put anything in its place
                    made.mkdir()
                    made.chmod(_MODE if room.ours else _OPEN_MODE)
        limits = ArchiveLimits(welcome.archive_max_bytes, welcome.archive_max_files, welcome.archive_max_ratio)
        root = self._folder / f"a{_shown_to(welcome.containers)}"
        return ArtifactCache(root, self._source, welcome.disk_budget, limits)

    def _storage(self, container: int) -> LocalStorage:
        assert self._cache is not None
        room = self._containers[container]
        storage = LocalStorage(self._folder / f"c{container}", self._cache, copy=not room.ours, any_user=not room.ours)
        if self._base:
            storage.shown, storage.cache_shown = self._base, f"{self._base}/{contract.ARTIFACTS_DIR}"
        storage.scripts = room.scripts
        return storage


def _shown_to(containers: Sequence[ContainerRoom]) -> int:
    """Return the container that sees the cache: the only multi-model one (§6.1); others get copies of their data."""
    return next((n for n, room in enumerate(containers) if room.multi_model), 0)
