"""SAGEMAKER_MODEL_SERVER_WORKERS: a container's several processes share its calls, and go on without one another."""

from __future__ import annotations

import asyncio
import os
import random
import signal
from collections import Counter
from collections.abc import Callable
from typing import Any

import psutil
import pytest
import targets
from botocore.exceptions import ClientError
from callers import Answer, Caller
from hop_endpoints import deploy
from running import ANY_IMAGE, BUCKET, Hostler, eventually

WORKERS = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
CALLS, CALLERS = 200, 16
XGB = 8  # XGBoost targets

# It answers what it was sent and the process that answered, after some milliseconds of work.
WHO = """
import os, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    until = time.process_time() + 0.003
    while time.process_time() < until:
        pass
    return f"{data} {os.getpid()}", "text/csv"
"""


@pytest.fixture(scope="module")
def hostler(hostler: Hostler) -> Hostler:
    """Endpoints of two workers: `xgb` and `scripts` (multi-model), `one`, `chain` of two containers, `direct`."""
    for number in range(XGB):
        hostler.put(f"xgb/{number}.tar.gz", targets.xgboost_target(number))
    hostler.put("scripts/who.tar.gz", targets.script_target(WHO))
    hostler.create_endpoint("xgb", Environment=WORKERS)
    hostler.create_endpoint("scripts", Environment=WORKERS)
    url = f"s3://{BUCKET}/scripts/who.tar.gz"
    container = {"Image": ANY_IMAGE, "ModelDataUrl": url, "Environment": WORKERS}
    pair = [container | {"ContainerHostname": name} for name in ("first", "second")]
    deploy(hostler, "one", [container])
    deploy(hostler, "chain", pair)
    deploy(hostler, "direct", pair, "Direct")
    return hostler


def ask_all(hostler: Hostler, endpoint: str, calls: int = CALLS, **headers: str) -> list[tuple[bytes, Answer]]:
    """So many calls by CALLERS callers at once, each with a body of its own."""

    async def run() -> list[tuple[bytes, Answer]]:
        found: list[tuple[bytes, Answer]] = []
        bodies = iter(range(calls))

        async def go_on() -> None:
            async with Caller(hostler.url) as caller:
                for number in bodies:
                    body = b"call-%d" % number
                    fields = {"Content-Type": "text/csv", **headers}
                    answer = await caller.call("POST", f"/endpoints/{endpoint}/invocations", fields, body)
                    found.append((body, answer))

        await asyncio.gather(*(go_on() for _ in range(CALLERS)))
        return found

    return asyncio.run(run())


def answered(calls: list[tuple[bytes, Answer]]) -> Counter[tuple[int, ...]]:
    """How many calls each process (of a chain: each way through) answered; all of them right."""
    found: Counter[tuple[int, ...]] = Counter()
    for body, answer in calls:
        assert answer.status == 200, answer
        said, *pids = answer.body.split()
        assert said == body
        found[tuple(map(int, pids))] += 1
    return found


TARGET = {"X-Amzn-SageMaker-Target-Model": "who.tar.gz"}
FIRST = {"X-Amzn-SageMaker-Target-Container-Hostname": "first"}


@pytest.mark.parametrize(("endpoint", "headers"), [("scripts", TARGET), ("one", {}), ("direct", FIRST)])
def test_two_processes_share_the_calls(hostler: Hostler, endpoint: str, headers: dict[str, str]) -> None:
    found = answered(ask_all(hostler, endpoint, **headers))
    assert len(found) == 2
    assert all(count > CALLS // 4 for count in found.values()), found


def test_two_processes_of_each_container_of_a_chain_share_the_calls(hostler: Hostler) -> None:
    found = answered(ask_all(hostler, "chain"))
    for position in (0, 1):
        at = Counter[int]()
        for way, count in found.items():
            at[way[position]] += count
        assert len(at) == 2
        assert all(count > CALLS // 4 for count in at.values()), found


def siblings(fork_server: psutil.Process, number: int) -> list[psutil.Process]:
    """The processes that answer in a container: its fork server's children."""
    return eventually(
        lambda: found if len(found := fork_server.children()) == number else None, 30, f"there are {number} processes"
    )


def under_load(hostler: Hostler, ask: Callable[[Caller, int], Any], happening: Callable[[], None]) -> Any:
    """What CALLERS callers got that went on before, while and after something happened."""

    async def run() -> list[Any]:
        got: list[Any] = []
        over = False

        async def go_on(seed: int) -> None:
            numbers = random.Random(seed)
            async with Caller(hostler.url) as caller:
                while not over:
                    got.append(await ask(caller, numbers.randrange(XGB)))

        callers = [asyncio.create_task(go_on(seed)) for seed in range(CALLERS)]
        await until(got, CALLS)
        await asyncio.to_thread(happening)
        await until(got, len(got) + CALLS)
        over = True
        await asyncio.gather(*callers)
        return got

    async def until(got: list[Any], count: int) -> None:
        async with asyncio.timeout(60):
            while len(got) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    return asyncio.run(run())


def test_workers_of_many_targets_share_the_calls_and_one_that_is_killed_is_replaced_and_filled(
    hostler: Hostler,
) -> None:
    async def ask(caller: Caller, number: int) -> tuple[int, Answer]:
        return number, await caller.invoke("xgb", f"{number}.tar.gz")

    for number in range(XGB):
        assert targets.number(hostler.invoke("xgb", f"{number}.tar.gz")) == number
    loads = hostler.metric("hostler_model_loads_total")
    fork_servers = [fork_server for container in hostler.containers for fork_server in container.children()]
    [fork_server] = [one for one in fork_servers if len(one.children()) == 2]  # no target has a process of its own
    first, second = fork_server.children()

    def kill() -> None:
        reads = [one.io_counters().read_count for one in (first, second)]
        assert all(count > CALLS // 4 for count in reads), reads
        first.kill()
        eventually(lambda: not first.is_running(), 30, "it is gone")
        siblings(fork_server, 2)

    calls = under_load(hostler, ask, kill)
    for number, answer in calls:
        assert answer.status == 424 or targets.number(answer.body) == number, answer
    assert sum(answer.status == 424 for _, answer in calls) <= CALLERS  # those that were there
    assert hostler.metric("hostler_model_loads_total") == loads  # control need not know
    [new] = [one for one in siblings(fork_server, 2) if one.pid != second.pid]
    second.kill()
    eventually(lambda: not second.is_running(), 30, "it is gone")  # what it was answering until then would be 424
    for number in range(XGB):  # the new one has them all
        assert targets.number(hostler.invoke("xgb", f"{number}.tar.gz")) == number
    assert new in siblings(fork_server, 2)


def test_a_target_that_ends_whoever_loads_it_ends_one_worker_however_often_it_is_asked_for(hostler: Hostler) -> None:
    def workers() -> set[psutil.Process]:
        fork_servers = [fork_server for container in hostler.containers for fork_server in container.children()]
        return {worker for fork_server in fork_servers for worker in fork_server.children()}

    hostler.put("xgb/fatal.tar.gz", targets.archive({"model.pkl": b"cos\n_exit\n(I3\ntR."}))
    assert targets.number(hostler.invoke("xgb", "0.tar.gz")) == 0
    before = workers()
    for _ in range(4):
        with pytest.raises(ClientError, match="ended while it loaded this model"):
            hostler.invoke("xgb", "fatal.tar.gz")
    after = eventually(lambda: found if len(found := workers()) == len(before) else None, 30, "there are as many again")
    assert len(before - after) == 1
    assert targets.number(hostler.invoke("xgb", "0.tar.gz")) == 0


@pytest.mark.parametrize(("endpoint", "headers"), [("scripts", TARGET), ("one", {})])
def test_a_scripts_process_that_is_killed_is_replaced_while_the_other_answers(
    hostler: Hostler, endpoint: str, headers: dict[str, str]
) -> None:
    async def ask(caller: Caller, number: int) -> tuple[bytes, Answer]:
        body, fields = b"call-%d" % number, {"Content-Type": "text/csv", **headers}
        return body, await caller.call("POST", f"/endpoints/{endpoint}/invocations", fields, body)

    before = set(answered(ask_all(hostler, endpoint, **headers)))
    [[pid], _] = before
    fork_server = psutil.Process(pid).parent()
    assert fork_server is not None

    def kill() -> None:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(pid), 30, "it is gone")
        siblings(fork_server, 4)

    calls = under_load(hostler, ask, kill)
    good = [call for call in calls if call[1].status == 200]
    answered(good)
    assert {answer.status for _, answer in calls} <= {200, 424}
    assert len(calls) - len(good) <= CALLERS
    found = answered(ask_all(hostler, endpoint, **headers))
    assert len(found) == 2
    assert len(set(found) & before) == 1
    assert all(count > CALLS // 4 for count in found.values()), found


def test_a_new_control_learns_again_where_workers_are(hostler: Hostler) -> None:
    asked = [("scripts", TARGET), ("one", {})]
    before = {endpoint: set(answered(ask_all(hostler, endpoint, **headers))) for endpoint, headers in asked}
    old, loads = hostler.control, hostler.metric("hostler_model_loads_total")
    old.kill()
    eventually(lambda: not old.is_running() and hostler.named("hostler.control.main"), 30, "there is a new control")
    for endpoint, _ in asked:
        hostler.wait_in_service(endpoint)
    eventually(
        lambda: not hostler.metric("hostler_model_loads_total"), 30, f"it has not loaded what was there ({loads})"
    )
    for endpoint, headers in asked:
        found = answered(ask_all(hostler, endpoint, **headers))
        assert set(found) == before[endpoint]
        assert all(count > CALLS // 4 for count in found.values()), found


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5", str(10**9), "9" * 1000])
def test_a_number_of_workers_that_is_none_fails_the_endpoint_and_says_so(hostler: Hostler, number: str) -> None:
    name = f"bad-{len(number)}-{number.strip('-')[:4].replace('.', '')}"
    url = f"s3://{BUCKET}/scripts/who.tar.gz"
    container = {"Image": ANY_IMAGE, "ModelDataUrl": url, "Environment": {"SAGEMAKER_MODEL_SERVER_WORKERS": number}}
    with pytest.raises(AssertionError, match="SAGEMAKER_MODEL_SERVER_WORKERS is not a number from 1 to 64: "):
        deploy(hostler, name, [container])
