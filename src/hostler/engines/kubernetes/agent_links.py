"""Control's end of the links with agents: who is linked, the requests under way, what each agent must know.

It decides nothing: the engine says which instances there are, and when their containers may start.
"""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import logging
import secrets
from collections.abc import Callable, Collection

from hostler.engines.kubernetes.remote_storage import RemoteStorage
from hostler.errors import ArtifactError, StorageAway, StorageUnavailable
from hostler.settings import Settings
from hostler.wire import agent_messages
from hostler.wire.agent_messages import ContainerRoom, Down, Go, Look, Looked, Request, Serving, Up, Welcome
from hostler.wire.door import Knock, Peer
from hostler.wire.frames import Frames

logger = logging.getLogger("hostler.agents")

PATIENCE = 10.0  # seconds that a request waits for an agent that is not linked
_ATTEMPTS = 5  # at a request, on as many links
_LOOK = 5.0  # seconds that a look may take


class _LinkEnded(Exception):
    """The link ended before the answer came."""


class _Link:
    """One link, with the requests under way on it."""

    def __init__(self, frames: Frames[Up], numbers: itertools.count[int]) -> None:
        self.frames = frames
        self._numbers = numbers
        self._pending: dict[int, asyncio.Future[Up]] = {}
        self._ended = False

    async def ask(self, make: Callable[[int], Request]) -> Up:
        """Send the request of this number; return its answer. Raises _LinkEnded."""
        if self._ended:
            raise _LinkEnded
        number = next(self._numbers)
        future: asyncio.Future[Up] = asyncio.get_running_loop().create_future()
        self._pending[number] = future
        try:
            self.frames.send(make(number))
            return await future
        finally:
            del self._pending[number]

    async def receive(self) -> None:
        """Hand the answers to those who wait for them, until the link ends."""
        try:
            while (answer := await self.frames.receive()) is not None:
                future = self._pending.get(answer.number)
                if future is not None and not future.done():
                    future.set_result(answer)
        finally:
            self._ended = True
            for future in self._pending.values():
                if not future.done():
                    future.set_exception(_LinkEnded())


class _Agent:
    """The agent of one instance, linked or not."""

    def __init__(
        self, instance: str, containers: tuple[ContainerRoom, ...], s3_endpoint: str, changed: Callable[[], None]
    ) -> None:
        self.instance = instance
        self.containers = containers
        self.s3_endpoint = s3_endpoint
        self._changed = changed
        self.passkey = secrets.token_urlsafe(24)
        self.started = False  # its containers may start
        self.in_service: bool | None = None  # whether it is in a route; None: it has not been said yet
        self.link: _Link | None = None
        self.linked = asyncio.Event()  # the link may be used
        self._numbers = itertools.count(1)
        self.storages = tuple(
            RemoteStorage(n, instance, self.ask, self.tell, self.linked.is_set) for n in range(len(containers))
        )

    async def attend(self, frames: Frames[Up], welcome: Welcome) -> None:
        """Use a link until it ends. A link that was there before ends: its agent has not noticed that yet, or is gone.

        1. The agent gets what it must know.
        2. It learns what is in place. Only then do others use the link.
        """
        link = _Link(frames, self._numbers)
        if self.link is not None:
            self.link.frames.close()
        self.link = link
        self.linked.clear()
        frames.send(welcome)  # 1.
        if self.started:
            frames.send(Go())
        resuming = asyncio.create_task(self._resume(link))  # 2.
        try:
            await link.receive()
        finally:
            resuming.cancel()
            if self.link is link:
                self.link = None
                self.linked.clear()
                self._changed()

    async def _resume(self, link: _Link) -> None:
        try:
            for storage in self.storages:
                await storage.resume(link.ask)
        except (ArtifactError, _LinkEnded) as error:
            logger.warning("the agent of %s cannot go on: %s", self.instance, error)
            link.frames.close()
        else:
            if self.link is link:
                self.linked.set()
                self._changed()

    async def ask(self, make: Callable[[int], Request]) -> Up:
        """Return the answer to a request; if its link ends, ask again on the next.

        Raises StorageAway if there is none, StorageUnavailable if the request ends each.
        """
        for _ in range(_ATTEMPTS):
            try:
                async with asyncio.timeout(PATIENCE):
                    await self.linked.wait()
            except TimeoutError:
                raise StorageAway("The agent beside the container is not linked to control.") from None
            assert self.link is not None
            with contextlib.suppress(_LinkEnded):
                return await self.link.ask(make)
        raise StorageUnavailable(f"The agent beside the container ended {_ATTEMPTS} times at this request.")

    def tell(self, message: Down) -> None:
        """Send what needs no answer; nothing without a link."""
        if self.link is not None:
            self.link.frames.send(message)


class AgentLinks:
    """`term`: this control's, so that agents know the older of two. `changed`: called when an agent is linked, or is
    linked no more.
    """

    def __init__(self, settings: Settings, term: int, changed: Callable[[], None]) -> None:
        self._settings = settings
        self._term = term
        self._changed = changed
        self._agents: dict[str, _Agent] = {}  # by instance
        self._passkeys: dict[str, _Agent] = {}

    def expect(
        self, instance: str, containers: tuple[ContainerRoom, ...], *, isolated: bool = False
    ) -> tuple[RemoteStorage, ...]:
        """Admit the agent of an instance from now on; return its containers' storages. Idempotent.

        `isolated`: the instance reaches nothing but control.
        """
        if instance not in self._agents:
            via = self._settings.artifacts_via
            by_control = via == "control" or (isolated and via == "auto")
            s3_endpoint = "" if by_control else self._settings.s3_endpoint
            agent = self._agents[instance] = _Agent(instance, containers, s3_endpoint, self._changed)
            self._passkeys[agent.passkey] = agent
        return self.storages(instance)

    def forget(self, instance: str) -> None:
        """Admit it no more, and end its link; nothing if it is unknown."""
        agent = self._agents.pop(instance, None)
        if agent is not None:
            del self._passkeys[agent.passkey]
            if agent.link is not None:
                agent.link.frames.close()

    def storages(self, instance: str) -> tuple[RemoteStorage, ...]:
        """Return the storages of an instance that is expected, in the order of its containers. Raises KeyError."""
        return self._agents[instance].storages

    def expects(self, instance: str) -> bool:
        """Whether the agent of an instance is admitted, if it proves that it is that."""
        return instance in self._agents

    def linked(self, instance: str) -> bool:
        """Whether the agent of an instance is linked now."""
        agent = self._agents.get(instance)
        return agent is not None and agent.linked.is_set()

    async def until_linked(self, instance: str) -> None:
        """Return once the agent of an instance that is expected is linked. Raises KeyError."""
        await self._agents[instance].linked.wait()

    def go(self, instance: str) -> None:
        """Let the containers of an instance that is expected start, now or once its agent is linked. Raises KeyError.

        Idempotent.
        """
        agent = self._agents[instance]
        agent.started = True
        agent.tell(Go())

    def serving(self, ids: Collection[str]) -> None:
        """Tell the agents whether their instances are in a route."""
        for instance, agent in self._agents.items():
            if agent.in_service is not (on := instance in ids):
                agent.in_service = on
                agent.tell(Serving(on))

    async def look(self, instance: str, position: int) -> Looked:
        """Have the agent look at a container; an empty answer if it does not answer in time, or is unknown."""
        if agent := self._agents.get(instance):
            with contextlib.suppress(TimeoutError, StorageUnavailable):
                async with asyncio.timeout(_LOOK):
                    answer = await agent.ask(lambda n: Look(n, position))
                    return answer if isinstance(answer, Looked) else Looked(0)
        return Looked(0)

    def admits(self, passkey: str) -> bool:
        """Whether a passkey is that of an agent that is linked now."""
        agent = self._passkeys.get(passkey)
        return agent is not None and agent.link is not None

    async def accept(
        self, peer: Peer, knock: Knock, reader: asyncio.StreamReader, writer: asyncio.StreamWriter
    ) -> None:
        """Use the link of an instance's agent until it ends; return at once if none is expected. The door closes it.

        An agent is called as its instance is.
        """
        if agent := self._agents.get(peer.name):
            await agent.attend(Frames(reader, writer, agent_messages.Up), self._welcome(agent))

    def _welcome(self, agent: _Agent) -> Welcome:
        settings = self._settings
        return Welcome(
            self._term, agent.containers, settings.disk_budget,
            settings.archive_max_bytes, settings.archive_max_files, settings.archive_max_ratio,
            agent.s3_endpoint, settings.api_listen, agent.passkey, agent.in_service,
        )  # fmt: skip
