"""The engine of this machine: each container of an instance is a process, or an image that Docker runs.

It decides which, once for each container, and has one of its two parts do the work; an instance may have containers of
both. Docker is not touched, and nothing of its client is loaded, until the first image is to run, or a data folder
says that Docker has containers of this hostler.
"""

from __future__ import annotations

import asyncio
import contextlib
import functools
import logging
from collections import defaultdict
from collections.abc import Awaitable, Callable, Collection, Coroutine, Iterable, Iterator, Sequence
from functools import partial
from typing import Protocol, TypeVar, cast

import msgspec

from hostler.artifacts.storage import Storage
from hostler.engines import house, images
from hostler.engines.engine import (
    Autopsy,
    ContainerLaunch,
    ContainerReport,
    Engine,
    InstanceLaunch,
    InstanceReport,
    Size,
)
from hostler.engines.images import Choice, Server
from hostler.engines.last_list import LastList
from hostler.engines.pull_log import PullLog
from hostler.engines.rooms import Rooms
from hostler.errors import EngineAway, EngineError, ImageMissing

T = TypeVar("T")

logger = logging.getLogger("hostler.engine")

RETURNS = 5.0  # seconds in which a new control waits for a Docker that starts along with it

_OUTSIDE = (
    'The command that [images] names for {image} is a program of this machine, and engine = "docker" runs nothing'
    ' outside Docker. Leave its line out, and the image itself runs; or set engine = "auto".'
)
_OURS = "The setting server_image names it, for hostler's own servers; deploy/docker/build makes it."


class ImageEngine(Engine, Protocol):
    """An engine that runs images."""

    async def provide(self, reference: str, say: Callable[[str], None]) -> None:
        """Return once an image is here, pulled if need be: `say` is told how far that is, in words.

        Raises ImageMissing; EngineAway.
        """

    async def close(self) -> None:
        """Close all connections; the containers run on."""


OpenDocker = Callable[[], Awaitable[ImageEngine]]  # connects to it; raises EngineError


class _Waiting:
    """The instances that wait for images, which may have to be pulled, or for the word of Docker."""

    def __init__(self) -> None:
        self._said: dict[str, tuple[InstanceLaunch, dict[str, str]]] = {}  # by instance; how far pulls are, by image

    def add(self, launch: InstanceLaunch) -> dict[str, str]:
        """Have an instance wait; return where it is noted how far the pulls of its images are."""
        return self._said.setdefault(launch.id, (launch, {}))[1]

    def end(self, id: str) -> None:
        """It waits no more."""
        self._said.pop(id, None)

    def reports(self, away: str) -> Iterator[InstanceReport]:
        """Yield a report of each. `away`: why Docker cannot be asked."""
        for launch, said in self._said.values():
            none = (ContainerReport(),) * len(launch.containers)
            yield InstanceReport(launch.id, launch.labels, none, ", ".join(said.values()) or away)


class Both:
    """Engine over the process engine and one that runs images. `inside`: hostler itself is in a container."""

    def __init__(self, process: Engine, rooms: Rooms, open_docker: OpenDocker, *, inside: bool = False) -> None:
        self._process, self._rooms = process, rooms
        self._settings = rooms.settings
        self._open_docker, self._inside = open_docker, inside
        self._docker: ImageEngine | None = None
        self._opening = asyncio.Lock()
        self._used = house.exists(rooms.settings.data)  # Docker, by this hostler
        self._heard = asyncio.Event()  # Docker has said what it runs, or runs nothing
        self._listed: float | None = None  # when a list was wanted first
        self._waiting = _Waiting()
        self._change = asyncio.Event()
        self._list = LastList(self._open, self._change.set)
        if not self._used:
            self._heard.set()

    @property
    def pooled(self) -> int:
        """See Engine: both parts share the machine's memory."""
        return self._process.pooled

    def size(self, type: str) -> Size:
        """See Engine."""
        return self._process.size(type)

    # --- the life of an instance ----------------------------------------------------------------------------------

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        """See Engine.

        1. Decide what each container runs. That takes the pull of an image, if need be, and the word of a Docker that
           may run it already.
        2. Have each part make room for its own.
        """
        try:
            decided = await _first_fails(self._decide(launch, n) for n in range(len(launch.containers)))  # 1.
        finally:
            self._waiting.end(launch.id)
        launch = msgspec.structs.replace(
            launch,
            containers=tuple(
                msgspec.structs.replace(container, server=server)
                for container, (server, _) in zip(launch.containers, decided, strict=True)
            ),
        )
        storages: dict[int, Storage] = {}
        for in_docker in sorted({_is_image(server) for server, _ in decided}):  # 2.
            own = [position for position, (server, _) in enumerate(decided) if _is_image(server) == in_docker]
            part = await self._open() if in_docker else self._process
            storages.update(zip(own, await part.prepare(launch), strict=True))
        for container, (_, warning) in zip(launch.containers, decided, strict=True):
            if warning:
                await asyncio.to_thread(self._rooms.logs.say, container.log, warning)
        return tuple(storages[position] for position in range(len(decided)))

    async def start(self, id: str) -> InstanceReport:
        """See Engine."""
        parts = await self._parts(id) or (self._process,)
        reports = await _all(part.start(id) for part in parts)
        for part, report in zip(parts, reports, strict=True):
            if part is self._docker:
                self._list.started(report)
        return _merged(reports)

    async def stop(self, id: str, grace: float) -> None:
        """See Engine."""
        parts = await self._parts(id) or (self._process,)
        strange = await asyncio.to_thread(self._rooms.strange, id)
        if self._used and strange:  # an earlier control started it
            await self._listed_in_docker()
            if not self._heard.is_set():
                raise EngineAway(self._list.away)
            parts = (self._process, await self._open())
        await _all(part.stop(id, grace) for part in parts)
        self._list.stopped(id)

    async def kill(self, id: str, position: int) -> None:
        """See Engine."""
        await (await self._part(id, position)).kill(id, position)

    # --- what runs ------------------------------------------------------------------------------------------------

    async def list(self) -> list[InstanceReport]:
        """See Engine. While Docker cannot be asked, its containers are as they were when it was.

        A control that has not heard of Docker yet gets no list for the first seconds, or it would start anew what
        Docker runs. After that its processes wait for Docker no longer.
        """
        now = asyncio.get_running_loop().time()
        self._listed = now if self._listed is None else self._listed
        reports = await self._process.list()
        if self._used:
            reports += await self._listed_in_docker()
            if not self._heard.is_set() and now < self._listed + RETURNS:
                raise EngineAway(self._list.away)
        by_id: defaultdict[str, list[InstanceReport]] = defaultdict(list)
        for report in reports:
            by_id[report.id].append(report)
        for report in self._waiting.reports(self._list.away):
            by_id[report.id] = by_id[report.id] or [report]
        return [_merged(of_instance) for of_instance in by_id.values()]

    async def changed(self) -> None:
        """See Engine."""
        parts: Iterable[Engine] = (self._process, *([self._docker] if self._docker else []))
        waits = [asyncio.ensure_future(wait) for wait in (self._change.wait(), *(part.changed() for part in parts))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
        self._change.clear()

    async def memory(self, id: str, position: int) -> int:
        """See Engine."""
        return await (await self._part(id, position)).memory(id, position)

    async def processor_time(self, id: str, position: int) -> float:
        """See Engine."""
        return await (await self._part(id, position)).processor_time(id, position)

    async def logs(self, id: str, position: int, tail: int) -> str:
        """See Engine."""
        return await (await self._part(id, position)).logs(id, position, tail)

    async def autopsy(self, id: str, position: int, tail: int) -> Autopsy:
        """See Engine."""
        return await (await self._part(id, position)).autopsy(id, position, tail)

    async def serving(self, ids: Collection[str]) -> None:
        """See Engine."""
        for part in (self._process, self._docker):
            if part:
                await part.serving(ids)

    # --- the house ------------------------------------------------------------------------------------------------

    async def sweep(self, known: Collection[str]) -> tuple[str, ...]:
        """See Engine. Only once Docker has answered: what it runs may have folders here."""
        if not self._heard.is_set():
            await self._listed_in_docker()
            await self._heard.wait()
        swept = await (await self._open()).sweep(known) if self._used else ()
        return (*swept, *await self._process.sweep(known))

    async def leave(self, grace: float) -> None:
        """See Engine."""
        await self._process.leave(grace)
        if self._used:
            await (await self._open()).leave(grace)

    async def close(self) -> None:
        """Close the connections to Docker; what it runs goes on."""
        self._list.close()
        if self._docker:
            await self._docker.close()

    # --- which part -----------------------------------------------------------------------------------------------

    async def _open(self) -> ImageEngine:
        """Return the engine that runs images, connected at the first call. Raises EngineError."""
        async with self._opening:
            if self._docker is None:
                self._docker = await self._open_docker()
                self._used = True
                self._change.set()  # whoever waits for a change waits for one of Docker, too, from now on
            return self._docker

    async def _listed_in_docker(self) -> Sequence[InstanceReport]:
        """Return what Docker runs, as far as it has said so."""
        reports = await self._list.get()
        if self._list.answered:
            self._heard.set()
        return reports

    async def _parts(self, id: str) -> tuple[Engine, ...]:
        """Return the parts that have containers of an instance; empty if nothing is known of it. Raises EngineError."""
        kinds = {_is_image(room.server) for room in self._rooms.of(id).values()}
        return tuple([await self._open() if in_docker else self._process for in_docker in sorted(kinds)])

    async def _part(self, id: str, position: int) -> Engine:
        """Return the part that has a container. Raises EngineError."""
        if position not in self._rooms.of(id) and self._used:
            await self.list()  # perhaps an earlier control started it
        room = self._rooms.of(id).get(position)
        return await self._open() if room and _is_image(room.server) else self._process

    # --- what runs for an image -----------------------------------------------------------------------------------

    async def _decide(self, launch: InstanceLaunch, position: int) -> tuple[Server, str]:
        """Return what a container runs, and a warning. Raises EngineError.

        1. What the image and the settings say (engines/images.py); but what runs already stays as it was decided.
        2. Only what Docker may run waits for its word: a killed host has left the folders of processes, too.
        """
        container = launch.containers[position]
        choice = images.choose(container.image, self._settings, container.has_artifact)  # 1.
        unheard = not self._heard.is_set() and (choice.server is None or _is_image(choice.server))
        if unheard and position in await asyncio.to_thread(self._rooms.strange, launch.id):  # 2.
            self._waiting.add(launch)
            await self._heard.wait()
        if room := self._rooms.of(launch.id).get(position):
            return room.server, ""
        if self._settings.engine == "process":
            return images.resolve(container.image, self._settings, container.has_artifact), ""
        if choice.server is None:
            return await self._by_image(launch, container, choice)
        if choice.server.command and self._settings.engine == "docker":
            raise EngineError(_OUTSIDE.format(image=container.image))
        if self._inside and launch.isolated and choice.server.framework:  # its process would have the network of ours
            with contextlib.suppress(EngineError):  # then the process engine says that it cannot be, and why
                return await self._provided(launch, container, images.in_image(choice.server, self._settings)), ""
        return await self._provided(launch, container, choice.server), ""

    async def _by_image(self, launch: InstanceLaunch, container: ContainerLaunch, choice: Choice) -> tuple[Server, str]:
        """Return the image itself, or what stands in for it, with a warning. Raises EngineError.

        Nothing stands in because Docker is away for a moment: that the image runs elsewhere would show in its answers.
        """
        why: EngineError
        if choice.invalid:
            why = ImageMissing(choice.invalid)
        else:
            try:
                return await self._provided(launch, container, Server(reference=choice.reference)), ""
            except ImageMissing as error:
                why = error
            except EngineAway as error:
                if self._used:
                    raise
                why = error
        if choice.fallback is None:
            raise type(why)(f"{why} {choice.refusal}")
        warning = f"{why} hostler's own server runs its model data instead."
        _warn_once(warning)
        return await self._provided(launch, container, choice.fallback), warning

    async def _provided(self, launch: InstanceLaunch, container: ContainerLaunch, server: Server) -> Server:
        """Return the server once its image is here. Its pull is in the container's log. Raises EngineError."""
        if image := server.reference:
            tell = partial(self._waiting.add(launch).__setitem__, image)
            log = PullLog(image, tell, partial(self._rooms.logs.say, container.log))
            await _had(await self._open(), server, log.say)
            log.ended()
        return server


@functools.cache
def _warn_once(warning: str) -> None:
    logger.warning("%s", warning)


async def _had(docker: ImageEngine, server: Server, say: Callable[[str], None]) -> None:
    """Return once the server's image is here. Raises EngineError; of hostler's own servers, with what helps."""
    try:
        await docker.provide(server.reference, say)
    except ImageMissing as error:
        raise ImageMissing(f"{error} {_OURS}" if server.framework else str(error)) from None


def _is_image(server: Server) -> bool:
    return bool(server.reference)


async def _first_fails(works: Iterable[Coroutine[object, object, T]]) -> tuple[T, ...]:
    """Return what all return, in order; the first that fails ends the others, and its exception is raised."""
    tasks = [*map(asyncio.ensure_future, works)]
    try:
        return tuple(await asyncio.gather(*tasks))
    finally:
        for task in tasks:
            task.cancel()


async def _all(works: Iterable[Awaitable[T]]) -> Sequence[T]:
    """Return what all return, in order. All have ended before the first exception is raised."""
    outcomes = await asyncio.gather(*works, return_exceptions=True)
    for outcome in outcomes:
        if isinstance(outcome, BaseException):
            raise outcome
    return cast("Sequence[T]", outcomes)


def _merged(reports: Sequence[InstanceReport]) -> InstanceReport:
    """Return one report of an instance: each container's from the part that has it."""
    if len(reports) == 1:
        return reports[0]
    containers = tuple(
        next((container for container in of_one if container != ContainerReport()), ContainerReport())
        for of_one in zip(*(report.containers for report in reports), strict=True)
    )
    return InstanceReport(
        reports[0].id,
        reports[0].labels,
        containers,
        " ".join(filter(None, (report.trouble for report in reports))),
        hopeless=any(report.hopeless for report in reports),
        leaving=any(report.leaving for report in reports),
        lost=any(report.lost for report in reports),
    )
