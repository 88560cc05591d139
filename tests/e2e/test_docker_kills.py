"""kill -9 of hostler, of control, of a container and of dockerd, whose containers live on or not, under load.

The dockerd is the test's own.
"""

from __future__ import annotations

import asyncio
import time
from pathlib import Path

import pytest
from dockerds import Dockerd
from hop_endpoints import create_endpoint, create_model, variant
from hop_load import CALLERS, Load, under_load
from running import Hostler, eventually, hostler_up

pytestmark = [pytest.mark.docker, pytest.mark.alone]

TIMES = 10


def start(hostler: Hostler, image: str, count: int = 2, name: str = "hops") -> None:
    container = {"Image": image, "ContainerHostname": "hop", "Environment": {"NAME": "hop"}}
    create_model(hostler, name, [container])
    create_endpoint(hostler, name, variant(name, count=count))


def ready(hostler: Hostler, count: int = 2) -> bool:
    description = hostler.sm.describe_endpoint(EndpointName="hops")
    return description["ProductionVariants"][0]["CurrentInstanceCount"] == count


def in_flight(load: Load, died: float) -> bool:
    """Whether all calls that failed were on their way when something died: it was dead at `died`.

    A caller may have had two while it was dying.
    """
    failed = load.failed()
    return len(failed) <= 2 * CALLERS and all(call.sent < load.noticed(died) for call in failed)


def kill_container(hostler: Hostler, own: Dockerd) -> None:
    before = own.running()
    victim, other = before
    died = 0.0

    async def kill(load: Load) -> None:
        nonlocal died
        await asyncio.to_thread(own.docker, "kill", victim)
        await asyncio.to_thread(eventually, lambda: victim not in own.running(), 60, "it has ended")
        died = time.monotonic()
        await asyncio.to_thread(
            eventually, lambda: len(own.running()) == 2 and victim not in own.running(), 60, "it is replaced"
        )
        await asyncio.to_thread(eventually, lambda: ready(hostler), 60, "both instances count")

    load = under_load(hostler, "hops", kill)

    assert in_flight(load, died), load.failed()[:3]
    assert {call.status for call in load.failed()} <= {424}
    assert own.running()[other] == before[other]


def kill_control(hostler: Hostler, own: Dockerd) -> None:
    before, old = own.running(), hostler.control

    async def kill(load: Load) -> None:
        old.kill()
        await asyncio.to_thread(eventually, lambda: answers(hostler), 60, "control answers again")

    load = under_load(hostler, "hops", kill)

    assert load.failed() == []
    assert hostler.control != old
    assert own.running() == before


def kill_dockerd(hostler: Hostler, own: Dockerd) -> None:
    before, died, ended = own.running(), 0.0, 0.0

    async def kill(load: Load) -> None:
        nonlocal died, ended
        died = time.monotonic()
        await asyncio.to_thread(own.kill)
        await load.reach(200)
        await asyncio.to_thread(own.start)
        await asyncio.to_thread(eventually, lambda: len(own.running()) == 2, 60, "both containers run")
        await asyncio.to_thread(eventually, lambda: ready(hostler), 60, "both instances count")
        ended = time.monotonic()

    load = under_load(hostler, "hops", kill)

    if own.live_restore:
        assert load.failed() == []
        assert own.running() == before
    else:  # for a while nothing lives that could answer
        assert not own.running().keys() & before.keys()
        assert all(died < call.ended and call.sent < ended for call in load.failed()), load.failed()[:3]
        print(f"without live-restore: {len(load.failed())} calls failed", {call.status for call in load.failed()})


def kill_hostler(hostler: Hostler, own: Dockerd) -> Hostler:
    before = own.running()
    port = int(hostler.url.rpartition(":")[2])
    again = Hostler(hostler.folder, hostler.settings)
    died = back = 0.0

    async def kill(load: Load) -> None:
        nonlocal died, back
        hostler.host.kill()
        hostler._popen.wait(30)
        died = time.monotonic()
        await asyncio.to_thread(eventually, lambda: not hostler.remains(), 60, "its processes have ended")
        assert own.running() == before
        await asyncio.to_thread(again.start, port)
        back = time.monotonic()

    load = under_load(hostler, "hops", kill)

    assert all(call.ended > died and call.sent < back for call in load.failed()), load.failed()[:3]
    assert load.processes(since=back) == load.processes()
    assert own.running() == before
    assert ready(again)
    return again


def answers(hostler: Hostler) -> bool:
    try:
        return bool(hostler.sm.describe_endpoint(EndpointName="hops")) and bool(hostler.control)
    except Exception:  # refused, disconnected or 503 while control restarts
        return False


def kill_everything(folder: Path, own: Dockerd, times: int) -> None:
    """Kill a container, control, dockerd and hostler so many times, one after the other."""
    hostler = Hostler(folder, own.settings)
    try:
        hostler.start()
        start(hostler, own.image("hop"))
        for _ in range(times):
            kill_container(hostler, own)
            kill_control(hostler, own)
            kill_dockerd(hostler, own)
            hostler = kill_hostler(hostler, own)
        hostler.stop()
        own.assert_nothing_is_left()
    except BaseException:
        print(hostler.tail())
        raise
    finally:
        hostler.destroy()


def test_after_a_kill_what_lived_serves_on_and_is_not_restarted(own: Dockerd, tmp_path: Path) -> None:
    kill_everything(tmp_path, own, 1)


@pytest.mark.slow
def test_after_ten_kills_of_each_what_lived_serves_on_and_is_not_restarted(own: Dockerd, tmp_path: Path) -> None:
    kill_everything(tmp_path, own, TIMES)


@pytest.mark.slow
def test_without_live_restore_the_containers_of_a_killed_dockerd_are_replaced(own: Dockerd, tmp_path: Path) -> None:
    own.start_with(live_restore=False)
    with hostler_up(tmp_path, **own.settings) as hostler:
        start(hostler, own.image("hop"))
        for _ in range(TIMES):
            kill_dockerd(hostler, own)
    own.assert_nothing_is_left()
