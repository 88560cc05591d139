"""`python -m hostler.control.main`: the control process. It wires the parts together and owns nothing else."""

from __future__ import annotations

import argparse
import asyncio
import faulthandler
import gc
import importlib.util
import json
import logging
import secrets
import signal
import sys
import time
from collections.abc import Callable, Sequence
from functools import partial
from pathlib import Path

import uvloop

from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.empty_source import EmptySource
from hostler.artifacts.source import EmbeddedSource, FileSource, ObstoreSource, Source
from hostler.control import leaving, listeners
from hostler.control.app import create_app
from hostler.control.collection import remote_journals
from hostler.control.collection.collector import Collector
from hostler.control.collection.invocation_points import TARGETS
from hostler.control.context import Context
from hostler.control.metrics import metrics_app, render
from hostler.control.network_api import guarded
from hostler.control.station import Open, Station
from hostler.engines.both import Both
from hostler.engines.docker.opening import open_docker
from hostler.engines.host_client import HostClient
from hostler.engines.own_container import own_container
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
from hostler.store import lives
from hostler.store.lives import Life
from hostler.store.metric_store import MetricStore
from hostler.store.store import Store
from hostler.store.thread import StoreThread
from hostler.wire.door import Door, Enter, Role, StaticTokenDoor

# Of Python's collector: a pass of the reconciler makes several objects for each instance, which live until its end.
GARBAGE = (10_000, 20, 50)


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
        uvloop.run(control(settings, partial(_under_host, arguments.run), leaving.grace(arguments.run) is not None))
    except UserError as error:
        print(f"hostler: {error}", file=sys.stderr)
        sys.exit(2)


async def _under_host(run: Path, rooms: Rooms, life: Life, changed: Callable[[], None]) -> Station:
    """Return the station of a control whose host is on this machine."""
    settings = rooms.settings
    host = HostClient(run)
    in_container = bool(own_container())
    engine = Both(ProcessEngine(host, rooms), rooms, partial(open_docker, rooms), inside=in_container)
    gateways = [f"g{number + 1}" for number in range(max(1, settings.gateways))]

    async def leave() -> None:
        await leaving.leave(run, engine)
        await engine.close()
        host.close()

    doorman = StaticTokenDoor(Path(settings.link_tokens)) if settings.link_tokens else None
    return Station(engine, gateways.copy, host.end_gateway, leave, run, doorman, needs_gateway=True)


async def control(settings: Settings, open_station: Open, last: bool = False) -> None:
    """Serve the API and reconcile until SIGTERM or SIGINT; containers keep running, unless hostler ends.

    `last`: hostler ends already, so this control only ends what runs. Raises UserError.
    """
    listeners.check(settings)
    stop = asyncio.Event()
    if last:
        stop.set()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)

    store = Store(settings.data / "hostler.db")
    life = lives.begin(store, time.time(), secrets.token_urlsafe(32))
    store_thread = StoreThread(store)
    metric_store = MetricStore(settings.data / "metrics.db", settings.metrics_budget, time.time, least=TARGETS)
    metric_thread = StoreThread(metric_store, "metrics")
    source = _source(settings)
    limits = ArchiveLimits(settings.archive_max_bytes, settings.archive_max_files, settings.archive_max_ratio)
    cache = ArtifactCache(settings.data / "artifacts", source, settings.disk_budget, limits)
    rooms = Rooms(settings, cache)
    wakeup = asyncio.Event()
    station = await open_station(rooms, life, wakeup.set)
    engine = station.engine
    metrics = Metrics()
    remote_api = listeners.bind(settings.api_listen, "the API")
    remote_metrics = listeners.bind(settings.metrics_listen, "the metrics")
    gateways = Gateways(station.roster, life.term, remote_api.address if remote_api else "", life.passkey)
    faults = Faults(gateways)
    runtimes = RuntimeRegistry(settings, gateways, metrics, faults, engine.pooled, changed=wakeup.set)
    reconciler = Reconciler(
        store=store,
        store_thread=store_thread,
        platform=Platform(settings, engine, rooms.logs, metrics, changed=wakeup.set),
        gateways=gateways,
        runtimes=runtimes,
        faults=faults,
        end_gateway=station.end_gateway,
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
        ready=lambda: reconciler.ready and (bool(gateways.linked) or not station.needs_gateway),
        clock=time.time,
        refused_labels=partial(_refused_labels, settings),
        admits_agent=station.agents.admits if station.agents else lambda _: False,
    )
    decisions = FaultDecisions(faults, gateways, reconciler.instances, runtimes, reconciler.passed)
    keep = partial(remote_journals.keep, settings.data / "metrics")
    reports = GatewayReports(runtimes, reconciler.instances, decisions, wakeup.set, keep, gateways.tell)
    roles: dict[Role, Enter] = {"gateway": gateways.entrance(reports.receive, reports.unlinked)}
    agents = station.agents
    if agents is not None:
        roles["agent"] = agents.accept
    door = Door(roles, lambda knock: knock.role != "agent" or agents is None or agents.expects(knock.name))
    await listeners.open_door(settings, station, door)
    app = create_app(context)
    others = [(remote_api, guarded(app, life.passkey)), (remote_metrics, metrics_app(context.metrics))]
    serving = asyncio.create_task(listeners.serve(stop, settings, app, station.run, others))
    gc.set_threshold(*GARBAGE)
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
    await station.leave()
    await cache.close()
    metric_thread.close()
    store_thread.close()


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


if __name__ == "__main__":
    main()
