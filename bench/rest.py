"""What hostler costs when nobody asks: `python bench/rest.py [--starts 5] [--seconds 20]`.

The time from `hostler up` to ready and to a first endpoint, and of each process, at rest with no endpoint and with one:
memory (RSS, and PSS, where what processes share is counted once), CPU of one core, wake-ups (voluntary context
switches), threads, open files. All are read from /proc; nothing is asserted.
"""

from __future__ import annotations

import argparse
import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import targets
from running import Hostler, hostler_up

import processes

READY, MEMORY, CPU = 1.5, 150.0, 0.5  # the goals: seconds; MB of host, control and gateways; percent of a core
HOUSE = ("host", "control", "gateway")
SETTLED = 10.0  # seconds after which what a start leaves to be done is done
MODULES = {"hostler.control.main": "control", "hostler.gateway.main": "gateway", "hostler.host.zygote": "zygote"}


@dataclass(frozen=True)
class Resting:
    """A process at rest: memory in MB, CPU in percent of a core, wake-ups a second."""

    role: str
    rss: float
    pss: float
    cpu: float
    wakes: float
    threads: int
    files: int


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--starts", type=int, default=5)
    parser.add_argument("--seconds", type=float, default=20.0, help="over which CPU is taken")
    options = parser.parse_args()
    ready, in_service, served = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.starts):
            with hostler_up(Path(folder) / str(number)) as hostler:
                ready.append(hostler.ready_after)
                times = _first_answer(hostler)
                in_service.append(hostler.ready_after + times[0])
                served.append(hostler.ready_after + times[1])
        print(f"{'seconds':52}  median  least   most  goal")
        _print_times("hostler up is ready", ready, READY)
        _print_times("and an endpoint, created at once, is InService", in_service, None)
        _print_times("and its first target has answered", served, None)
        with hostler_up(Path(folder) / "rest") as hostler:
            time.sleep(SETTLED)
            _print_rest("no endpoint", _rest(hostler, options.seconds), goals=True)
            _first_answer(hostler)
            time.sleep(SETTLED)
            _print_rest("one endpoint of one instance, a target resident", _rest(hostler, options.seconds))


def _first_answer(hostler: Hostler) -> tuple[float, float]:
    """Seconds from the call that creates an endpoint until it is InService, and to the first answer of a target."""
    hostler.put("rest/0.tar.gz", targets.xgboost_target(0))
    _ = hostler.sm, hostler.runtime  # boto3's clients take longer to make than an endpoint
    begun = time.monotonic()
    hostler.create_endpoint("rest")
    in_service = time.monotonic() - begun
    assert targets.number(hostler.invoke("rest", "0.tar.gz")) == 0
    return in_service, time.monotonic() - begun


def _rest(hostler: Hostler, seconds: float) -> list[Resting]:
    pids = {hostler.host.pid: "host"}
    for process in hostler.processes():
        words = " ".join(process.cmdline())
        pids[process.pid] = next((role for module, role in MODULES.items() if module in words), "other")
    for process in hostler.containers:
        pids |= {process.pid: "container", **{child.pid: "its nursery" for child in process.children()}}
    cpu, wakes = ({pid: take(pid) for pid in pids} for take in (processes.cpu, processes.wakes))
    begun = time.monotonic()
    time.sleep(seconds)
    took = time.monotonic() - begun
    found = [
        Resting(
            role,
            processes.memory(pid, "Rss") / 1e6,
            processes.memory(pid, "Pss") / 1e6,
            100 * (processes.cpu(pid) - cpu[pid]) / took,
            (processes.wakes(pid) - wakes[pid]) / took,
            len([*Path(f"/proc/{pid}/task").iterdir()]),
            len([*Path(f"/proc/{pid}/fd").iterdir()]),
        )
        for pid, role in pids.items()
    ]
    return sorted(found, key=lambda one: [*HOUSE, "zygote", "container", "its nursery", "other"].index(one.role))


def _print_times(name: str, taken: list[float], goal: float | None) -> None:
    median = statistics.median(taken)
    verdict = "" if goal is None else f"{goal:g}  {_verdict(median <= goal)}"
    print(f"{name:52}  {median:6.2f} {min(taken):6.2f} {max(taken):6.2f}  {verdict}")


def _print_rest(title: str, found: list[Resting], goals: bool = False) -> None:
    print(f"\n{title:52}  RSS MB  PSS MB  CPU %  wakes/s  threads  files")
    house = [one for one in found if one.role in HOUSE]
    sums = {field.name: sum(getattr(one, field.name) for one in house) for field in fields(Resting)[1:]}
    total = Resting("host, control and gateway", **sums)
    for one in (*found, total):
        print(
            f"  {one.role:50}  {one.rss:6.1f}  {one.pss:6.1f}  {one.cpu:5.2f}  {one.wakes:7.1f}  {one.threads:7}"
            f"  {one.files:5}"
        )
    if goals:
        print(f"  goal: RSS {MEMORY:g} {_verdict(total.rss <= MEMORY)}, CPU {CPU:g} {_verdict(total.cpu <= CPU)}")


def _verdict(met: bool) -> str:
    return "met" if met else "MISSED"


if __name__ == "__main__":
    main()
