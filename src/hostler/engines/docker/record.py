"""The record of what runs: the house's containers, as Docker lists and describes them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Iterable, Sequence
from typing import TypeVar

import aiodocker

from hostler.engines import references
from hostler.engines.docker import containers, facts
from hostler.engines.docker.answers import FoundImage, Inspected, Summary, read
from hostler.engines.docker.changes import Touched
from hostler.engines.docker.client import DockerRefused, ask, filters
from hostler.engines.docker.doors import Doors
from hostler.engines.docker.facts import Fact
from hostler.engines.engine import ContainerReport, InstanceReport
from hostler.engines.house import LABEL, House

Outcome = TypeVar("Outcome")


class Record:
    """Facts as last seen. `look` and `take` write them; the engine drops those of an instance that it has stopped.

    What is taken or dropped while Docker is asked is newer than its answer.
    """

    def __init__(self, docker: aiodocker.Docker, house: House, doors: Doors) -> None:
        self._docker = docker
        self._house = house
        self._doors = doors
        self._facts: dict[tuple[str, int], Fact] = {}  # by instance and position
        self._digests: dict[str, tuple[str, ...]] = {}  # by the image's id
        self._looking = asyncio.Lock()
        self._taken: set[tuple[str, int]] = set()  # since the last look began
        self._dropped: set[str] = set()  # instances, as above

    def of(self, instance: str, position: int) -> Fact | None:
        """Return the facts of a container; None if there is none."""
        return self._facts.get((instance, position))

    async def find(self, instance: str = "") -> Sequence[Summary]:
        """Return Docker's list of the house's containers, or of one instance's. Raises EngineError."""
        labels = [f"{LABEL}={self._house.id}", *([f"{containers.INSTANCE}={instance}"] if instance else [])]
        found = await ask(self._docker.containers.list(all=True, filters=filters(label=labels)))
        return [read(container._container, Summary) for container in found]

    async def look(self, touched: Touched) -> list[Fact]:
        """Return the facts of all containers. `touched`: those that must be inspected. Raises EngineError.

        What was taken meanwhile is newer than the list, but a container that has ended does not run again.
        """
        async with self._looking:
            self._taken.clear()
            self._dropped.clear()
            summaries = await self.find()
            looks = [self._look(summary, touched.has(summary.id)) for summary in summaries]
            found = [fact for fact in await all_of(looks) if fact]
            for image in {fact.image for fact in found} - self._digests.keys():
                self._digests[image] = await self._digests_of(image)
            older = {(fact.note.instance, fact.note.position): fact for fact in found}
            ended = {fact.id for fact in found if fact.exit is not None}
            newer = {key: fact for key, fact in self._facts.items() if key in self._taken and fact.id not in ended}
            self._facts = {key: fact for key, fact in (older | newer).items() if key[0] not in self._dropped}
            for fact in self._facts.values():
                self._doors.take_note(fact)
            return [*self._facts.values()]

    async def inspect(self, id: str) -> Inspected | None:
        """Return what Docker says of a container, by its id or name; None without one. Raises EngineError."""
        try:
            return read(await ask(self._docker.containers.container(id).show()), Inspected)
        except DockerRefused as error:
            if error.status == 404:
                return None
            raise

    async def take(self, fact: Fact) -> None:
        """Take note of a container. Raises EngineError."""
        if fact.image not in self._digests:
            self._digests[fact.image] = await self._digests_of(fact.image)
        key = fact.note.instance, fact.note.position
        self._facts[key] = fact
        self._taken.add(key)
        self._doors.take_note(fact)

    def drop(self, instance: str) -> None:
        """Forget an instance: nothing of it is there."""
        self._dropped.add(instance)
        for key in [key for key in self._facts if key[0] == instance]:
            del self._facts[key]

    def report(self, id: str, labels: dict[str, str], containers: int) -> InstanceReport:
        """Return the report of an instance."""
        return InstanceReport(id, labels, tuple(self._container(id, position) for position in range(containers)))

    def _container(self, id: str, position: int) -> ContainerReport:
        """Return the report of a container.

        One that could not be started because the first one, whose network it was to share, had ended is not to blame:
        it counts as started.
        """
        fact, first = self.of(id, position), next(iter(self._of_instance(id)), None)
        if fact is None or not (fact.started or (first and first.exit is not None)):
            return ContainerReport()
        image = references.with_digest(fact.note.reference, self._digests.get(fact.image, ())) or fact.image
        return facts.report(fact, self._doors.address(fact), image)

    def _of_instance(self, id: str) -> list[Fact]:
        """Return the facts of an instance's containers, in order."""
        return [fact for (instance, _), fact in sorted(self._facts.items()) if instance == id]

    async def _look(self, summary: Summary, touched: bool) -> Fact | None:
        note = facts.note(summary.labels)
        if note is None or not facts.there(summary.state):
            return None
        known = self.of(note.instance, note.position)
        if known and known.id == summary.id and not touched and facts.is_as_listed(known, summary.state):
            return known
        inspected = await self.inspect(summary.id)
        return facts.fact(inspected) if inspected else None

    async def _digests_of(self, image: str) -> tuple[str, ...]:
        try:
            return read(await ask(self._docker.images.inspect(image)), FoundImage).repo_digests or ()
        except DockerRefused:  # it was removed by force
            return ()


async def all_of(calls: Iterable[Awaitable[Outcome]]) -> list[Outcome]:
    """Return the results of calls made together, once all have ended. Raises the first one's error."""
    outcomes = await asyncio.gather(*calls, return_exceptions=True)
    results = []
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
        results.append(outcome)
    return results
