"""Measure hostler's goals in seconds on this machine: `python bench/goals.py [--rounds N]`.

Prints the median and the range of each figure over the rounds; asserts nothing. Times are measured from outside: by the
client's clock, over AWS's API.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from collections import defaultdict
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import targets
from running import ANY_IMAGE, BUCKET, ROLE, Hostler, eventually, hostler_up

import arguments

GOALS = {  # measured time -> goal, seconds; None: only printed
    "hostler up is ready": 1.5,
    "two-instance multi-model endpoint InService after the create call": 2.0,
    "first call of a target (download, extract, load, answer)": None,
    "second call of it": None,
    "call of a resident target (median of 1,000, boto3)": None,
    "killed container replaced": 2.0,
    "a target that it held answers again": 2.0,
    "killed gateway: the next answer": 1.0,
    "killed control: a new target answers": None,
    "hostler up is ready on a folder with one endpoint": 2.0,
    "that endpoint answers again": None,
    "SIGTERM to the end of the last process": None,
}
Figures = defaultdict[str, list[float]]


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--rounds", type=arguments.positive, default=3, help="of all measurements")
    rounds = parser.parse_args().rounds
    figures: Figures = defaultdict(list)
    for _ in range(rounds):
        with tempfile.TemporaryDirectory() as folder:
            _measure(Path(folder), figures)
    width = max(map(len, GOALS))
    print(f"{'seconds':{width}}  {'median':>8}  {'least':>8}  {'most':>8}  goal")
    for name, goal in GOALS.items():
        times = figures[name]
        verdict = "" if goal is None else f"{goal:g}  {'met' if max(times) <= goal else 'MISSED'}"
        print(f"{name:{width}}  {statistics.median(times):8.4f}  {min(times):8.4f}  {max(times):8.4f}  {verdict}")


def _measure(folder: Path, figures: Figures) -> None:
    names = iter(GOALS)

    def add_time(begun: float) -> None:
        figures[next(names)].append(time.monotonic() - begun)

    with hostler_up(folder) as hostler:
        figures[next(names)].append(hostler.ready_after)
        for number in range(10):
            hostler.put(f"goals/{number}.tar.gz", targets.xgboost_target(number))
        add_time(_create(hostler))
        begun = time.monotonic()
        _call(hostler, 0)
        add_time(begun)
        begun = time.monotonic()
        _call(hostler, 0)
        add_time(begun)
        times = []
        for _ in range(1000):
            begun = time.monotonic()
            _call(hostler, 0)
            times.append(time.monotonic() - begun)
        figures[next(names)].append(statistics.median(times))

        container = _busier_container(hostler)
        begun = time.monotonic()
        container.kill()
        _until_answered(hostler, 0)
        answered = time.monotonic() - begun
        eventually(lambda: len(hostler.containers) == 2 and container not in hostler.containers, 30, "it is replaced")
        eventually(lambda: _instances(hostler) == 2, 30, "both count again")
        add_time(begun)
        figures[next(names)].append(answered)

        begun = time.monotonic()
        hostler.gateways[0].kill()
        _until_answered(hostler, 0)
        add_time(begun)
        begun = time.monotonic()
        hostler.control.kill()
        _until_answered(hostler, 1)
        add_time(begun)

        hostler.stop()
        again = Hostler(folder, {})
        try:
            again.start()
            figures[next(names)].append(again.ready_after)
            begun = time.monotonic() - again.ready_after
            _until_answered(again, 0)
            add_time(begun)
            begun = time.monotonic()
            again.stop()
            add_time(begun)
        finally:
            again.destroy()


def _create(hostler: Hostler) -> float:
    """Create a two-instance endpoint and wait until it is InService; return the time of the CreateEndpoint call."""
    container = {"Image": ANY_IMAGE, "ModelDataUrl": f"s3://{BUCKET}/goals/", "Mode": "MultiModel"}
    hostler.sm.create_model(ModelName="goals", ExecutionRoleArn=ROLE, Containers=[container])
    variant = {
        "VariantName": "AllTraffic", "ModelName": "goals", "InstanceType": "ml.m4.xlarge",
        "InitialInstanceCount": 2, "InitialVariantWeight": 1,
    }  # fmt: skip
    hostler.sm.create_endpoint_config(EndpointConfigName="goals", ProductionVariants=[variant])
    begun = time.monotonic()
    hostler.sm.create_endpoint(EndpointName="goals", EndpointConfigName="goals")
    hostler.wait_in_service("goals")
    return begun


def _call(hostler: Hostler, number: int) -> None:
    assert targets.number(hostler.invoke("goals", f"{number}.tar.gz")) == number


def _until_answered(hostler: Hostler, number: int) -> None:
    def answered() -> bool:
        try:
            _call(hostler, number)
        except Exception:  # connection lost, or no server yet
            return False
        return True

    eventually(answered, 60, f"target {number} answers")


def _busier_container(hostler: Hostler):
    """Return the container that serves target 0: as only that was called, the one with more CPU time."""
    return max(hostler.containers, key=lambda process: sum(process.cpu_times()[:2]))


def _instances(hostler: Hostler) -> int:
    description = hostler.sm.describe_endpoint(EndpointName="goals")
    return int(description["ProductionVariants"][0]["CurrentInstanceCount"])


if __name__ == "__main__":
    main()
