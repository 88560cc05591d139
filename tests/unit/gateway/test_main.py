"""The gateway as a process: its arguments, its end by SIGTERM, and its end with the host."""

from __future__ import annotations

import asyncio
import signal
import socket

import pytest
from rig import Rig, until

from hostler.wire.http_exchange import CallFailed
from hostler.wire.http_request import Request


def refuses(port: int) -> bool:
    """Whether nobody listens there."""
    with socket.socket() as caller:
        return caller.connect_ex(("127.0.0.1", port)) != 0


@pytest.mark.parametrize("told", [True, False], ids=["SIGTERM", "the host is gone"])
async def test_the_process_serves_until_it_is_told_to_stop_or_its_host_is_gone(rig: Rig, told: bool) -> None:
    waiting: list[Request] = []
    container = await rig.container("i1", waiting.append)
    async with rig.process(rig.route("i1")) as (process, host):
        invoking = asyncio.create_task(rig.invoke(b"x"))
        await container.arrived.wait()
        if told:
            process.send_signal(signal.SIGTERM)
            await until(lambda: refuses(rig.port))
            waiting[0].answer(200, b"done")
            assert (await invoking).body == b"done"
            await process.wait()
        host.close()
        _, complaints = await process.communicate()
        assert process.returncode == (0 if told else 1)
        assert b"Traceback" not in complaints
        if not told:
            with pytest.raises(CallFailed):
                await invoking
