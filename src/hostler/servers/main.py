"""Start and end of a model server: environment, fork server, socket, signals."""

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
from hostler.servers.processes.protocol import DRAIN, ProcessFds, ProcessSpec
from hostler.servers.runners.inline import InlineLoader
from hostler.servers.runners.process import ProcessFactory
from hostler.servers.runners.process_loader import ProcessLoader
from hostler.servers.runners.runner import Loader, LoadFailed
from hostler.servers.worker_pool import WorkerPool
from hostler.wire.everywhere import listen_everywhere
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_server import serve


def run() -> None:
    """Serve until SIGTERM, then finish the calls in flight. Raises SystemExit(1), with the reason printed, on failure.

    It listens first: a ping that comes during the imports is answered when they are done, if that takes no longer than
    the platform waits. A refused one would be asked again only seconds later, and says no more (§5.4).
    """
    try:
        config = environment.read(os.environ)
        listener = None if config.socket else _listener(config.port, config.alone)
    except ValueError as error:
        _refuse(str(error))
    _have_a_temporary_folder()
    failures.withdraw(config.base)
    os.environ.setdefault("OMP_NUM_THREADS", "1")  # read at a framework's import; threads do not speed up one row
    if config.framework not in ("auto", "huggingface"):  # transformers takes seconds, and scripts may need none of it
        missing = installed.missing(config.framework)
        if missing and config.framework != "torch":  # its image also serves scripts without torch
            _refuse(str(missing), config, error_text.failure(missing, config))
        try:
            if not missing:
                installed.preload(config.framework)
        except Exception as error:  # joblib is missing, or a library of the system, or NumPy is another than it needs
            _refuse(error_text.text(error, config), config, error_text.failure(error, config))
    elif config.alone and config.multi_model:
        for framework in installed.AHEAD:  # so that targets' processes share the imports, and no load waits for them
            with contextlib.suppress(Exception):  # it fails again, and is reported, in a load that needs it
                installed.preload(framework)
    with contextlib.suppress(OSError):
        tree.adopt_orphans()
    with _socket_folder(config) as sockets:
        fork_server = forkserver.start(partial(_run_child, config), installed.preload, config.lifeline, listener)
        signal.signal(
            signal.SIGCHLD, signal.SIG_IGN
        )  # targets' orphans may become children here: the system reaps them
        if config.lifeline is not None:
            leave_with(config.lifeline)
        with asyncio.Runner(loop_factory=new_loop) as runner:
            code = runner.run(_serve(config, fork_server, sockets, listener))
    if code:
        sys.exit(code)


def _run_child(config: Environment, spec: bytes, fds: list[int]) -> None:
    """Run a process that the fork server spawned: a model's own, or a worker."""
    decoded = msgspec.msgpack.decode(spec, type=ProcessSpec)
    (target_main.run if decoded.framework else worker_main.run)(config, decoded, ProcessFds(*fds))


def _refuse(reason: str, config: Environment | None = None, failure: Failure | None = None) -> NoReturn:
    """Print the reason and exit; leave it in data, too, if an extra of hostler's is missing."""
    if config and failure and failure.code == Code.EXTRA_MISSING:
        failures.leave(config.base, msgspec.structs.replace(failure, line=reason, loading=False))
    print(reason, file=sys.stderr, flush=True)
    sys.exit(1)


def _have_a_temporary_folder() -> None:
    """Name shared memory as the one for temporary files, for scripts too, where no other folder can be written to.

    That is so in a container whose root is read-only, unless a folder in memory is mounted at /tmp.
    """
    try:
        tempfile.gettempdir()
    except FileNotFoundError:
        tempfile.tempdir = os.environ["TMPDIR"] = "/dev/shm"


@contextlib.contextmanager
def _socket_folder(config: Environment) -> Iterator[Path]:
    """Yield the folder for the targets' own sockets: that of the server's socket, else a private one."""
    if config.socket:
        yield Path(config.socket).parent
    else:
        with tempfile.TemporaryDirectory(prefix="hostler-", ignore_cleanup_errors=True) as folder:
            yield Path(folder)


async def _serve(config: Environment, fork_server: socket.socket, sockets: Path, listener: socket.socket | None) -> int:
    loop = asyncio.get_running_loop()
    ending = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, ending.set)
    fork_guard.default_signals_in_children()
    factory = ProcessFactory(fork_server, sockets, config.ports)
    shared: Loader
    if config.workers == 1:
        shared = InlineLoader(config, isolates=True)
    else:
        shared = workers = WorkerPool(config, factory, config.workers)
        try:
            await workers.start()
        except LoadFailed as error:
            print(f"the workers could not be started: {error}", file=sys.stderr, flush=True)
            return 1
    # The load of an only model has the time that the endpoint config gives the container's start.
    load_timeout = contract.LOAD_TIMEOUT if config.multi_model else None
    registry = ModelRegistry(shared, ProcessLoader(factory, config.workers, load_timeout))
    api = ContainerApi(config, registry)
    handle = api.handle
    limits = ConnectionLimits(body=config.max_body)
    if listener is None:
        server = await serve(handle, path=config.socket, limits=limits)
    else:
        server = await serve(handle, sock=listener, limits=limits)
    keeper = None if config.multi_model else asyncio.ensure_future(_keep(registry, config, api))
    stop = asyncio.ensure_future(ending.wait())
    await asyncio.wait([stop, *([keeper] if keeper else [])], return_when=asyncio.FIRST_COMPLETED)
    code = 0
    if keeper and keeper.done():
        print(keeper.result(), file=sys.stderr, flush=True)
        code = 1
    elif keeper:
        keeper.cancel()  # a load that the end breaks off is no failure of the model
        api.model_lost()
    await asyncio.gather(server.close(0.0 if code else DRAIN), registry.close())
    return code


async def _keep(registry: ModelRegistry, config: Environment, api: ContainerApi) -> str:
    """Keep the only model of a single-model container loaded. Returns the last line of the log when its load fails.

    It is loaded again whenever its process exits. A load that fails has printed its traceback; its failure is left in
    data, too.
    """
    url = f"{contract.BASE_DIR}/{contract.MODEL_DIR}"
    while True:
        try:
            model = await registry.load(ONLY, url, config.folder(url))
        except (LoadFailed, environment.BadFolder) as error:
            api.model_lost()
            message = failures.one_line(str(error))
            line = f"the model does not load: {message}"
            failure = error.failure if isinstance(error, LoadFailed) else None
            failure = failure or Failure(Code.OTHER, message)
            failures.leave(config.base, msgspec.structs.replace(failure, line=line))
            return line
        api.model_loaded()
        await asyncio.wait([model.runner.exited])


def _listener(port: int, everywhere: bool) -> socket.socket:
    """Listen on a port: on all addresses, as a container of its own must, or on this machine's loopback alone.

    Raises ValueError, with the reason, if that is impossible.
    """
    try:
        return listen_everywhere(port) if everywhere else socket.create_server(("127.0.0.1", port), backlog=4096)
    except (OSError, OverflowError) as error:
        raise ValueError(
            f"the server cannot listen on port {port}: {getattr(error, 'strerror', '') or error}"
        ) from None
