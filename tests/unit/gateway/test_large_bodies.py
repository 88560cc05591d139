"""Large bodies pass through the gateway, they do not gather in it: measured at its own process, from outside."""

from __future__ import annotations

import asyncio
import json
import os
import shutil
import socket
import sys
from pathlib import Path

from rig import GUARD, Rig

from hostler import settings
from hostler.wire.http_server import Request

SIZE = 5_000_000  # bytes
AT_ONCE = 30
MOST = 40  # MB


def memory(pid: int, which: str) -> float:
    """MB, as the system counts them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{which}:"))) / 1000


def test_thirty_bodies_of_5_mb_there_and_back_at_once_take_less_than_40_mb() -> None:
    body = b"1" * SIZE

    async def play(rig: Rig) -> None:
        (rig.run / "settings.json").write_text(json.dumps(settings.dump(rig.settings)))
        await rig.control.start()
        waiting: list[Request] = []

        def together(request: Request) -> None:
            waiting.append(request)
            if len(waiting) == AT_ONCE:  # all are there at the same time
                for one in waiting:
                    one.answer(200, body)

        await rig.container("i1", together)
        lifeline, held = os.pipe()
        with socket.create_server(("127.0.0.1", 0)) as listening:
            rig.port = listening.getsockname()[1]
            fds = (lifeline, listening.fileno())
            arguments = f"--run {rig.run} --lifeline {fds[0]} --listen {fds[1]} --name g1".split()
            process = await asyncio.create_subprocess_exec(
                sys.executable, "-m", "hostler.gateway.main", *arguments, pass_fds=fds
            )
        os.close(lifeline)
        try:
            await rig.control.set_routes(rig.route("i1"))
            before = memory(process.pid, "VmRSS")
            replies = await asyncio.gather(*(rig.invoke(body) for _ in range(AT_ONCE)))
            assert all(reply.body == body for reply in replies)
            assert all(request.body == body for request in waiting)
            assert memory(process.pid, "VmHWM") - before < MOST
            process.terminate()
            await process.wait()
        finally:
            os.close(held)
            if process.returncode is None:
                process.kill()
                await process.wait()
            await rig.control.stop()
            await rig.containers["i1"].stop()
            shutil.rmtree(rig.run)

    async def run() -> None:
        async with asyncio.timeout(2 * GUARD):
            await play(Rig())

    asyncio.run(run())
