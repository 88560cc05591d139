"""A target's own process: it loads, reports, then serves HTTP on a socket of its own, and runs the user's code inline.

It shares nothing with other targets: neither modules nor memory nor a crash.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
from pathlib import Path

from hostler.contract import PING
from hostler.processes import tree
from hostler.processes.lifeline import leave_with
from hostler.servers import error_text, memory, responses
from hostler.servers.environment import Environment
from hostler.servers.frameworks import registry
from hostler.servers.frameworks.predictor import Predictor
from hostler.servers.loop import new_loop
from hostler.servers.processes import fork_guard
from hostler.servers.processes.protocol import DRAIN, LoadReport, ProcessSpec, send_report
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_request import Request
from hostler.wire.http_server import serve


def run(environment: Environment, spec: ProcessSpec, report_pipe: int, lifeline: int) -> None:
    """Run the process: load and serve. Returns after SIGTERM, when every call is answered."""
    os.set_inheritable(report_pipe, False)
    sys.dont_write_bytecode = True  # the artifact's folder may be shared: no file may appear in it by itself
    for fd in (lifeline, environment.lifeline):
        if fd is not None:
            leave_with(fd)
    try:
        with fork_guard.exit_if_forked():
            predictor = registry.load(Path(spec.folder), spec.framework, environment)
    except BaseException as error:
        status = 507 if error_text.out_of_memory(error) else 500
        message = error_text.text(error, environment)
        if traceback := error_text.load_traceback(error, environment):
            print(traceback, file=sys.stderr, flush=True)
            message = f"{message}\n{traceback}"
        send_report(report_pipe, LoadReport(status, message, failure=error_text.failure(error, environment)))
        sys.stdout.flush()
        return
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(predictor, environment, spec, report_pipe))
    sys.stdout.flush()
    tree.end_descendants()


async def _serve(predictor: Predictor, environment: Environment, spec: ProcessSpec, report_pipe: int) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    fork_guard.default_signals_in_children()
    batches = _Batches(predictor, environment)
    server = await serve(batches.add, path=spec.socket, limits=ConnectionLimits(body=environment.max_body))
    send_report(report_pipe, LoadReport(200, memory=memory.own_share()))
    await ending.wait()
    await server.close(DRAIN)


class _Batches:
    """Collects the requests of one turn of the loop and answers them in batches of at most `max_batch`."""

    def __init__(self, predictor: Predictor, environment: Environment) -> None:
        self._predictor = predictor
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self._requests: list[Request] = []

    def add(self, request: Request) -> None:
        if request.path == PING:
            request.answer(200)
            return
        self._requests.append(request)
        if len(self._requests) == 1:
            self._loop.call_soon(self._flush)

    def _flush(self) -> None:
        max_batch = self._predictor.max_batch
        batch, self._requests = self._requests[:max_batch], self._requests[max_batch:]
        if self._requests:
            self._loop.call_soon(self._flush)
        calls = [responses.call_of(request) for request in batch]
        with responses.off_loop():
            replies = responses.replies(self._predictor, calls, self._environment)
        for request, reply in zip(batch, replies, strict=True):
            responses.send(request, reply, self._environment)
