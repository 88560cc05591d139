"""The gateway as a process: its arguments, its end by SIGTERM, and its end with the host."""

from __future__ import annotations

import asyncio
import json
import os
import signal
import socket
import sys

import pytest
from rig import GUARD, Rig, until

from hostler import settings
from hostler.wire.http_client import CallFailed
from hostler.wire.http_server import Request


@pytest.mark.parametrize("told", [True, False], ids=["SIGTERM", "the host is gone"])
def test_the_process_serves_until_it_is_told_to_stop_or_its_host_is_gone(told: bool) -> None:
    waiting: list[Request] = []

    async def play(rig: Rig) -> None:
        (rig.run / "settings.json").write_text(json.dumps(settings.dump(rig.settings)))
        await rig.control.start()
        await rig.container("i1", waiting.append)
        lifeline, held = os.pipe()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            rig.port = listening.getsockname()[1]
            fds = (lifeline, listening.fileno())
            arguments = f"--run {rig.run} --lifeline {fds[0]} --listen {fds[1]} --name g1".split()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hostler.gateway.main", *arguments, pass_fds=fds, stderr=asyncio.subprocess.PIPE
            )
        os.close(lifeline)
        assert process.stderr
        try:
            await rig.control.set_routes(rig.route("i1"))
            invoking = asyncio.create_task(rig.invoke(b"x"))
            await until(lambda: waiting)
            if told:
                process.send_signal(signal.SIGTERM)
                await asyncio.sleep(0.01)
                waiting[0].answer(200, b"done")
                assert (await invoking).body == b"done"
                await process.wait()
            os.close(held)
            complaints, _ = await asyncio.gather(process.stderr.read(), process.wait())
            assert process.returncode == (0 if told else 1)
            assert b"Traceback" not in complaints
            if not told:
                with pytest.raises(CallFailed):
                    await invoking
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
            await rig.control.stop()
            await rig.containers["i1"].stop()

    async def run() -> None:
        async with asyncio.timeout(2 * GUARD):
            await play(Rig())

    asyncio.run(run())
