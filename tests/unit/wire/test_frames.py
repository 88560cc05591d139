"""Frames on connections that end."""

from __future__ import annotations

import asyncio
import socket

import msgspec
import pytest

from hostler.wire.frames import Frames


class Note(msgspec.Struct, tag=True):
    text: str


@pytest.mark.uvloop
async def test_a_message_to_a_link_that_has_just_ended_is_swallowed() -> None:
    mine, theirs = socket.socketpair()
    reader, writer = await asyncio.open_unix_connection(sock=mine)
    frames: Frames[Note] = Frames(reader, writer, Note)
    theirs.close()
    async with asyncio.timeout(30):
        while not writer.is_closing():
            frames.send(Note("on its way"))
            await asyncio.sleep(0)
    frames.send(Note("too late"))
    assert await frames.receive() is None
    frames.close()
