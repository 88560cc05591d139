"""The cost of hostler at rest: `python bench/rest.py [--starts 5] [--seconds 20]`.

The time from `hostler up` to ready and to a first endpoint, and for each process, at rest without an endpoint and with
one: memory (RSS, and PSS, which counts shared memory once), CPU of one core, wake-ups (voluntary context switches),
threads, open files. All are read from /proc; nothing is asserted. `bench/run.py --publish` includes the newest run's
figures.
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
INSTALLATION = ("host", "control", "gateway")
SETTLED = 10.0  # seconds after which all work of a start has ended
MODULES = {"hostler.control.main": "control", "hostler.gateway.main": "gateway", "hostler.host.zygote": "zygote"}


@dataclass(frozen=True)
class ProcessAtRest:
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
    parser.add_argument("--starts", type=arguments.positive, default=5, help="starts that are timed")
    parser.add_argument("--seconds", type=arguments.positive_float, default=20.0, help="over which CPU is measured")
    parser.add_argument("--cache", type=Path, default=arguments.CACHE, help="folder for the figures, in `results`")
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
    together = _together(alone)
    goals = [
        verdicts.HEAD,
        verdicts.row("seconds until hostler up is ready", statistics.median(ready), READY, at_most=True),
        verdicts.row("host, control and gateway at rest, no endpoint: MB of RSS", together.rss, MEMORY, at_most=True),
        verdicts.row("their CPU, % of a core", together.cpu, CPU, at_most=True),
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
    result = measurement.Measurement("When nobody asks", command, about, goals, tables)
    print(f"\nwritten: {result.write('rest', options.cache.expanduser() / 'results')}")


def _first_answer(hostler: Hostler) -> tuple[float, float]:
    """Return seconds from the call that creates an endpoint until InService, and until a target's first answer."""
    hostler.put("rest/0.tar.gz", targets.xgboost_target(0))
    _ = hostler.sm, hostler.runtime  # made first: boto3's clients take longer than an endpoint
    begun = time.monotonic()
    hostler.create_endpoint("rest")
    in_service = time.monotonic() - begun
    assert targets.number(hostler.invoke("rest", "0.tar.gz")) == 0
    return in_service, time.monotonic() - begun


def _rest(hostler: Hostler, seconds: float) -> list[ProcessAtRest]:
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
    at_rest = [
        ProcessAtRest(
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
    return sorted(
        at_rest,
        key=lambda process: [*INSTALLATION, "zygote", "container", "its fork server", "other"].index(process.role),
    )


def _times(name: str, times: list[float]) -> list[str]:
    return [name, *(f"{seconds:.2f}" for seconds in (statistics.median(times), min(times), max(times)))]


def _together(at_rest: list[ProcessAtRest]) -> ProcessAtRest:
    summed = [process for process in at_rest if process.role in INSTALLATION]
    sums = {field.name: sum(getattr(process, field.name) for process in summed) for field in fields(ProcessAtRest)[1:]}
    return ProcessAtRest("host, control and gateway", **sums)


def _table(at_rest: list[ProcessAtRest]) -> measurement.Rows:
    rows = [["process", "RSS MB", "PSS MB", "CPU %", "wakes/s", "threads", "files"]]
    for process in (*at_rest, _together(at_rest)):
        figures = [f"{process.rss:.1f}", f"{process.pss:.1f}", f"{process.cpu:.2f}", f"{process.wakes:.1f}"]
        rows.append([process.role, *figures, f"{process.threads}", f"{process.files}"])
    return rows


if __name__ == "__main__":
    main()
