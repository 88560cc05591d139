"""`hostler control`: control without a host, in a cluster. What runs its instances is elsewhere, and outlives it."""

from __future__ import annotations

import faulthandler
import importlib.util
import logging
import signal
import sys
from collections.abc import Callable

import uvloop

from hostler.control import main
from hostler.control.station import Station
from hostler.engines.rooms import Rooms
from hostler.errors import EngineError, UserError
from hostler.settings import Settings
from hostler.store.lives import Life


def run(settings: Settings) -> None:
    """Serve until SIGTERM. The caller has locked the data folder. Raises UserError."""
    if settings.engine != "kubernetes":
        raise UserError("`hostler control` hosts in a cluster, with engine = kubernetes; on this machine: `hostler up`")
    if not settings.link_listen:
        raise UserError("`hostler control` needs link_listen and api_listen, such as tls:0.0.0.0:7700 and :7701")
    faulthandler.enable()
    logging.basicConfig(level=logging.INFO, stream=sys.stderr, format="%(asctime)s %(name)s %(message)s")
    for library in ("uvicorn", "httpx2"):  # that of Kubernetes' client names each request
        logging.getLogger(library).setLevel(logging.WARNING)
    uvloop.run(main.control(settings, open_station))


async def open_station(rooms: Rooms, life: Life, changed: Callable[[], None]) -> Station:
    """Return the station of a control in a cluster. Raises UserError."""
    if importlib.util.find_spec("lightkube") is None:
        raise UserError("engine = kubernetes needs the extra kubernetes: pip install 'hostler[kubernetes]'")
    from hostler.engines.kubernetes.opening import open_cluster  # imported here, because it loads Kubernetes' client

    try:
        cluster = await open_cluster(rooms.settings, rooms.logs, life.term, changed, _end)
    except EngineError as error:
        raise UserError(str(error)) from None
    return Station(
        cluster.engine,
        roster=cluster.gateways.names,
        end_gateway=_nobody,
        leave=cluster.close,
        doorman=cluster.doorman,
        agents=cluster.agents,
    )


def _end() -> None:
    """End this process as Kubernetes does."""
    signal.raise_signal(signal.SIGTERM)


async def _nobody(pid: int) -> None:
    """End no gateway: Kubernetes ends those that fail their probes."""
