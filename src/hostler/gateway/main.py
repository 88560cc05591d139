"""The gateway process: `python -m hostler.gateway.main --run RUN --lifeline FD --listen FD --name NAME`.

It owns no state that outlives it: routes come over the link, requests over the sockets that the host bound: the port,
and that of `--aws-listen FD`, to which the proxy brings requests for AWS's host names.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import faulthandler
import gc
import json
import logging
import resource
import signal
import socket
import sys
from collections.abc import Callable
from functools import partial
from pathlib import Path
from random import Random

import msgspec

from hostler import settings
from hostler.aws.sigv4 import Verifier
from hostler.errors import UserError
from hostler.gateway import errors
from hostler.gateway.access_log import open_log
from hostler.gateway.auth import Authenticator
from hostler.gateway.beats import Beats
from hostler.gateway.control_link import ControlLink, News
from hostler.gateway.control_proxy import Passthrough
from hostler.gateway.counters import Counters
from hostler.gateway.dispatch import PLAIN, AwsHostCheck, Dispatcher, HostCheck
from hostler.gateway.faults import FaultScopes
from hostler.gateway.invoke.context import InvocationContext
from hostler.gateway.invoke.counting import count
from hostler.gateway.invoke.cut_calls import end_calls
from hostler.gateway.invoke.invoker import ROOM, Invoker
from hostler.gateway.invoke.outcome import Outcomes
from hostler.gateway.journal import Journal
from hostler.gateway.journal_sender import JournalSender
from hostler.gateway.pending import PendingRequests
from hostler.gateway.recorder import Recorder
from hostler.gateway.region import Regions
from hostler.gateway.routes import Routes
from hostler.gateway.snapshot_file import SnapshotFile
from hostler.processes import lifeline
from hostler.settings import Settings
from hostler.wire import gateway_messages
from hostler.wire.door import Way
from hostler.wire.http_client import BUFFER, ConnectionPool
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_request import Request
from hostler.wire.http_server import Server, serve
from hostler.wire.transport import CONNECT, beside

try:
    from uvloop import run as run_loop
except ImportError:  # not on every platform
    from asyncio import run as run_loop

log = logging.getLogger(__name__)

_FIRST_ROUTES = 5.0  # seconds to wait for control before the first connection is taken
_RECALL = 0.5  # seconds to wait for it, if routes are known from before
_AWAY = 30.0  # seconds that a request waits for a control on another machine, which may be restarting
_CONTROL_IDLE = 2.0  # seconds that a connection to control is kept; its server closes them after 5
_CLOSING_TIME = 0.5  # seconds that a caller's idle connection is kept when the gateway ends


class Gateway:
    """The parts of a gateway, wired together. `start` begins to serve, `stop` drains."""

    def __init__(
        self,
        run: Path,
        name: str,
        config: Settings,
        rng: Random | None = None,
        way: Way | None = None,
        process: int = 0,
    ) -> None:
        """`run`: the run folder, or the gateway's own. `way`: to a control on another machine, whose messages say where
        its API is; None: control's sockets are in the run folder. `process`: see ControlLink.
        """
        self.servers: list[Server] = []
        self.counters = Counters()
        self.beats = Beats(self.places_changed)
        routes, pending = Routes(self.counters, self.beats.watch), PendingRequests(ROOM)
        self.file = SnapshotFile(run / f"{name}.snapshot")
        self._way = way or Way(f"unix:{run / 'link.sock'}")
        self.link = ControlLink(
            self._way, name, routes, pending, self.counts, FaultScopes(self._meet_faults), self.file, process,
            self._take_news,
        )  # fmt: skip
        lines = open_log(config.access_logs / f"{name}.log", config.access_log)
        journals = config.data / "metrics"
        self.recorder = Recorder(lines, Journal(journals, name))
        self._sender = JournalSender(journals, name, self.link.send) if way else None
        self.outcomes = Outcomes(count, self.recorder.take)
        self.context = InvocationContext(
            routes, pending, self.link, ConnectionPool(), config.invoke_timeout, rng or Random(), self.outcomes
        )
        self.invoker = Invoker(self.context, Regions(config.region))
        if way is None:
            self.passthrough = Passthrough(ConnectionPool(idle_unix=_CONTROL_IDLE), f"unix:{run / 'control.sock'}")
        else:
            connections = ConnectionPool(connect_timeout=CONNECT, certificates=way.certificates)
            self.passthrough = Passthrough(connections, "", _AWAY)
        parts = (self.invoker, self.passthrough, self._own_page)
        self._dispatcher = Dispatcher(HostCheck((config.host, *config.allowed_hosts)), *parts)
        self._aws_dispatcher = Dispatcher(AwsHostCheck(), *parts)
        self._verifier = Verifier(settings.access_keys(config)) if config.signatures == "verify" else None
        self.handle, self.handle_aws = self._handler(self._dispatcher), self._handler(self._aws_dispatcher)
        self.tasks: list[asyncio.Task[None]] = []

    def _handler(self, dispatcher: Dispatcher) -> Callable[[Request], None]:
        """Return the handler of a listener."""
        if self._verifier is None:
            return dispatcher.handle
        return Authenticator(self._verifier, dispatcher.handle, self.invoker, ROOM).handle

    async def start(self, sock: socket.socket, aws: socket.socket | None = None) -> None:
        """Serve the listening sockets, once the routes have come: until then callers wait in their backlogs.

        Where control does not send them at once, those of an earlier process serve; over a network, where others can
        ask whether this gateway is ready, callers do not wait.
        """
        self.tasks = [asyncio.create_task(self.link.run())]
        if self._sender:
            self.tasks.append(asyncio.create_task(self._sender.run()))
        try:
            await asyncio.to_thread(self.recorder.recover)
        except Exception:  # whatever somebody has made of its files: calls come first
            log.exception("the metrics lack what an earlier gateway has logged last")
        recalled = await asyncio.to_thread(self.file.load)
        patience = _RECALL if recalled or self._way.is_remote else _FIRST_ROUTES
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self.link.linked.wait(), patience)
        if recalled and not self.link.linked.is_set():
            log.warning("control is away: the routes that were known last serve")
            self.link.recall(recalled)
            self._find_api(recalled)
        limits = ConnectionLimits(body=None, buffer=BUFFER, closing_time=_CLOSING_TIME)
        for listening, handle in ((sock, self.handle), (aws, self.handle_aws)):
            if listening is not None:
                self.servers.append(await serve(handle, sock=listening, limits=limits, refusal=errors.of_any_api))

    async def stop(self, drain: float) -> None:
        """Take no more connections, let requests in flight end for at most `drain` seconds, then close everything."""
        await asyncio.gather(*(server.close(drain) for server in self.servers))
        await self.beats.close()
        self.context.connections.close()
        self.passthrough.pool.close()
        self.outcomes.flush()
        await self.recorder.close()
        if self._sender:
            await self._sender.finish()
        for task in self.tasks:
            task.cancel()
        for result in await asyncio.gather(*self.tasks, return_exceptions=True):
            if isinstance(result, Exception):
                log.error("a part of the gateway failed", exc_info=result)
        await self.file.close()

    def counts(self) -> gateway_messages.Counts:
        """Return what this gateway has counted, every invocation that has ended included."""
        self.outcomes.flush()
        connections = sum(len(server.connections) for server in self.servers)
        down = tuple(sorted(self.context.down))
        return gateway_messages.Counts(self.counters.sums(), self.context.in_flight, connections, down)

    def places_changed(self, down: frozenset[str], cut: frozenset[str]) -> None:
        """Send nothing to the instances that are down, say so at once, and end the calls that were cut."""
        self.context.down = down
        self.link.report_counts()
        end_calls(self.context.connections, cut)

    def _own_page(self, request: Request) -> None:
        """Answer whether this gateway can serve: it knows the routes, from control or from before."""
        ready = self.context.routes.known
        page = {"ready": ready, "linked": self.link.connected}
        request.answer(200 if ready else 503, msgspec.json.encode(page), "application/json")

    def _take_news(self, news: News) -> None:
        """Take what control says of routes, of its API, and of the journal."""
        if not isinstance(news, gateway_messages.JournalKept):
            self.file.apply(news)
        elif self._sender:
            self._sender.kept(news)
        if isinstance(news, gateway_messages.Snapshot):
            self._find_api(news)

    def _find_api(self, snapshot: gateway_messages.Snapshot) -> None:
        if self._way.is_remote and snapshot.api:
            self.passthrough.open(beside(self._way.address, snapshot.api), snapshot.passkey)

    def _meet_faults(self, some: bool) -> None:
        """Let calls ask whether they meet a fault on purpose while there are some. Without any they pay nothing."""
        kinds = PLAIN
        if some:
            from hostler.gateway.invoke.faulted import FAULTED  # imported here, because few gateways need it

            kinds = FAULTED
        self._dispatcher.kinds = self._aws_dispatcher.kinds = kinds


async def _serve(
    make: Callable[[], Gateway], config: Settings, listening: socket.socket, aws: socket.socket | None
) -> int:
    stop = asyncio.Event()
    loop = asyncio.get_running_loop()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop.set)
    gateway = make()
    await gateway.start(listening, aws)
    gc.collect()
    gc.freeze()  # all objects so far stay; requests leave few cycles behind
    gc.set_threshold(10_000, 20, 50)
    stopping = asyncio.create_task(stop.wait())
    await asyncio.wait([stopping, *gateway.tasks], return_when=asyncio.FIRST_COMPLETED)
    failed = not stopping.done()  # a gateway without its link is of no use: the host starts another
    await gateway.stop(config.drain_timeout)
    return 1 if failed else 0


def run(
    make: Callable[[], Gateway], config: Settings, listening: socket.socket, aws: socket.socket | None = None
) -> int:
    """Make a gateway, and serve until SIGTERM; return the exit code."""
    code: int = run_loop(_serve(make, config, listening, aws))
    return code


def prepare_process(name: str) -> None:
    """Prepare what a gateway's process needs: its log, and many open files."""
    faulthandler.enable()  # a crash in native code leaves its traceback on stderr
    logging.basicConfig(level=logging.INFO, format=f"%(asctime)s {name} %(levelname)s %(message)s")
    _, hard_limit = resource.getrlimit(resource.RLIMIT_NOFILE)
    resource.setrlimit(resource.RLIMIT_NOFILE, (hard_limit, hard_limit))


def main() -> None:
    parser = argparse.ArgumentParser(prog="hostler.gateway.main", description="hostler's data plane")
    parser.add_argument("--run", type=Path, required=True, help="the private run folder")
    parser.add_argument("--lifeline", type=int, required=True, help="read end of the host's pipe")
    parser.add_argument("--listen", type=int, required=True, help="the listening socket")
    parser.add_argument("--aws-listen", type=int, help="the listening socket for AWS's host names")
    parser.add_argument("--name", required=True, help="this gateway's name")
    options = parser.parse_args()
    lifeline.leave_with(options.lifeline)
    prepare_process(options.name)
    config = settings.restore(json.loads((options.run / "settings.json").read_text()))
    aws = socket.socket(fileno=options.aws_listen) if options.aws_listen is not None else None
    make = partial(Gateway, options.run, options.name, config)
    try:
        sys.exit(run(make, config, socket.socket(fileno=options.listen), aws))
    except UserError as error:
        print(f"hostler: {error}", file=sys.stderr)
        sys.exit(2)


if __name__ == "__main__":
    main()
