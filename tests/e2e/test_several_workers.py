"""SAGEMAKER_MODEL_SERVER_WORKERS: a container's processes share its calls, and one that is killed is replaced."""

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

# It answers with the request's body and its own pid, after 3 ms of work.
ECHO = """
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
    hostler.put("scripts/echo.tar.gz", targets.script_target(ECHO))
    hostler.create_endpoint("xgb", Environment=WORKERS)
    hostler.create_endpoint("scripts", Environment=WORKERS)
    url = f"s3://{BUCKET}/scripts/echo.tar.gz"
    container = {"Image": ANY_IMAGE, "ModelDataUrl": url, "Environment": WORKERS}
    pair = [container | {"ContainerHostname": name} for name in ("first", "second")]
    deploy(hostler, "one", [container])
    deploy(hostler, "chain", pair)
    deploy(hostler, "direct", pair, "Direct")
    return hostler


def call_all(hostler: Hostler, endpoint: str, calls: int = CALLS, **headers: str) -> list[tuple[bytes, Answer]]:
    """Make calls by CALLERS callers at once, each with its own body; return bodies and answers."""

    async def run() -> list[tuple[bytes, Answer]]:
        answers: list[tuple[bytes, Answer]] = []
        bodies = iter(range(calls))

        async def call_repeatedly() -> None:
            async with Caller(hostler.url) as caller:
                for number in bodies:
                    body = b"call-%d" % number
                    fields = {"Content-Type": "text/csv", **headers}
                    answer = await caller.call("POST", f"/endpoints/{endpoint}/invocations", fields, body)
                    answers.append((body, answer))

        await asyncio.gather(*(call_repeatedly() for _ in range(CALLERS)))
        return answers

    return asyncio.run(run())


def shares(calls: list[tuple[bytes, Answer]]) -> Counter[tuple[int, ...]]:
    """Count the calls by process (of a chain: by its processes in order). Every answer must be correct."""
    counts: Counter[tuple[int, ...]] = Counter()
    for body, answer in calls:
        assert answer.status == 200, answer
        echoed, *pids = answer.body.split()
        assert echoed == body
        counts[tuple(map(int, pids))] += 1
    return counts


TARGET = {"X-Amzn-SageMaker-Target-Model": "echo.tar.gz"}
FIRST = {"X-Amzn-SageMaker-Target-Container-Hostname": "first"}


@pytest.mark.parametrize(("endpoint", "headers"), [("scripts", TARGET), ("one", {}), ("direct", FIRST)])
def test_two_processes_share_the_calls(hostler: Hostler, endpoint: str, headers: dict[str, str]) -> None:
    counts = shares(call_all(hostler, endpoint, **headers))
    assert len(counts) == 2
    assert all(count > CALLS // 4 for count in counts.values()), counts


def test_two_processes_of_each_container_of_a_chain_share_the_calls(hostler: Hostler) -> None:
    counts = shares(call_all(hostler, "chain"))
    for position in (0, 1):
        each = Counter[int]()
        for pids, count in counts.items():
            each[pids[position]] += count
        assert len(each) == 2
        assert all(count > CALLS // 4 for count in each.values()), each


def shared_fork_servers(hostler: Hostler) -> list[psutil.Process]:
    """The fork servers of the containers whose targets all share their two workers."""
    fork_servers = [fork_server for container in hostler.containers for fork_server in container.children()]
    return [fork_server for fork_server in fork_servers if len(fork_server.children()) == 2]


def workers_of(fork_server: psutil.Process, number: int) -> list[psutil.Process]:
    """Wait until a container has so many processes that answer: its fork server's children."""
    return eventually(
        lambda: children if len(children := fork_server.children()) == number else None,
        30,
        f"there are {number} processes",
    )


def under_load(hostler: Hostler, call: Callable[[Caller, int], Any], change: Callable[[], None]) -> Any:
    """Return what CALLERS callers got before, during and after the change."""

    async def run() -> list[Any]:
        results: list[Any] = []
        stopped = False

        async def call_repeatedly(seed: int) -> None:
            numbers = random.Random(seed)
            async with Caller(hostler.url) as caller:
                while not stopped:
                    results.append(await call(caller, numbers.randrange(XGB)))

        callers = [asyncio.create_task(call_repeatedly(seed)) for seed in range(CALLERS)]
        await until(results, CALLS)
        await asyncio.to_thread(change)
        await until(results, len(results) + CALLS)
        stopped = True
        await asyncio.gather(*callers)
        return results

    async def until(results: list[Any], count: int) -> None:
        async with asyncio.timeout(60):
            while len(results) < count:  # noqa: ASYNC110
                await asyncio.sleep(0.01)

    return asyncio.run(run())


def test_workers_of_many_targets_share_the_calls_and_a_killed_one_is_replaced_with_its_targets(
    hostler: Hostler,
) -> None:
    async def call(caller: Caller, number: int) -> tuple[int, Answer]:
        return number, await caller.invoke("xgb", f"{number}.tar.gz")

    for number in range(XGB):
        assert targets.number(hostler.invoke("xgb", f"{number}.tar.gz")) == number
    loads = hostler.metric("hostler_model_loads_total")
    [fork_server] = shared_fork_servers(hostler)
    first, second = fork_server.children()

    def kill() -> None:
        reads = [worker.io_counters().read_count for worker in (first, second)]
        assert all(count > CALLS // 4 for count in reads), reads
        first.kill()
        eventually(lambda: not first.is_running(), 60, "it has ended")
        workers_of(fork_server, 2)

    calls = under_load(hostler, call, kill)
    for number, answer in calls:
        assert answer.status == 424 or targets.number(answer.body) == number, answer
    assert sum(answer.status == 424 for _, answer in calls) <= CALLERS  # those in flight
    assert hostler.metric("hostler_model_loads_total") == loads  # control loads nothing
    [new] = [worker for worker in workers_of(fork_server, 2) if worker.pid != second.pid]
    second.kill()
    eventually(lambda: not second.is_running(), 60, "it has ended")  # a call in flight there would be 424
    for number in range(XGB):  # the new worker has them all
        assert targets.number(hostler.invoke("xgb", f"{number}.tar.gz")) == number
    assert new in workers_of(fork_server, 2)


def test_a_target_that_ends_the_process_that_loads_it_ends_one_worker_in_any_number_of_calls(hostler: Hostler) -> None:
    [fork_server] = shared_fork_servers(hostler)

    def all_answer() -> bool:
        reads = {worker: worker.io_counters().read_count for worker in workers_of(fork_server, 2)}
        for number in range(20):
            assert targets.number(hostler.invoke("xgb", f"{number % XGB}.tar.gz")) == number % XGB
        return all(worker.io_counters().read_count > count for worker, count in reads.items())

    hostler.put("xgb/fatal.tar.gz", targets.archive({"model.pkl": b"cos\n_exit\n(I3\ntR."}))
    eventually(all_answer, 60, "every worker takes calls")  # a worker that is being filled would load it, too
    before = set(workers_of(fork_server, 2))
    for _ in range(4):
        with pytest.raises(ClientError, match="ended while it loaded this model"):
            hostler.invoke("xgb", "fatal.tar.gz")
    assert len(before - set(workers_of(fork_server, 2))) == 1
    assert targets.number(hostler.invoke("xgb", "0.tar.gz")) == 0


@pytest.mark.parametrize(("endpoint", "headers"), [("scripts", TARGET), ("one", {})])
def test_a_scripts_process_that_is_killed_is_replaced_while_the_other_answers(
    hostler: Hostler, endpoint: str, headers: dict[str, str]
) -> None:
    async def call(caller: Caller, number: int) -> tuple[bytes, Answer]:
        body, fields = b"call-%d" % number, {"Content-Type": "text/csv", **headers}
        return body, await caller.call("POST", f"/endpoints/{endpoint}/invocations", fields, body)

    before = set(shares(call_all(hostler, endpoint, **headers)))
    [[pid], _] = before
    fork_server = psutil.Process(pid).parent()
    assert fork_server is not None

    def kill() -> None:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: not psutil.pid_exists(pid), 60, "it has ended")
        workers_of(fork_server, 4)

    calls = under_load(hostler, call, kill)
    succeeded = [call for call in calls if call[1].status == 200]
    shares(succeeded)
    assert {answer.status for _, answer in calls} <= {200, 424}
    assert len(calls) - len(succeeded) <= CALLERS
    counts = shares(call_all(hostler, endpoint, **headers))
    assert len(counts) == 2
    assert len(set(counts) & before) == 1
    assert all(count > CALLS // 4 for count in counts.values()), counts


def test_a_new_control_finds_the_running_workers(hostler: Hostler) -> None:
    endpoints = [("scripts", TARGET), ("one", {})]
    before = {endpoint: set(shares(call_all(hostler, endpoint, **headers))) for endpoint, headers in endpoints}
    old, loads = hostler.control, hostler.metric("hostler_model_loads_total")
    old.kill()
    eventually(lambda: not old.is_running() and hostler.named("hostler.control.main"), 60, "a new control runs")
    for endpoint, _ in endpoints:
        hostler.wait_in_service(endpoint)
    eventually(
        lambda: not hostler.metric("hostler_model_loads_total"),
        30,
        f"it has loaded none of the resident targets ({loads})",
    )
    for endpoint, headers in endpoints:
        counts = shares(call_all(hostler, endpoint, **headers))
        assert set(counts) == before[endpoint]
        assert all(count > CALLS // 4 for count in counts.values()), counts


@pytest.mark.parametrize("number", ["0", "-1", "many", "1.5", str(10**9), "9" * 1000])
def test_an_invalid_number_of_workers_fails_the_endpoint_with_that_reason(hostler: Hostler, number: str) -> None:
    name = f"bad-{len(number)}-{number.strip('-')[:4].replace('.', '')}"
    url = f"s3://{BUCKET}/scripts/echo.tar.gz"
    container = {"Image": ANY_IMAGE, "ModelDataUrl": url, "Environment": {"SAGEMAKER_MODEL_SERVER_WORKERS": number}}
    with pytest.raises(AssertionError, match="SAGEMAKER_MODEL_SERVER_WORKERS is not a number from 1 to 64: "):
        deploy(hostler, name, [container])
