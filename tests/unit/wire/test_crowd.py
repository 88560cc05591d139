"""Strangers: how many may be connected, and that one of them keeps nobody else out."""

from __future__ import annotations

import asyncio
import contextlib
import socket

import pytest

from hostler.wire import transport
from hostler.wire.crowd import Crowd
from hostler.wire.listener import Listener, Stranger

GUARD = 60.0


def test_an_address_has_a_share_of_the_crowd_and_one_place_beyond_its_end() -> None:
    crowd = Crowd(most=3, of_one=2)
    assert [crowd.enter(address) for address in ("a", "a", "a", "b")] == [True, True, False, True]
    assert [crowd.enter(address) for address in ("b", "c", "c")] == [False, True, False]
    for address in ("a", "a"):
        crowd.leave(address)
    assert crowd.enter("c")
    assert len(crowd) == 3


class Held(asyncio.Protocol):
    """A connection that is held open."""

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = transport


@pytest.mark.usefixtures("either_loop")
async def test_a_listener_closes_the_connections_of_one_caller_beyond_its_share() -> None:
    came: asyncio.Queue[Stranger] = asyncio.Queue()

    def connect(stranger: Stranger) -> Held:
        came.put_nowait(stranger)
        return Held()

    listener = Listener(transport.bind("tcp:127.0.0.1:0"), connect, None)
    port = listener.sockets[0].getsockname()[1]
    with contextlib.ExitStack() as stack:

        async def dial(source: str) -> asyncio.StreamReader:
            reader, writer = await asyncio.open_connection("127.0.0.1", port, local_addr=(source, 0))
            stack.callback(writer.close)
            return reader

        async with asyncio.timeout(GUARD):
            readers = [await dial("127.0.0.1") for _ in range(68)]
            strangers = [await came.get() for _ in range(64)]
            for reader in readers[64:]:
                with contextlib.suppress(ConnectionError):
                    assert await reader.read() == b""
            await dial("127.0.0.2")
            await came.get()
            for _ in range(2):  # the first of them is known now
                strangers[0].leave()
            await dial("127.0.0.1")
            await came.get()
            assert came.empty()
    listener.close()
    await listener.wait_closed()
    with pytest.raises(OSError, match="refused"), socket.create_connection(("127.0.0.1", port), GUARD):
        pass
