"""A worker: one of several processes of a server, with a replica of each target that needs no process of its own.

Its server loads and unloads its models as any client loads a server's: by POST and DELETE of /models.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from dataclasses import replace
from functools import partial

from hostler.contract import INVOCATIONS, MODELS
from hostler.processes import tree
from hostler.processes.lifeline import leave_with
from hostler.servers.environment import Environment
from hostler.servers.http_api import ONLY, ContainerApi
from hostler.servers.loop import new_loop
from hostler.servers.model_registry import ModelRegistry
from hostler.servers.processes import fork_guard
from hostler.servers.processes.call_notes import CallNotes
from hostler.servers.processes.process_server import ProcessServer
from hostler.servers.processes.protocol import DRAIN, LoadReport, ProcessFds, ProcessSpec, send_report
from hostler.servers.runners.inline import InlineLoader
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_request import Request


def run(environment: Environment, spec: ProcessSpec, fds: ProcessFds) -> None:
    """Run the process: serve. Returns after SIGTERM, when every call is answered."""
    os.set_inheritable(fds.report, False)
    for fd in (fds.lifeline, environment.lifeline):
        if fd is not None:
            leave_with(fd)
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(environment, spec, fds))
    sys.stdout.flush()
    tree.end_descendants()


async def _serve(environment: Environment, spec: ProcessSpec, fds: ProcessFds) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    fork_guard.default_signals_in_children()
    loader = InlineLoader(environment, notes=CallNotes(fds.page, fds.bell))
    api = ContainerApi(replace(environment, multi_model=True, socket=""), ModelRegistry(loader), failures=True)
    call = partial(_call, api, environment.multi_model)
    server = ProcessServer(partial(_handle, api), call, ConnectionLimits(body=environment.max_body))
    await server.start(spec.socket)
    send_report(fds.report, LoadReport(200))
    await ending.wait()
    await server.close(DRAIN)


def _handle(api: ContainerApi, request: Request) -> None:
    if request.path == INVOCATIONS:
        api.invoke(request, ONLY)
    else:
        api.handle(request)


def _call(api: ContainerApi, multi_model: bool, request: Request) -> bool:
    """Answer a call, and return False for any other request: models come and go by the server alone."""
    path = request.path
    if multi_model and path.startswith(f"{MODELS}/") and path.endswith("/invoke"):
        api.handle(request)
    elif path == INVOCATIONS and not multi_model:
        api.invoke(request, ONLY)
    else:
        return False
    return True
