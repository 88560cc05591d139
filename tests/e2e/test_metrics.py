"""Metrics, read back through CloudWatch's API: those of invocations are the access log's sums, whoever is killed."""

from __future__ import annotations

import asyncio
import json
import time
from collections import defaultdict
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
import targets
from callers import Caller, UnansweredError
from running import Hostler, eventually, hostler_up

TARGETS = 4
CALLERS = 6
DIMENSIONS = {"EndpointName": "metrics", "VariantName": "AllTraffic"}

Line = dict[str, Any]
Minutes = dict[datetime, float]


async def load(url: str, calls: int, seconds: float, events: dict[int, Callable[[], None]]) -> int:
    """Make so many calls, spread over so many seconds, and each event before its call. Return the number answered.

    Each tenth body is one that the model refuses.
    """
    begun, numbers, answered = time.monotonic(), iter(range(calls)), 0

    async def call_repeatedly() -> None:
        nonlocal answered
        async with Caller(url) as caller:
            for number in numbers:
                if event := events.get(number):
                    event()
                await asyncio.sleep(max(0.0, begun + seconds * number / calls - time.monotonic()))
                body = b"no number" if number % 10 == 0 else b"1,2"
                try:
                    answer = await caller.invoke("metrics", f"{number % TARGETS}.tar.gz", body)
                except (UnansweredError, OSError):
                    continue
                assert answer.status == (424 if number % 10 == 0 else 200), answer
                answered += 1

    await asyncio.gather(*(call_repeatedly() for _ in range(CALLERS)))
    return answered


def lines(hostler: Hostler) -> Iterator[Line]:
    """The lines of all gateways' access logs that are of the endpoint's variant."""
    for path in (hostler.data / "logs" / "access").iterdir():
        for text in path.read_bytes().splitlines():
            line = json.loads(text)
            if (line["endpoint"], line["variant"]) == (DIMENSIONS["EndpointName"], DIMENSIONS["VariantName"]):
                yield line


def logged(log: list[Line], value: Callable[[Line], float | None]) -> tuple[Minutes, Minutes]:
    """The sums and the numbers of a value of the access log's lines, by minute. None: the line does not count."""
    sums: defaultdict[datetime, float] = defaultdict(float)
    counts: defaultdict[datetime, float] = defaultdict(float)
    for line in log:
        minute = datetime.fromisoformat(line["time"]).replace(second=0, microsecond=0)
        if (number := value(line)) is not None:
            sums[minute] += number
            counts[minute] += 1
    return dict(sums), dict(counts)


def read(hostler: Hostler, metric: str, namespace: str = "AWS/SageMaker", **more: str) -> tuple[Minutes, Minutes]:
    """The sums and the numbers of a metric's values, by minute."""
    now = datetime.now(UTC)
    points = hostler.client("cloudwatch").get_metric_statistics(
        Namespace=namespace,
        MetricName=metric,
        Dimensions=[{"Name": name, "Value": value} for name, value in {**DIMENSIONS, **more}.items()],
        StartTime=now - timedelta(minutes=30),
        EndTime=now + timedelta(minutes=2),
        Period=60,
        Statistics=["Sum", "SampleCount"],
    )["Datapoints"]
    return {p["Timestamp"]: p["Sum"] for p in points}, {p["Timestamp"]: p["SampleCount"] for p in points}


def of_target(target: str) -> Callable[[Line], float | None]:
    return lambda line: 1 if line["target"] == target else None


EXPECTED: dict[str, Callable[[Line], float | None]] = {
    "Invocations": lambda line: 1,
    "Invocation4XXErrors": lambda line: 400 <= line["model_status"] < 500,
    "Invocation5XXErrors": lambda line: line["error"] == "ModelError" and not 400 <= line["model_status"] < 500,
    "InvocationModelErrors": lambda line: line["error"] == "ModelError",
    "ModelLatency": lambda line: round(line["model_ms"] * 1000),
    "OverheadLatency": lambda line: round(line["ms"] * 1000) - round(line["model_ms"] * 1000),
    "ModelLoadingWaitTime": lambda line: round(line["wait_ms"] * 1000),
    "ModelCacheHit": lambda line: line["cache"] == "hit",
    "InvocationsPerInstance": lambda line: 1 / line["instances"],
}


@pytest.mark.parametrize(
    ("calls", "seconds"), [(1200, 3.0), pytest.param(20_000, 180.0, marks=pytest.mark.slow)], ids=["short", "long"]
)
def test_the_sums_of_the_minutes_are_those_of_the_access_log_whoever_is_killed(
    tmp_path: Path, calls: int, seconds: float
) -> None:
    """Of three gateways, one is killed under load; and control, twice."""
    with hostler_up(tmp_path, gateways=3) as hostler:
        for number in range(TARGETS):
            hostler.put(f"metrics/{number}.tar.gz", targets.xgboost_target(number))
        hostler.create_endpoint("metrics", count=2)
        events: dict[int, Callable[[], None]] = {
            calls // 4: lambda: hostler.control.kill(),
            calls // 2: lambda: hostler.gateways[0].kill(),
            calls * 3 // 4: lambda: hostler.control.kill(),
        }
        answered = asyncio.run(load(hostler.url, calls, seconds, events))
        assert calls - 2 * CALLERS <= answered <= calls
        eventually(lambda: len(hostler.gateways) == 3, 60, "there are three gateways again")

        def at_rest() -> tuple[list[Line], dict[str, tuple[Minutes, Minutes]]] | None:
            """Return the log and the metrics of one moment: no line came while they were read, and all are added."""
            log = [*lines(hostler)]
            metrics = {metric: read(hostler, metric) for metric in EXPECTED}
            for target in of_targets:
                metrics[target] = read(hostler, "Invocations", "hostler/Targets", TargetModel=target)
            still = log == [*lines(hostler)] and metrics["Invocations"] == logged(log, EXPECTED["Invocations"])
            return (log, metrics) if still else None

        of_targets = {f"{number}.tar.gz": of_target(f"{number}.tar.gz") for number in range(TARGETS)}
        log, metrics = eventually(at_rest, 60, "the metrics are those of the log")
        for metric, value in {**EXPECTED, **of_targets}.items():
            sums, counts = logged(log, value)
            if metric == "InvocationsPerInstance":  # thirds have no last digit
                sums = {at: pytest.approx(sum) for at, sum in sums.items()}
            assert metrics[metric] == (sums, counts), metric
        assert answered - 3 * 256 <= len(log) <= calls  # the killed gateway had not written what it answered last


def test_control_has_metrics_of_loads_and_of_what_instances_use(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        for number in range(TARGETS):
            hostler.put(f"metrics/{number}.tar.gz", targets.xgboost_target(number))
        hostler.create_endpoint("metrics", count=2)
        for number in range(TARGETS):
            hostler.invoke("metrics", f"{number}.tar.gz")
        for metric in ("ModelDownloadingTime", "ModelLoadingTime"):
            sums, counts = read(hostler, metric)
            assert sum(counts.values()) == TARGETS
            assert sum(sums.values()) > 0
            _, of_one = read(hostler, metric, "hostler/Targets", TargetModel="1.tar.gz")
            assert sum(of_one.values()) == 1
        for metric in ("LoadedModelCount", "MemoryUtilization", "DiskUtilization"):
            sums, counts = read(hostler, metric, "/aws/sagemaker/Endpoints")
            assert set(counts.values()) == {2.0}, metric
            assert all(0 <= value <= 200 for value in sums.values()), metric  # no target: sampled before the calls
