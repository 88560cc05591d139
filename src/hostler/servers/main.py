"""The start and the end of one of our model servers: environment, fork server, socket, signals."""

from __future__ import annotations

import asyncio
import contextlib
import os
import signal
import socket
import sys
import tempfile
from collections.abc import Iterator
from functools import partial
from pathlib import Path
from typing import NoReturn

import msgspec

from hostler import contract, failures
from hostler.failures import Code, Failure
from hostler.processes import forkserver, tree
from hostler.processes.lifeline import leave_with
from hostler.servers import environment, error_text
from hostler.servers.environment import Environment
from hostler.servers.frameworks import installed
from hostler.servers.http_api import ONLY, ContainerApi
from hostler.servers.loop import new_loop
from hostler.servers.model_registry import ModelRegistry
from hostler.servers.processes import fork_guard, target_main, worker_main
from hostler.servers.processes.protocol import DRAIN, Order
from hostler.servers.runners.inline import InlineLoader
from hostler.servers.runners.process import ProcessFactory
from hostler.servers.runners.process_loader import ProcessLoader
from hostler.servers.runners.runner import Loader, LoadFailed
from hostler.servers.worker_pool import WorkerPool
from hostler.wire.http_reader import Limits
from hostler.wire.http_server import serve


def run(everywhere: bool = False) -> None:
    """Serve until SIGTERM, then finish what runs. Raises SystemExit(1), with the reason printed, if it cannot serve.

    `everywhere` listens on all addresses, as a container of its own must; else on this machine's loopback.
    """
    try:
        told = environment.read(os.environ)
    except ValueError as error:
        _refuse(str(error))
    failures.withdraw(told.base)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read when a framework is imported; one row gains nothing by threads
    if told.framework != "auto":
        missing = installed.missing(told.framework)
        if missing and told.framework != "torch":  # whose image serves scripts that may do without
            _refuse(str(missing), told, error_text.failure(missing, told))
        try:
            if not missing:
                installed.preload(told.framework)
        except ImportError as error:  # such as joblib, beside a scikit-learn that is there
            _refuse(error_text.text(error, told), told, error_text.failure(error, told))
    with contextlib.suppress(OSError):
        tree.adopt_orphans()
    with _socket_folder(told) as sockets:
        line = forkserver.start(partial(_run_child, told), installed.preload, told.lifeline)
        signal.signal(signal.SIGCHLD, signal.SIG_IGN)  # orphans of targets may end up here: the system reaps them
        if told.lifeline is not None:
            leave_with(told.lifeline)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            code = runner.run(_serve(told, line, sockets, everywhere))
    if code:
        sys.exit(code)


def _run_child(told: Environment, order: bytes, fds: list[int]) -> None:
    """The whole life of a process that the fork server spawned: a model's own, or a worker."""
    decoded = msgspec.msgpack.decode(order, type=Order)
    report, lifeline = fds
    (target_main.run if decoded.framework else worker_main.run)(told, decoded, report, lifeline)


def _refuse(why: str, told: Environment | None = None, failure: Failure | None = None) -> NoReturn:
    """Print why, and leave it in data where the server knows more than Python's own words for an import that failed."""
    if told and failure and failure.code == Code.EXTRA_MISSING:
        failures.leave(told.base, msgspec.structs.replace(failure, line=why, loading=False))
    print(why, file=sys.stderr, flush=True)
    sys.exit(1)


@contextlib.contextmanager
def _socket_folder(told: Environment) -> Iterator[Path]:
    """Where the targets' own sockets are: beside the server's, else in a private folder."""
    if told.socket:
        yield Path(told.socket).parent
    else:
        with tempfile.TemporaryDirectory(prefix="hostler-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)


async def _serve(told: Environment, line: socket.socket, sockets: Path, everywhere: bool) -> int:
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    loop.add_signal_handler(signal.SIGTERM, ending.set)
    fork_guard.default_signals_in_children()
    factory = ProcessFactory(line, sockets)
    shared: Loader
    if told.workers == 1:
        shared = InlineLoader(told)
    else:
        shared = workers = WorkerPool(factory, told.workers)
        try:
            await workers.start()
        except LoadFailed as error:
            print(f"there is no process for each worker: {error}", file=sys.stderr, flush=True)
            return 1
    registry = ModelRegistry(told, shared, ProcessLoader(factory, told.workers))
    answering = ContainerApi(told, registry)
    handle = answering.handle
    limits = Limits(body=told.max_body)
    if told.socket:
        server = await serve(handle, path=told.socket, limits=limits)
    else:
        server = await serve(handle, sock=_listener(told.port, everywhere), limits=limits)
    keeping = None if told.multi_model else asyncio.ensure_future(_keep(registry, told, answering))
    stop = asyncio.ensure_future(ending.wait())
    await asyncio.wait([stop, *([keeping] if keeping else [])], return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if keeping and keeping.done():
        print(keeping.result(), file=sys.stderr, flush=True)
        code = 1
    await asyncio.gather(server.close(0.0 if code else DRAIN), registry.close())
    return code


async def _keep(registry: ModelRegistry, told: Environment, answering: ContainerApi) -> str:
    """Hold the one model of a single-model container, loading it anew when its process exits. Returns why it cannot.

    That is one line, the last of the log: a traceback, where there is one, was printed by the load itself. The same is
    left in data.
    """
    url = f"{contract.BASE_DIR}/{contract.MODEL_DIR}"
    while True:
        try:
            model = await registry.load(ONLY, url, told.folder(url))
        except (LoadFailed, environment.BadFolder) as error:
            answering.lost()
            message = failures.one_line(str(error))
            line = f"the model does not load: {message}"
            failure = error.failure if isinstance(error, LoadFailed) else None
            failure = failure or Failure(Code.OTHER, message)
            failures.leave(told.base, msgspec.structs.replace(failure, line=line))
            return line
        answering.arrived()
        await asyncio.wait([model.runner.exited])


def _listener(port: int, everywhere: bool) -> socket.socket:
    return socket.create_server(("0.0.0.0" if everywhere else "127.0.0.1", port), backlog=4096)
