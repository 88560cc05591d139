"""kill -9 of each of hostler's processes under load, and SIGTERM under load."""

from __future__ import annotations

import asyncio
import contextlib
import json
import random
import signal
import time
from collections import Counter
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import targets
from callers import Answer, Caller, UnansweredError
from running import Hostler, eventually, has_ended, hostler_up

TARGETS = 12
CALLERS = 8

# Creates the file ENTERED when a call has reached it.
SLEEPY = """
import time

def model_fn(model_dir):
    return "awake"

def transform_fn(model, data, content_type, accept):
    open("ENTERED", "w").close()
    time.sleep(0.5)
    return '"awake"', "application/json"
"""


@dataclass(frozen=True)
class Call:
    number: int
    sent: float  # monotonic
    ended: float
    answer: Answer | None  # None: the connection ended or could not be made
    begun: bool = False  # a part of an answer had come
    connecting: float = 0.0  # monotonic: when its connection began to be made

    @property
    def correct(self) -> bool:
        answer = self.answer
        return answer is not None and answer.status == 200 and targets.number(answer.body) == self.number


@dataclass
class Load:
    """The calls of callers that repeat until `stopped`."""

    url: str
    calls: list[Call] = field(default_factory=list)
    stopped: bool = False

    def failed(self) -> list[Call]:
        return [call for call in self.calls if not call.correct]

    def noticed(self, died: float) -> float:
        """Return when a call that was sent after this death was answered: the gateway has met the death by then."""
        return min(call.ended for call in self.calls if call.correct and call.sent > died)

    async def call_repeatedly(self, seed: int) -> None:
        numbers = random.Random(seed)
        async with Caller(self.url) as caller:
            while not self.stopped:
                number, sent = numbers.randrange(TARGETS), time.monotonic()
                answer, begun = None, False
                try:
                    answer = await caller.invoke("kills", f"{number}.tar.gz")
                except UnansweredError as error:
                    begun = error.begun
                except OSError:
                    await asyncio.sleep(0.02)
                self.calls.append(Call(number, sent, time.monotonic(), answer, begun, caller.connecting))


def under_load(hostler: Hostler, change: Callable[[Load], Awaitable[None]]) -> Load:
    """Return the calls of CALLERS callers for a second before, during and for a second after the change."""

    async def run() -> Load:
        load = Load(hostler.url)
        callers = [asyncio.create_task(load.call_repeatedly(seed)) for seed in range(CALLERS)]
        await asyncio.sleep(1)
        await change(load)
        await asyncio.sleep(1)
        load.stopped = True
        await asyncio.gather(*callers)
        return load

    return asyncio.run(run())


def start(hostler: Hostler, count: int) -> None:
    """Create an endpoint whose targets are all resident."""
    for number in range(TARGETS):
        hostler.put(f"kills/{number}.tar.gz", targets.xgboost_target(number))
    hostler.create_endpoint("kills", count=count)
    for number in range(TARGETS):
        assert targets.number(hostler.invoke("kills", f"{number}.tar.gz")) == number


def test_when_a_container_is_killed_only_requests_already_sent_to_it_fail(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        start(hostler, count=2)
        first, second = hostler.containers
        killed = 0.0

        async def kill(load: Load) -> None:
            nonlocal killed
            first.kill()
            await asyncio.to_thread(eventually, lambda: has_ended(first), 60, "the container has ended")
            killed = time.monotonic()
            await asyncio.to_thread(eventually, lambda: len(hostler.containers) == 2, 60, "it is replaced")

        load = under_load(hostler, kill)

        failed = load.failed()
        assert all(call.answer is not None and call.answer.status == 424 for call in failed), failed[:3]
        assert all(call.sent < load.noticed(killed) for call in failed), failed[:3]
        assert len(failed) <= CALLERS
        assert second in hostler.containers
        eventually(lambda: _count(hostler) == 2, 60, "both instances count again")
        for number in range(TARGETS):
            assert targets.number(hostler.invoke("kills", f"{number}.tar.gz")) == number


def test_when_control_is_killed_no_call_of_a_resident_target_fails_and_none_is_loaded_again(
    tmp_path: Path,
) -> None:
    with hostler_up(tmp_path) as hostler:
        start(hostler, count=1)
        hostler.put("kills/new.tar.gz", targets.xgboost_target(99))
        containers = hostler.containers
        old = hostler.control

        async def kill(load: Load) -> None:
            old.kill()
            await asyncio.to_thread(eventually, lambda: _control_answers(hostler), 60, "control answers again")

        load = under_load(hostler, kill)

        assert load.failed() == []
        assert hostler.control != old
        assert targets.number(hostler.invoke("kills", "new.tar.gz")) == 99
        assert hostler.metric("hostler_model_loads_total") == 1  # the load of the new target
        for number in range(TARGETS):
            assert targets.number(hostler.invoke("kills", f"{number}.tar.gz")) == number
        assert hostler.metric("hostler_model_loads_total") == 1
        assert hostler.containers == containers


def test_a_miss_while_control_restarts_waits_and_is_answered(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        start(hostler, count=1)
        hostler.put("kills/new.tar.gz", targets.xgboost_target(99))
        hostler.control.kill()
        assert targets.number(hostler.invoke("kills", "new.tar.gz")) == 99


@pytest.mark.parametrize("gateways", [1, 2])
def test_when_a_gateway_is_killed_the_next_connection_is_served(tmp_path: Path, gateways: int) -> None:
    with hostler_up(tmp_path, gateways=gateways) as hostler:
        start(hostler, count=1)
        loads = hostler.metric("hostler_model_loads_total")
        killed = 0.0

        async def kill(load: Load) -> None:
            nonlocal killed
            [gateway, *_] = hostler.gateways
            gateway.kill()
            await asyncio.to_thread(eventually, lambda: has_ended(gateway), 60, "the gateway has ended")
            killed = time.monotonic()
            async with Caller(hostler.url) as caller:
                answer = await caller.invoke("kills", "3.tar.gz")
            assert (answer.status, targets.number(answer.body)) == (200, 3)

        load = under_load(hostler, kill)

        failed = load.failed()
        assert all(call.answer is None for call in failed), failed[:3]  # the connection ended with its gateway
        assert all(call.connecting < killed for call in failed), failed[:3]
        assert len(failed) <= CALLERS
        assert len(hostler.gateways) == gateways
        assert hostler.metric("hostler_model_loads_total") == loads


def test_a_gateway_that_is_killed_while_control_hangs_serves_by_the_routes_that_it_knew(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        start(hostler, count=1)
        control, [gateway] = hostler.control, hostler.gateways
        command = control.cmdline()
        snapshot = Path(command[command.index("--run") + 1]) / "g1.snapshot"
        eventually(lambda: all(b"%d.tar.gz" % n in snapshot.read_bytes() for n in range(TARGETS)), 60, "it is written")
        control.suspend()
        try:
            gateway.kill()
            eventually(lambda: has_ended(gateway), 60, "the gateway has ended")
            for number in range(TARGETS):
                assert targets.number(hostler.invoke("kills", f"{number}.tar.gz")) == number
        finally:
            control.resume()
        hostler.put("kills/new.tar.gz", targets.xgboost_target(99))
        assert targets.number(hostler.invoke("kills", "new.tar.gz")) == 99


def test_when_the_host_is_killed_no_process_remains_and_the_next_start_restores_every_endpoint(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        start(hostler, count=2)
        hostler.create_endpoint("other", prefix="kills")
        hostler.invoke("other", "5.tar.gz")

        async def kill(load: Load) -> None:
            hostler.host.kill()
            await asyncio.to_thread(
                eventually,
                lambda: not hostler.remains(),
                30,
                "all processes have ended",
                lambda: str(hostler.remains()),
            )

        under_load(hostler, kill)

        again = Hostler(tmp_path, {})
        try:
            again.start()
            for endpoint, count in (("kills", 2), ("other", 1)):
                eventually(lambda: _count(again, endpoint) == count, 60, f"{endpoint} has all its instances")  # noqa: B023
                for number in range(TARGETS):
                    assert targets.number(again.invoke(endpoint, f"{number}.tar.gz")) == number
            assert again.metric("hostler_downloads_total") == 0  # all are on disk, extracted
            again.stop()
            hostler.assert_no_remains()
        finally:
            again.destroy()


def test_sigterm_under_load_answers_every_request_that_was_accepted(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        start(hostler, count=1)
        entered = tmp_path / "entered"
        hostler.put("kills/sleepy.tar.gz", targets.script_target(SLEEPY.replace("ENTERED", str(entered))))
        hostler.invoke("kills", "sleepy.tar.gz")
        entered.unlink()
        slept: list[Answer | BaseException] = []

        async def terminate(load: Load) -> None:
            async with contextlib.AsyncExitStack() as stack:
                sleepers = [await stack.enter_async_context(Caller(hostler.url)) for _ in range(4)]
                calls = [asyncio.create_task(caller.invoke("kills", "sleepy.tar.gz")) for caller in sleepers]
                await asyncio.to_thread(eventually, entered.exists, 60, "the script is called")
                hostler.host.send_signal(signal.SIGTERM)
                slept.extend(await asyncio.gather(*calls, return_exceptions=True))
            load.stopped = True

        load = under_load(hostler, terminate)
        assert hostler._popen.wait(40) == 0
        hostler.assert_no_remains()

        # 1. A call is answered correctly, or its connection ends before an answer. The one in the script is answered.
        failed = load.failed()
        assert all(call.answer is None and not call.begun for call in failed), failed[:3]
        answers = [(each.status, each.body) for each in slept if isinstance(each, Answer)]
        assert answers
        assert set(answers) == {(200, b'"awake"')}
        assert not any(isinstance(each, UnansweredError) and each.begun for each in slept), slept
        assert all(isinstance(each, (Answer, UnansweredError, OSError)) for each in slept), slept
        # 2. Those without an answer were accepted by no gateway: none of them is in an access log.
        logs = [*hostler.data.glob("logs/access/*.log")]
        lines = [json.loads(line) for log in logs for line in log.read_text().splitlines()]
        accepted = Counter(line["target"] for line in lines)
        answered = Counter(f"{call.number}.tar.gz" for call in load.calls if call.correct)
        answered.update(f"{number}.tar.gz" for number in range(TARGETS))  # those of `start`
        answered["sleepy.tar.gz"] = 1 + len(answers)
        assert accepted == answered
        assert {line["status"] for line in lines} == {200}


def _count(hostler: Hostler, endpoint: str = "kills") -> int:
    description = hostler.sm.describe_endpoint(EndpointName=endpoint)
    assert description["EndpointStatus"] == "InService"
    return int(description["ProductionVariants"][0]["CurrentInstanceCount"])


def _control_answers(hostler: Hostler) -> bool:
    try:
        return bool(hostler.sm.describe_endpoint(EndpointName="kills")) and bool(hostler.control)
    except Exception:  # refused, disconnected or 503 while control restarts
        return False
