"""How hostler behaves with many pods: `python bench/many_pods.py [--pods 100,1000,10000] [--gateways 2]`.

One control with the real reconciler, store, door and gateways' link; real ends of that link and routes in processes of
their own; and an engine that is a table, so that nothing of Kubernetes is measured: what a pod costs hostler itself. A
process answers the pings of all pods, each of which has an address of the loopback of its own.

For each number of pods, in endpoints of --each instances:

- start: seconds from the wish for all endpoints to the last route at every gateway, and control's CPU;
- rest: the time of a pass, CPU and memory of control, how late its loop is at worst, CPU and memory of a gateway;
- change: seconds from the end of one pod until no gateway has it in a route, and until its replacement is there;
- node: the same when a hundredth of all pods end at once;
- restart: seconds until another control has taken all pods over, and may publish.

The tables of the data folder are written to a disk. One machine holds all of it: figures of many pods are too high,
where the processes contend for its processors.
"""

from __future__ import annotations

import asyncio
import contextlib
import gc
import logging
import os
import resource
import secrets
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncIterator, Callable, Iterator
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests/model"))

import fakes
import msgspec
import uvloop

import arguments
import processes
from hostler.control.main import GARBAGE
from hostler.engines.engine import ContainerReport, InstanceLaunch, InstanceReport
from hostler.engines.fake import FakeEngine
from hostler.gateway.control_link import ControlLink
from hostler.gateway.counters import Counters
from hostler.gateway.faults import FaultScopes
from hostler.gateway.pending import PendingRequests
from hostler.gateway.routes import Routes
from hostler.gateway.snapshot_file import SnapshotFile
from hostler.settings import Settings
from hostler.wire import gateway_messages
from hostler.wire.door import Way
from hostler.wire.http_server import serve

REGION = "us-east-1"
REST = 20.0  # seconds of measurement
CHANGES = 10
LAST = 900.0  # seconds after which a phase has failed
IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/theirs:1"


class Table(FakeEngine):
    """An engine whose pods are entries, without folders. It sees a change at once, as a watch does."""

    def __init__(self, port: int) -> None:
        super().__init__()
        self._port = port
        self._pods: dict[str, InstanceReport] = {}
        self._launches: dict[str, InstanceLaunch] = {}
        self._number = 0

    def end_pod(self, id: str) -> None:
        """A pod ends, by a signal that others send."""
        pod = self._pods[id]
        ended = tuple(msgspec.structs.replace(container, exit=-9) for container in pod.containers)
        self._pods[id] = msgspec.structs.replace(pod, containers=ended)
        self._change.set()

    async def prepare(self, launch: InstanceLaunch) -> tuple[Any, ...]:
        self._launches[launch.id] = launch
        return tuple(None for _ in launch.containers)

    async def start(self, id: str) -> InstanceReport:
        if id not in self._pods:
            self._number += 1
            host = f"127.{1 + (self._number >> 16)}.{self._number >> 8 & 255}.{self._number & 255}"
            launch = self._launches[id]
            containers = tuple(
                ContainerReport(f"tcp:{host}:{self._port}", engine="kubernetes", image=each.image)
                for each in launch.containers
            )
            self._pods[id] = InstanceReport(id, launch.labels, containers)
            self._change.set()
        return self._pods[id]

    async def stop(self, id: str, grace: float) -> None:
        self._pods.pop(id, None)
        self._launches.pop(id, None)
        self._change.set()

    async def list(self) -> list[InstanceReport]:
        return [*self._pods.values()]


# --- the other processes ------------------------------------------------------------------------------------------


async def answer_pings() -> None:
    """Print the port, and answer every request with 200."""
    server = await serve(lambda request: request.answer(200), sock=_everywhere())
    print(server.port, flush=True)
    await asyncio.Event().wait()


def _everywhere() -> Any:
    import socket

    return socket.create_server(("0.0.0.0", 0), backlog=4096)


async def link(path: str, name: str) -> None:
    """Be a gateway that nobody calls."""
    counters = Counters()
    routes = Routes(counters)
    counts: Callable[[], gateway_messages.Counts] = lambda: gateway_messages.Counts(counters.sums(), 0, 0)  # noqa: E731
    await ControlLink(
        Way(f"unix:{path}"),
        name,
        routes,
        PendingRequests(1000),
        counts,
        FaultScopes(lambda some: None),
        SnapshotFile(Path(f"{path}.{name}")),
    ).run()


@contextlib.contextmanager
def another(*words: str) -> Iterator[subprocess.Popen[str]]:
    """Run this program as another process."""
    process = subprocess.Popen([sys.executable, __file__, *words], stdout=subprocess.PIPE, text=True)
    try:
        yield process
    finally:
        process.kill()
        process.wait()


# --- the measurement ----------------------------------------------------------------------------------------------


class Control(fakes.Control):
    """A control whose passes are timed."""

    def __init__(self, folder: Path, table: Table, gateways: int) -> None:
        settings = Settings(data=folder, startup_timeout=LAST)
        names = [f"g{number}" for number in range(gateways)]
        super().__init__(settings, table.connect, self._ends_no_gateway, roster=lambda: names)
        self.passes: list[float] = []  # seconds of each
        self.cpu: list[float] = []  # of a processor, that their thread used
        make = self.reconciler._pass

        async def timed() -> float | None:
            began, used = time.perf_counter(), time.thread_time()
            try:
                return await make()
            finally:
                self.passes.append(time.perf_counter() - began)
                self.cpu.append(time.thread_time() - used)

        self.reconciler._pass = timed  # type: ignore[method-assign]

    async def end(self) -> None:
        """End it as its process's death does: first its links."""
        self.door.close()
        for gateway in self.gateways.linked:
            gateway.frames.abort()
        await until(lambda: not self.gateways.linked)
        await self.die()

    async def _ends_no_gateway(self, name: str) -> None:
        raise AssertionError("a gateway was silent for too long")

    def routed(self) -> int:
        """The number of instances that are in a route which every gateway has."""
        return sum(len(ids) for key, ids in self.gateways._routed.items() if self.gateways.in_force(key))

    def want(self, endpoints: int, each: int) -> None:
        for number in range(endpoints):
            name = f"endpoint-{number}"
            variant = {"VariantName": "all", "ModelName": "m", "InstanceType": "ml.m5.large"}
            self.store.create_endpoint(
                region=REGION,
                name=name,
                arn=f"arn:aws:sagemaker:{REGION}:123456789012:endpoint/{name}",
                created=time.time(),
                document={"EndpointName": name, "EndpointConfigName": name},
                config={
                    "EndpointConfigName": name,
                    "ProductionVariants": [{**variant, "InitialInstanceCount": each}],
                },
                models={"m": {"ModelName": "m", "PrimaryContainer": {"Image": IMAGE}}},
                new_tags={},
            )


class Figures:
    """Rows of a table that grows."""

    def __init__(self) -> None:
        self.rows: list[tuple[str, str]] = []

    def add(self, name: str, value: str) -> None:
        self.rows.append((name, value))
        print(f"  {name:44} {value}", flush=True)


async def until(true: Callable[[], bool], pause: float = 0.01) -> float:
    """Return the seconds until it is true."""
    began = time.perf_counter()
    while not true():
        assert time.perf_counter() - began < LAST, "it takes too long"
        await asyncio.sleep(pause)
    return time.perf_counter() - began


def own_cpu() -> float:
    used = resource.getrusage(resource.RUSAGE_SELF)
    return used.ru_utime + used.ru_stime


@contextlib.asynccontextmanager
async def lateness() -> AsyncIterator[list[float]]:
    """Yield a list of how late the loop was, in seconds."""
    late: list[float] = []

    async def watch() -> None:
        while True:
            began = time.perf_counter()
            await asyncio.sleep(0.02)
            late.append(time.perf_counter() - began - 0.02)

    task = asyncio.create_task(watch())
    try:
        yield late
    finally:
        task.cancel()


async def measure(pods: int, each: int, gateways: int, folder: Path, port: int) -> None:
    """Print all figures of a number of pods."""
    table, path, figures = Table(port), folder / "link.sock", Figures()
    control = Control(folder, table, gateways)
    await control.begin(path)
    with contextlib.ExitStack() as stack:
        linked = [stack.enter_context(another("--link", str(path), f"g{n}")) for n in range(gateways)]
        await until(lambda: len(control.gateways.linked) == gateways)
        memory = processes.memory(os.getpid())
        # start
        await control.store_thread.call(control.want, pods // each, each)
        cpu, control.passes = own_cpu(), []
        control.wakeup.set()
        async with lateness() as late:
            took = await until(lambda: control.routed() == pods, 0.05)
        figures.add("start: seconds until all are in routes", f"{took:.1f} ({own_cpu() - cpu:.1f} of CPU)")
        figures.add("start: passes, the longest", f"{len(control.passes)}, {1e3 * max(control.passes):.0f} ms")
        figures.add("start: the loop's worst lateness", f"{1e3 * max(late):.0f} ms")
        await asyncio.sleep(5.0)
        # rest
        cpu, of_gateway, control.passes, control.cpu = own_cpu(), processes.cpu(linked[0].pid), [], []
        async with lateness() as late:
            await asyncio.sleep(REST)
        figures.add("rest: a pass, median and longest", _milliseconds(control.passes))
        figures.add("rest: CPU of a pass, median and longest", _milliseconds(control.cpu))
        figures.add("rest: control's CPU", f"{100 * (own_cpu() - cpu) / REST:.1f} % of a processor")
        figures.add("rest: the loop's lateness, 99 % and worst", _lateness(late))
        figures.add("rest: control's memory for these pods", f"{(processes.memory(os.getpid()) - memory) >> 20} MB")
        figures.add("rest: a gateway's CPU", f"{100 * (processes.cpu(linked[0].pid) - of_gateway) / REST:.1f} %")
        figures.add("rest: a gateway's memory", f"{processes.memory(linked[0].pid) >> 20} MB")
        # change
        for name, count, rounds in (("change", 1, CHANGES), ("node", max(1, pods // 100), 3)):
            out, back = [], []
            for turn in range(rounds):
                ids = [*table._pods][turn * count : (turn + 1) * count]
                began = time.perf_counter()
                for id in ids:
                    table.end_pod(id)
                await until(lambda ids=ids: not _have(control, ids), 0.001)  # type: ignore[misc]
                out.append(time.perf_counter() - began)
                await until(lambda: control.routed() == pods, 0.02)
                back.append(time.perf_counter() - began)
            figures.add(f"{name}: {count} out of the routes, median, worst", _milliseconds(out))
            figures.add(f"{name}: replaced, median, worst", _milliseconds(back))
        # restart
        await control.end()
        control = Control(folder, table, gateways)
        await control.begin(path)
        took = await until(lambda: control.reconciler.ready and control.routed() == pods, 0.05)
        figures.add("restart: seconds until all are in routes", f"{took:.1f}")
        await control.end()


def _have(control: Control, ids: list[str]) -> bool:
    """Whether a gateway may have one of these in a route."""
    gone = {id.partition(".")[0] for id in ids}
    for key, route in control.gateways.routes.items():
        instances = route.instances()
        if any(id in instances for id in ids):
            return True
        if any(id.partition(".")[0] in gone for id in instances) and not control.gateways.in_force(key):
            return True
    return False


def _milliseconds(seconds: list[float]) -> str:
    return f"{1e3 * statistics.median(seconds):.1f} ms, {1e3 * max(seconds):.1f} ms"


def _lateness(late: list[float]) -> str:
    late = sorted(late)
    return f"{1e3 * late[int(len(late) * 0.99)]:.0f} ms, {1e3 * late[-1]:.0f} ms"


def main() -> None:
    if sys.argv[1:2] == ["--answer-pings"]:
        uvloop.run(answer_pings())
    elif sys.argv[1:2] == ["--link"]:
        uvloop.run(link(*sys.argv[2:4]))
    parser = arguments.parser(__doc__)
    parser.add_argument("--pods", type=arguments.positive_list, default=[100, 1000, 10_000], help="numbers of pods")
    parser.add_argument("--each", type=arguments.positive, default=2, help="instances of an endpoint")
    parser.add_argument("--gateways", type=arguments.positive, default=2, help="that are linked")
    given = parser.parse_args()
    logging.basicConfig(level=logging.WARNING, format="  %(message)s")
    logging.getLogger("hostler.instance").disabled = True  # the measurement itself ends them
    gc.set_threshold(*GARBAGE)
    _, most = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (most, most))
    with another("--answer-pings") as pinged:
        assert pinged.stdout
        port = int(pinged.stdout.readline())
        for pods in given.pods:
            with tempfile.TemporaryDirectory(prefix=f"pods-{secrets.token_hex(2)}-") as folder:
                print(f"{pods} pods, {pods // given.each} endpoints, {given.gateways} gateways", flush=True)
                uvloop.run(measure(pods, given.each, given.gateways, Path(folder), port))


if __name__ == "__main__":
    main()
