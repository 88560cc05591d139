"""Latency during an update, at half of the highest rate: `python bench/updates.py [--rounds N]`.

Calls are sent when they are due, even if earlier ones are unanswered, and their time counts from when they were due, so
that a stall shows. The highest rate is that of this client and hostler together on this machine. `during` is from
UpdateEndpoint's call until the endpoint is InService and its old instances have ended.
"""

from __future__ import annotations

import asyncio
import json
import statistics
import sys
import tempfile
import time
from collections.abc import Awaitable, Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import targets
from callers import Caller
from running import BUCKET, ROLE, Hostler, hostler_up

import arguments

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"
CALLERS = 32
SECONDS = 4.0  # of each measurement except that of the update, which lasts as long as the update
GOAL = 3.0  # p99 during an update, as a multiple of that before it
ROW = "{:>16}  {:>10}  {:>10}  {:>10}  {:>10}  {:>8}  {:>6}"


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--rounds", type=arguments.positive, default=3, help="of both updates")
    rounds = parser.parse_args().rounds
    with tempfile.TemporaryDirectory() as folder, hostler_up(Path(folder)) as hostler:
        _deploy(hostler)
        rate = asyncio.run(_highest(hostler)) / 2
        print(f"{rate:.0f} calls a second, {CALLERS} connections; ms; goal: p99 at most {GOAL:g} times that before")
        print(ROW.format("update", "p50 before", "p50 during", "p99 before", "p99 during", "seconds", "ratio"))
        ratios = []
        for _ in range(rounds):
            for name, change in (("new instances", _update), ("1 to 2 and back", _scale)):
                before, during, seconds = asyncio.run(_around(hostler, rate, change))
                ratio = _p99(during) / _p99(before)
                ratios.append(ratio)
                p50 = [statistics.median(times) for times in (before, during)]
                figures = [f"{1000 * value:.2f}" for value in (*p50, _p99(before), _p99(during))]
                print(ROW.format(name, *figures, f"{seconds:.2f}", f"{ratio:.2f}"), flush=True)
        print(
            f"median ratio {statistics.median(ratios):.2f}: {'met' if statistics.median(ratios) <= GOAL else 'MISSED'}"
        )


def _deploy(hostler: Hostler) -> None:
    hostler.put("model.tar.gz", targets.xgboost_target(7))
    container = {"Image": IMAGE, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    hostler.sm.create_model(ModelName="m", ExecutionRoleArn=ROLE, PrimaryContainer=container)
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    hostler.sm.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    hostler.sm.create_endpoint(EndpointName="e", EndpointConfigName="c")
    hostler.wait_in_service("e")


async def _update(hostler: Hostler) -> None:
    await _send(hostler, "UpdateEndpoint", EndpointName="e", EndpointConfigName="c")
    await _until_old_instances_ended(hostler)


async def _scale(hostler: Hostler) -> None:
    for count in (2, 1):
        desired = [{"VariantName": "v", "DesiredInstanceCount": count}]
        operation = "UpdateEndpointWeightsAndCapacities"
        await _send(hostler, operation, EndpointName="e", DesiredWeightsAndCapacities=desired)
    await _until_old_instances_ended(hostler)


async def _send(hostler: Hostler, operation: str, **request: Any) -> None:
    """Send an operation and wait for its answer. Not through boto3, which would take the callers' CPU."""
    headers = {"Content-Type": "application/x-amz-json-1.1", "X-Amz-Target": f"SageMaker.{operation}"}
    async with Caller(hostler.url) as caller:
        answer = await caller.call("POST", "/", headers, json.dumps(request).encode())
    assert answer.status == 200, answer


async def _until_old_instances_ended(hostler: Hostler) -> None:
    while len(list((hostler.data / "containers").iterdir())) > 1:  # noqa: ASYNC110 - a folder has no event
        await asyncio.sleep(0.02)


async def _call(caller: Caller) -> None:
    answer = await caller.call("POST", "/endpoints/e/invocations", {"Content-Type": "text/csv"}, b"1,2")
    assert (answer.status, targets.number(answer.body)) == (200, 7), answer


async def _highest(hostler: Hostler) -> float:
    """Return the calls a second if each caller sends as soon as it has its answer."""
    until = time.monotonic() + SECONDS

    async def call_on() -> int:
        count = 0
        async with Caller(hostler.url) as caller:
            while time.monotonic() < until:
                await _call(caller)
                count += 1
        return count

    return sum(await asyncio.gather(*(call_on() for _ in range(CALLERS)))) / SECONDS


async def _around(
    hostler: Hostler, rate: float, change: Callable[[Hostler], Awaitable[None]]
) -> tuple[list[float], list[float], float]:
    """Return the times of calls before and during a change, and the time of the change; seconds."""
    begun = time.monotonic()
    times: list[tuple[float, float]] = []  # (when due, seconds until the answer)

    async def call_on(number: int) -> None:
        due = begun + number / rate
        async with Caller(hostler.url) as caller:
            while True:
                await asyncio.sleep(due - time.monotonic())
                await _call(caller)
                times.append((due, time.monotonic() - due))
                due += CALLERS / rate

    async with asyncio.TaskGroup() as group:
        calling = [group.create_task(call_on(number)) for number in range(CALLERS)]
        await asyncio.sleep(SECONDS)
        changing = time.monotonic()
        await change(hostler)
        changed = time.monotonic()
        await asyncio.sleep(1.0)
        for task in calling:
            task.cancel()
    before = [seconds for due, seconds in times if begun + 1.0 <= due < changing]  # the first second is warm-up
    return before, [seconds for due, seconds in times if changing <= due <= changed], changed - changing


def _p99(times: list[float]) -> float:
    return statistics.quantiles(times, n=100)[98]


if __name__ == "__main__":
    main()
