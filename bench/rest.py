"""What hostler costs when nobody asks: `python bench/rest.py [--starts 5] [--seconds 20]`.

The time from `hostler up` to ready and to a first endpoint, and of each process, at rest with no endpoint and with one:
memory (RSS, and PSS, where what processes share is counted once), CPU of one core, wake-ups (voluntary context
switches), threads, open files. All are read from /proc; nothing is asserted. `bench/run.py --publish` takes the newest
run's figures along.
"""

from __future__ import annotations

import statistics
import sys
import tempfile
import time
from dataclasses import dataclass, fields
from pathlib import Path

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import targets
from running import Hostler, hostler_up

import arguments
import measurement
import processes
import report
import verdicts

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
    parser = arguments.parser(__doc__)
    parser.add_argument("--starts", type=arguments.positive, default=5, help="of which times are taken")
    parser.add_argument("--seconds", type=arguments.positive_float, default=20.0, help="over which CPU is taken")
    parser.add_argument(
        "--cache", type=Path, default=arguments.CACHE, help="folder that keeps the figures, in `results`"
    )
    options = parser.parse_args()
    about = measurement.about()
    ready, in_service, served = [], [], []
    with tempfile.TemporaryDirectory() as folder:
        for number in range(options.starts):
            with hostler_up(Path(folder) / str(number)) as hostler:
                ready.append(hostler.ready_after)
                times = _first_answer(hostler)
                in_service.append(hostler.ready_after + times[0])
                served.append(hostler.ready_after + times[1])
        with hostler_up(Path(folder) / "rest") as hostler:
            time.sleep(SETTLED)
            alone = _rest(hostler, options.seconds)
            _first_answer(hostler)
            time.sleep(SETTLED)
            serving = _rest(hostler, options.seconds)
    house = _together(alone)
    goals = [
        verdicts.HEAD,
        verdicts.row("seconds until hostler up is ready", statistics.median(ready), READY, most=True),
        verdicts.row("host, control and gateway at rest, no endpoint: MB of RSS", house.rss, MEMORY, most=True),
        verdicts.row("their CPU, % of a core", house.cpu, CPU, most=True),
    ]
    tables = {
        "seconds from the start": [
            ["until", "median", "least", "most"],
            _times("hostler up is ready", ready),
            _times("an endpoint, created at once, is InService", in_service),
            _times("its first target has answered", served),
        ],
        "at rest, no endpoint": _table(alone),
        "at rest, one endpoint of one instance, a target resident": _table(serving),
    }
    for title, rows in tables.items():
        print(report.aligned(title, rows))
    print(report.aligned("goals", goals))
    command = f"bench/rest.py --starts {options.starts} --seconds {options.seconds:g}"
    done = measurement.Measurement("When nobody asks", command, about, goals, tables)
    print(f"\nkept: {done.write('rest', options.cache.expanduser() / 'results')}")


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
        pids |= {process.pid: "container", **{child.pid: "its fork server" for child in process.children()}}
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
    return sorted(found, key=lambda one: [*HOUSE, "zygote", "container", "its fork server", "other"].index(one.role))


def _times(name: str, taken: list[float]) -> list[str]:
    return [name, *(f"{seconds:.2f}" for seconds in (statistics.median(taken), min(taken), max(taken)))]


def _together(found: list[Resting]) -> Resting:
    house = [one for one in found if one.role in HOUSE]
    sums = {field.name: sum(getattr(one, field.name) for one in house) for field in fields(Resting)[1:]}
    return Resting("host, control and gateway", **sums)


def _table(found: list[Resting]) -> measurement.Rows:
    rows = [["process", "RSS MB", "PSS MB", "CPU %", "wakes/s", "threads", "files"]]
    for one in (*found, _together(found)):
        figures = [f"{one.rss:.1f}", f"{one.pss:.1f}", f"{one.cpu:.2f}", f"{one.wakes:.1f}"]
        rows.append([one.role, *figures, f"{one.threads}", f"{one.files}"])
    return rows


if __name__ == "__main__":
    main()
