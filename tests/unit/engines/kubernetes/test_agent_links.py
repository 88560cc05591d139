"""Control's end of agents' links, against agents that a test speaks for."""

from __future__ import annotations

import asyncio
import contextlib
import socket
from asyncio import StreamReader, StreamWriter
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from hostler.core.targets.placed import Placed
from hostler.engines.kubernetes.agent_links import AgentLinks
from hostler.errors import ArtifactBad, DiskFull, StorageAway
from hostler.settings import Settings
from hostler.wire import agent_messages
from hostler.wire.agent_messages import (
    ContainerRoom,
    Discard,
    Done,
    Down,
    Failed,
    Fetch,
    Fetched,
    Go,
    Listed,
    ListTargets,
    Looked,
    Serving,
    Welcome,
)  # fmt: skip
from hostler.wire.artifact_errors import as_data
from hostler.wire.door import Knock, Peer
from hostler.wire.frames import Frames

ROOMS = (ContainerRoom(ours=True, multi_model=True),)


def placed(model_id: str) -> Placed:
    return Placed(model_id, f"{model_id}.tar.gz", "bucket", f"{model_id}.tar.gz", "etag", f"/opt/ml/{model_id}", 10)


class Links(AgentLinks):
    """Links, with agents that knock."""

    def __init__(self, folder: Path) -> None:
        super().__init__(Settings(data=folder), 7, lambda: None)
        self._ends: list[StreamWriter] = []
        self._tasks: list[asyncio.Task[None]] = []

    async def knock(self, instance: str) -> Frames[Down]:
        """Link an agent; return its end."""
        streams = [await asyncio.open_unix_connection(sock=end) for end in socket.socketpair()]
        self._ends += (writer for _, writer in streams)
        self._tasks.append(asyncio.create_task(self._enter(instance, *streams[0])))
        return Frames(*streams[1], agent_messages.Down)

    async def _enter(self, instance: str, reader: StreamReader, writer: StreamWriter) -> None:
        """Let it in, as the door does."""
        await self.accept(Peer("agent", instance), Knock("agent", instance), reader, writer)
        writer.close()

    async def close(self) -> None:
        for end in self._ends:
            end.close()
            await end.wait_closed()
        await asyncio.gather(*self._tasks)


@contextlib.asynccontextmanager
async def opened(folder: Path) -> AsyncIterator[Links]:
    """Links that expect the instance i."""
    links = Links(folder)
    links.expect("i", ROOMS)
    try:
        yield links
    finally:
        await links.close()


async def welcomed(links: Links, instance: str = "i") -> Frames[Down]:
    agent = await links.knock(instance)
    assert isinstance(await agent.receive(), Welcome)
    return agent


async def fetch(links: Links, model_id: str = "m") -> Placed:
    return await links.storages("i")[0].fetch(model_id, f"{model_id}.tar.gz", "bucket", f"{model_id}.tar.gz")


async def test_an_agent_is_welcomed_with_what_it_must_know(tmp_path: Path) -> None:
    async with opened(tmp_path) as links:
        agent = await links.knock("i")
        welcome = await agent.receive()
        assert isinstance(welcome, Welcome)
        assert (welcome.term, welcome.containers) == (7, ROOMS)
        await links.until_linked("i")
        assert not links.storages("i")[0].away
        assert links.admits(welcome.passkey)
        assert not links.admits("")
        links.forget("i")
        assert await agent.receive() is None
        assert not links.admits(welcome.passkey)


async def test_an_agent_of_no_instance_is_closed_without_a_word(tmp_path: Path) -> None:
    async with opened(tmp_path) as links:
        agent = await links.knock("strange")
        assert await agent.receive() is None


async def test_a_fetch_is_answered_by_what_the_agent_placed(tmp_path: Path) -> None:
    async with opened(tmp_path) as links:
        agent = await welcomed(links)
        fetching = asyncio.create_task(fetch(links))
        request = await agent.receive()
        assert isinstance(request, Fetch)
        agent.send(Fetched(request.number, placed("m")))
        assert await fetching == placed("m")


@pytest.mark.parametrize("error", [ArtifactBad("It is bad.", "Mend it."), DiskFull("It is full.")])
async def test_an_error_of_the_agent_is_raised_as_what_it_was(tmp_path: Path, error: ArtifactBad | DiskFull) -> None:
    async with opened(tmp_path) as links:
        error.version = "etag"
        agent = await welcomed(links)
        fetching = asyncio.create_task(fetch(links))
        request = await agent.receive()
        assert isinstance(request, Fetch)
        agent.send(Failed(request.number, as_data(error)))
        with pytest.raises(type(error)) as raised:
            await fetching
        assert (str(raised.value), raised.value.version) == (str(error), "etag")
        assert getattr(raised.value, "advice", "") == getattr(error, "advice", "")


async def test_a_request_whose_link_ends_is_sent_again_on_the_next(tmp_path: Path) -> None:
    async with opened(tmp_path) as links:
        agent = await welcomed(links)
        fetching = asyncio.create_task(fetch(links))
        assert isinstance(await agent.receive(), Fetch)
        agent.close()
        agent = await welcomed(links)
        known = await agent.receive()
        assert known == ListTargets(known.number, 0, ())
        agent.send(Listed(known.number, (placed("m"),)))
        again = await agent.receive()
        assert isinstance(again, Fetch)  # and nothing was discarded that is on its way
        agent.send(Fetched(again.number, placed("m")))
        assert (await fetching).model_id == "m"


async def test_an_agent_that_comes_anew_learns_what_is_in_place_and_takes_out_what_is_not(tmp_path: Path) -> None:
    async with opened(tmp_path) as links:
        agent = await welcomed(links)
        for model_id in ("kept", "left"):
            fetching = asyncio.create_task(fetch(links, model_id))
            request = await agent.receive()
            agent.send(Fetched(request.number, placed(model_id)))
            await fetching
        discarding = asyncio.create_task(links.storages("i")[0].discard("left"))
        assert isinstance(await agent.receive(), Discard)
        agent.close()
        agent = await welcomed(links)
        known = await agent.receive()
        assert isinstance(known, ListTargets)
        assert known.held == ("kept",)
        assert not links.linked("i")
        agent.send(Listed(known.number, (placed("kept"), placed("left"))))
        discard = await agent.receive()
        assert isinstance(discard, Discard)
        assert discard.model_id == "left"
        agent.send(Done(discard.number))
        again = await agent.receive()  # by the one who waited for it
        assert isinstance(again, Discard)
        agent.send(Done(again.number))
        await discarding
        await links.until_linked("i")


@pytest.mark.simulated
async def test_what_is_in_place_is_waited_for_and_a_fetch_is_not(tmp_path: Path) -> None:
    links = AgentLinks(Settings(data=tmp_path), 7, lambda: None)
    (storage,) = links.expect("i", ROOMS)
    knowing = asyncio.create_task(storage.known(("m",)))
    assert storage.away
    with pytest.raises(StorageAway):
        await storage.fetch("m", "m.tar.gz", "bucket", "m.tar.gz")
    await storage.discard("m")
    await asyncio.sleep(600)
    assert not knowing.done()
    knowing.cancel()


async def test_go_and_serving_reach_an_agent_that_links_later_or_again(tmp_path: Path) -> None:
    async with opened(tmp_path) as links:
        links.go("i")
        links.serving({"i"})
        for _ in range(2):
            agent = await links.knock("i")
            welcome = await agent.receive()
            assert isinstance(welcome, Welcome)
            assert welcome.serving
            assert await agent.receive() == Go()
            agent.close()
        agent = await welcomed(links)
        assert await agent.receive() == Go()
        links.serving(())
        assert await agent.receive() == Serving(False)


async def test_a_new_link_of_an_agent_ends_the_one_before(tmp_path: Path) -> None:
    async with opened(tmp_path) as links:
        first = await welcomed(links)
        second = await welcomed(links)
        assert await first.receive() is None
        fetching = asyncio.create_task(fetch(links))
        request = await second.receive()
        second.send(Fetched(request.number, placed("m")))
        await fetching


async def test_an_unreadable_message_ends_the_link_and_no_other(tmp_path: Path) -> None:
    async with opened(tmp_path) as links:
        links.expect("j", ROOMS)
        other = await welcomed(links, "j")
        agent = await welcomed(links)
        agent.send(Looked("no number"))
        assert await agent.receive() is None
        await links.until_linked("j")
        links.go("j")
        assert await other.receive() == Go()


async def test_an_instance_without_an_agent_is_looked_at_in_vain(tmp_path: Path) -> None:
    async with opened(tmp_path) as links:
        assert await links.look("strange", 0) == Looked(0)
