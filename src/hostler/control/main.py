"""`python -m hostler.control.main`: the control process. It wires the parts together and owns nothing else."""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import importlib.util
import json
import logging
import signal
import sys
import time
from collections.abc import Sequence
from functools import partial
from pathlib import Path

import uvicorn
import uvloop

from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.empty_source import EmptySource
from hostler.artifacts.source import EmbeddedSource, FileSource, ObstoreSource, Source
from hostler.control import leaving
from hostler.control.app import create_app
from hostler.control.collection.collector import Collector
from hostler.control.collection.invocation_points import TARGETS
from hostler.control.context import Context
from hostler.control.metrics import render
from hostler.engines.both import Both
from hostler.engines.docker import inside
from hostler.engines.docker.opening import open_docker
from hostler.engines.host_client import HostClient
from hostler.engines.process import ProcessEngine
from hostler.engines.rooms import Rooms
from hostler.errors import UserError
from hostler.hosting.fault_decisions import FaultDecisions
from hostler.hosting.faults import Faults
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.gateway_reports import GatewayReports
from hostler.hosting.metrics import Metrics
from hostler.hosting.platform import Platform
from hostler.hosting.reconciler import Reconciler
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.hosting.usage import Usage
from hostler.processes import lifeline
from hostler.s3.app import s3_app
from hostler.s3.redirect import redirect_app
from hostler.settings import Settings, restore
from hostler.store.metric_store import MetricStore
from hostler.store.store import Store
from hostler.store.thread import StoreThread
from hostler.wire.door import Door, UnixDoor


def main() -> None:
    faulthandler.enable()  # a crash in native code leaves its traceback on stderr
    parser = argparse.ArgumentParser(prog="hostler.control.main")
    parser.add_argument("--run", type=Path, required=True, help="the run folder")
    parser.add_argument("--lifeline", type=int, required=True, help="read end of the host's pipe")
    arguments = parser.parse_args()
    lifeline.leave_with(arguments.lifeline)
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    logging.getLogger("uvicorn").setLevel(logging.WARNING)
    settings = restore(json.loads((arguments.run / "settings.json").read_text()))
    try:
        uvloop.run(control(arguments.run, settings))
    except UserError as error:
        print(f"hostler: {error}", file=sys.stderr)
        sys.exit(2)


async def control(run: Path, settings: Settings) -> None:
    """Serve the API and reconcile until SIGTERM or SIGINT; containers keep running, unless hostler ends."""
    stop = asyncio.Event()
    if leaving.grace(run) is not None:  # this is the last control, which only ends what runs
        stop.set()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    store = Store(settings.data / "hostler.db")
    store_thread = StoreThread(store)
    metric_store = MetricStore(settings.data / "metrics.db", settings.metrics_budget, time.time, least=TARGETS)
    metric_thread = StoreThread(metric_store, "metrics")
    source = _source(settings)
    limits = ArchiveLimits(settings.archive_max_bytes, settings.archive_max_files, settings.archive_max_ratio)
    cache = ArtifactCache(settings.data / "artifacts", source, settings.disk_budget, limits)
    host = HostClient(run)
    rooms = Rooms(settings, cache)
    in_container = bool(inside.own_container())
    engine = Both(ProcessEngine(host, rooms), rooms, partial(open_docker, rooms), inside=in_container)
    metrics = Metrics()
    gateways = Gateways(expected=settings.gateways)
    faults = Faults(gateways)
    wakeup = asyncio.Event()
    runtimes = RuntimeRegistry(settings, gateways, metrics, faults, engine.pooled, changed=wakeup.set)
    reconciler = Reconciler(
        store=store,
        store_thread=store_thread,
        platform=Platform(settings, engine, rooms.logs, metrics, changed=wakeup.set),
        gateways=gateways,
        runtimes=runtimes,
        faults=faults,
        end_gateway=host.end_gateway,
        wakeup=wakeup,
    )
    usage = Usage(reconciler.instances, runtimes, settings.data)
    collector = Collector(settings.data / "metrics", metric_store, metric_thread, metrics, usage, time.time)
    context = Context(
        settings=settings,
        store=store,
        store_thread=store_thread,
        metric_store=metric_store,
        metric_thread=metric_thread,
        collect_metrics=collector.collect,
        lifecycle=reconciler,
        logs=rooms.logs,
        source=source,
        metrics=lambda: render(metrics, reconciler),
        s3=redirect_app(settings.s3_url) if settings.s3_endpoint else s3_app(settings.data / "s3"),
        faults=faults,
        ready=lambda: reconciler.ready and bool(gateways.linked),
        clock=time.time,
        refused_labels=partial(_refused_labels, settings),
    )
    decisions = FaultDecisions(faults, gateways, reconciler.instances, runtimes, reconciler.passed)
    reports = GatewayReports(runtimes, reconciler.instances, decisions, wakeup.set)
    door = Door({"gateway": gateways.entrance(reports.receive, reports.unlinked)})
    await door.serve(f"unix:{run / 'link.sock'}", UnixDoor())
    server = _Server(
        stop,
        uvicorn.Config(
            create_app(context),
            uds=_free(run / "control.sock"),
            log_config=None,
            access_log=False,
            lifespan="off",
            http="httptools",
            timeout_keep_alive=75,
            server_header=False,
        ),
    )
    serving = asyncio.create_task(server._serve())
    reconciling = asyncio.create_task(reconciler.run())
    collecting = asyncio.create_task(collector.run())
    watching = asyncio.create_task(rooms.logs.watch())
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([serving, reconciling, stopping], return_when=asyncio.FIRST_COMPLETED)
    stop.set()
    reconciling.cancel()
    watching.cancel()
    collecting.cancel()
    door.close()
    await asyncio.gather(serving, reconciling, collecting, watching, return_exceptions=True)
    await collector.close()
    await leaving.leave(run, engine)
    await engine.close()
    await cache.close()
    host.close()
    metric_thread.close()
    store_thread.close()


class _Server(uvicorn.Server):
    """A server that runs until `stop` is set. Uvicorn's own loop polls for that ten times a second.

    `main_loop`, and `_serve` above, are internals of uvicorn: read them again before its version is changed.
    """

    def __init__(self, stop: asyncio.Event, config: uvicorn.Config) -> None:
        super().__init__(config)
        self._stop = stop

    async def main_loop(self) -> None:
        while not self._stop.is_set():
            await self.on_tick(0)  # it sets the Date of responses
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._stop.wait(), 1.0)


async def _refused_labels(settings: Settings, containers: Sequence[tuple[str, bool]]) -> str:
    if not settings.strict_labels or not importlib.util.find_spec("aiodocker"):
        return ""
    from hostler.engines.docker import strict_labels  # imported here, because it loads Docker's client

    return await strict_labels.refusal(settings, containers)


def _source(settings: Settings) -> Source:
    if settings.canned_answers:
        return EmptySource()
    s3 = ObstoreSource(settings.s3_endpoint) if settings.s3_endpoint else EmbeddedSource(settings.data / "s3")
    return FileSource(settings.file_root, s3)


def _free(path: Path) -> str:
    """Remove the socket of an earlier control; return the path as text."""
    path.unlink(missing_ok=True)
    return str(path)


if __name__ == "__main__":
    main()
