"""Large bodies pass through the gateway, they do not gather in it: measured at its own process, from outside."""

from __future__ import annotations

import asyncio
from pathlib import Path

from rig import Rig

from hostler.wire.http_request import Request

SIZE = 5_000_000  # bytes
AT_ONCE = 30
MOST = 40  # MB


def memory(pid: int, which: str) -> float:
    """MB, as the system counts them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{which}:"))) / 1000


async def test_thirty_bodies_of_5_mb_there_and_back_at_once_take_less_than_40_mb(rig: Rig) -> None:
    body = b"1" * SIZE
    waiting: list[Request] = []

    def together(request: Request) -> None:
        waiting.append(request)
        if len(waiting) == AT_ONCE:  # all are there at the same time
            for one in waiting:
                one.answer(200, body)

    await rig.container("i1", together)
    async with rig.process(rig.route("i1")) as (process, _):
        before = memory(process.pid, "VmRSS")
        replies = await asyncio.gather(*(rig.invoke(body) for _ in range(AT_ONCE)))
        assert all(reply.body == body for reply in replies)
        assert all(request.body == body for request in waiting)
        assert memory(process.pid, "VmHWM") - before < MOST
        process.terminate()
        await process.wait()
