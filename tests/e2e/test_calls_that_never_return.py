"""Calls that never return, under load: each ends alone, what waits behind it is answered, and nothing is left over."""

from __future__ import annotations

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from dataclasses import dataclass, field

import psutil
import pytest
import targets
from callers import Answer, Caller
from hop_endpoints import REGISTRY, deploy
from running import ANY_IMAGE, BUCKET, REPOSITORY, Hostler, eventually, hostler_up

pytestmark = pytest.mark.alone

TIME = 6.0  # seconds: invoke_timeout
LATER = TIME - 1  # seconds after a call that hangs at which another one is sent: its own time is up as much later
GUARD = 60.0  # seconds, past which a test hangs
TARGETS = ("sleep", "compute", "block", "children")  # each hangs in its own way
ROUNDS = 5
FOREIGN = f"{REGISTRY}/foreign:1"

SCRIPT = """
import os, signal, subprocess, sys, threading, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if data == "sleep":
        time.sleep(1e6)
    elif data == "compute":
        while True:
            pass
    elif data == "block":
        signal.pthread_sigmask(signal.SIG_BLOCK, signal.valid_signals())
        lock = threading.Lock()
        lock.acquire()
        lock.acquire()
    elif data == "children":
        sleep = [sys.executable, "-c", "import time; time.sleep(1e6)"]
        children = [subprocess.Popen(sleep, start_new_session=session) for session in (False, True)]
        children[0].wait()
    return f"{data} {os.getpid()}", "text/csv"
"""
STREAM = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    def parts():
        if data == "before":
            time.sleep(1e6)
        yield "first"
        yield "second"
    return parts(), "text/plain"
"""


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler]:
    """Multi-model endpoints of scripts, one with two workers; endpoints of one script, one with two workers; a foreign
    container, and an endpoint that streams.
    """
    folder = tmp_path_factory.mktemp("hangs")
    config = folder / "mapped.toml"
    command = [sys.executable, str(REPOSITORY / "tests" / "containers" / "faulty.py"), "hangs"]
    config.write_text(f'[images]\n"{FOREIGN}" = {json.dumps(command)}\n')
    with hostler_up(folder / "up", config=config, invoke_timeout=TIME, replace_after_timeouts=2) as hostler:
        for endpoint in ("scripts", "shared"):
            for name in (*TARGETS, "others"):
                hostler.put(f"{endpoint}/{name}.tar.gz", targets.script_target(SCRIPT))
        hostler.put("scripts/xgboost.tar.gz", targets.xgboost_target(0))
        hostler.put("one/script.tar.gz", targets.script_target(SCRIPT))
        hostler.put("one/stream.tar.gz", targets.script_target(STREAM))
        two = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
        hostler.create_endpoint("scripts")
        hostler.create_endpoint("shared", Environment=two)
        script = {"Image": ANY_IMAGE, "ModelDataUrl": f"s3://{BUCKET}/one/script.tar.gz"}
        deploy(hostler, "one", [script])
        deploy(hostler, "workers", [script | {"Environment": two}])
        deploy(hostler, "streams", [script | {"ModelDataUrl": f"s3://{BUCKET}/one/stream.tar.gz"}])
        deploy(hostler, "foreign", [{"Image": FOREIGN}])
        yield hostler


@dataclass
class Load:
    """Answers to callers of targets that never hang."""

    answers: list[tuple[str, Answer]] = field(default_factory=list)  # each with its endpoint and target


@contextlib.asynccontextmanager
async def load(hostler: Hostler, *callees: tuple[str, str, bytes]) -> AsyncIterator[Load]:
    """Call each (endpoint, target, body) without a pause within this context."""
    made = Load()

    async def call(endpoint: str, target: str, body: bytes) -> None:
        async with Caller(hostler.url) as caller:
            while True:
                made.answers.append((f"{endpoint}/{target}", await invoke(caller, endpoint, target, body)))
                await asyncio.sleep(0.01)

    async with asyncio.TaskGroup() as group:
        tasks = [group.create_task(call(*callee)) for callee in callees]
        yield made
        for task in tasks:
            task.cancel()
    calls = Counter(callee for callee, _ in made.answers)
    assert all(calls[f"{endpoint}/{target}"] >= 10 for endpoint, target, _ in callees), calls
    assert {answer.status for _, answer in made.answers} == {200}


async def invoke(caller: Caller, endpoint: str, target: str, body: bytes, operation: str = "invocations") -> Answer:
    headers = {"Content-Type": "text/csv"}
    if target:
        headers["X-Amzn-SageMaker-Target-Model"] = f"{target}.tar.gz"
    return await caller.call("POST", f"/endpoints/{endpoint}/{operation}", headers, body)


async def once(hostler: Hostler, endpoint: str, target: str, body: bytes, *, after: float = 0.0) -> Answer:
    await asyncio.sleep(after)
    async with Caller(hostler.url) as caller:
        return await invoke(caller, endpoint, target, body)


def assert_timed_out(answer: Answer) -> None:
    assert answer.status == 424
    assert "time" in json.loads(answer.body)["OriginalMessage"]


async def hang(hostler: Hostler, endpoint: str, target: str, body: bytes, behind: int = 2) -> None:
    """Make a call that hangs and others behind it; then it answers them, and the next one in that one's own time."""
    first = asyncio.create_task(once(hostler, endpoint, target, body))
    others = [once(hostler, endpoint, target, b"behind", after=LATER) for _ in range(behind)]
    waiting = asyncio.gather(*others)
    assert_timed_out(await first)
    answer = await once(hostler, endpoint, target, b"again")
    assert answer.status == 200, answer
    assert [each.status for each in await waiting] == [200] * behind


def children_left() -> list[psutil.Process]:
    """The children that hanging calls started."""
    left = []
    for process in psutil.process_iter():
        with contextlib.suppress(psutil.Error):
            if "time.sleep(1e6)" in " ".join(process.cmdline()):
                left.append(process)
    return left


def test_twenty_hangs_of_four_targets_hit_no_other_call(hostler: Hostler) -> None:
    async def story() -> None:
        for target in (*TARGETS, "others"):
            assert (await once(hostler, "scripts", target, b"x")).status == 200
        callees = [("scripts", "others", b"x"), ("scripts", "xgboost", b"1,2"), ("one", "", b"x")] * 2
        async with load(hostler, *callees):
            for _ in range(ROUNDS):
                await asyncio.gather(*(hang(hostler, "scripts", target, target.encode()) for target in TARGETS))

    asyncio.run(story())
    eventually(lambda: not children_left(), 60, "no child of a call is left", lambda: str(children_left()))
    log = "\n".join(path.read_text() for path in hostler.data.glob("logs/**/*.log"))
    for target in TARGETS:
        assert len([line for line in log.splitlines() if f"{target}.tar.gz has not returned" in line]) >= ROUNDS


@pytest.mark.parametrize(("endpoint", "target"), [("one", ""), ("workers", ""), ("shared", "sleep")])
def test_a_script_s_process_that_hangs_is_replaced(hostler: Hostler, endpoint: str, target: str) -> None:
    async def story() -> None:
        async with load(hostler, ("scripts", "others", b"x")):
            await hang(hostler, endpoint, target, b"sleep")

    asyncio.run(story())


def test_all_workers_may_hang(hostler: Hostler) -> None:
    async def story() -> None:
        hanging = [once(hostler, "workers", "", b"sleep") for _ in range(2)]
        waiting = [once(hostler, "workers", "", b"behind", after=LATER) for _ in range(4)]
        answers = await asyncio.gather(*hanging, *waiting)
        for answer in answers[:2]:
            assert_timed_out(answer)
        assert [answer.status for answer in answers[2:]] == [200] * 4

    asyncio.run(story())


def test_a_foreign_container_that_lets_two_calls_in_a_row_time_out_is_replaced(hostler: Hostler) -> None:
    async def story() -> None:
        assert (await once(hostler, "foreign", "", b"x")).body == b"x"
        async with load(hostler, ("scripts", "others", b"x")):
            hanging = asyncio.create_task(once(hostler, "foreign", "", b"hang"))
            behind = asyncio.create_task(once(hostler, "foreign", "", b"x", after=0.5))
            assert_timed_out(await hanging)
            assert_timed_out(await behind)
            async with asyncio.timeout(GUARD):
                while (answer := await once(hostler, "foreign", "", b"again")).status != 200:
                    assert answer.status == 424  # it was sent before the route named the next one
        assert hostler.sm.describe_endpoint(EndpointName="foreign")["EndpointStatus"] == "InService"

    before = set(hostler.named("faulty.py"))
    asyncio.run(story())
    eventually(lambda: not before & set(hostler.named("faulty.py")), 60, "the container that hung has ended")
    assert hostler.output.read_text().count("time out after 6 seconds each, 2 in a row. The last one was") == 1


def test_a_stream_that_stops_before_its_first_byte_is_a_call_that_hangs(hostler: Hostler) -> None:
    async def story() -> None:
        async with Caller(hostler.url) as caller, Caller(hostler.url) as another:
            hanging = asyncio.create_task(invoke(caller, "streams", "", b"before", "invocations-response-stream"))
            await asyncio.sleep(LATER)
            behind = asyncio.create_task(invoke(another, "streams", "", b"x", "invocations-response-stream"))
            assert_timed_out(await hanging)
            answer = await behind
            assert (answer.status, b"second" in answer.body) == (200, True)

    asyncio.run(story())
