"""Connecting to a host that has several addresses."""

from __future__ import annotations

import asyncio
import socket

import pytest

from free_ports import free_port
from hostler.proxy.dial import dial


@pytest.mark.parametrize("loop", ["asyncio", pytest.param("uvloop", marks=pytest.mark.uvloop)])
async def test_the_address_that_answers_is_taken_whatever_the_others_do(loop: str) -> None:
    for family, address in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::1")):
        with socket.create_server((address, 0), family=family) as server:
            async with asyncio.timeout(120):
                with await dial("localhost" if family == socket.AF_INET else address, server.getsockname()[1]) as sock:
                    assert sock.getpeername()[1] == server.getsockname()[1]


async def test_a_host_that_nobody_answers_at_is_an_error_of_its_last_address() -> None:
    port = free_port()
    with pytest.raises(ConnectionRefusedError):
        await dial("localhost", port)
