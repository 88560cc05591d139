"""A target's own process: load, report, then serve HTTP on a socket of its own, with the user's code inline.

It never shares anything with other targets: its modules, its memory and its crash are its own.
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
from hostler.servers.processes.protocol import DRAIN, Order, Report, send_report
from hostler.wire.http_reader import Limits
from hostler.wire.http_request import Request
from hostler.wire.http_server import serve


def run(environment: Environment, order: Order, report: int, lifeline: int) -> None:
    """Load and serve: the whole life of the process. Returns after SIGTERM, when every call is answered."""
    os.set_inheritable(report, False)
    sys.dont_write_bytecode = True  # the artifact's folder may be shared: nothing may appear in it by itself
    for fd in (lifeline, environment.lifeline):
        if fd is not None:
            leave_with(fd)
    try:
        with fork_guard.exit_if_forked():
            predictor = registry.load(Path(order.folder), order.framework, environment)
    except BaseException as error:
        status = 507 if error_text.out_of_memory(error) else 500
        message = error_text.text(error, environment)
        if where := error_text.of_load(error, environment):
            print(where, file=sys.stderr, flush=True)
            message = f"{message}\n{where}"
        send_report(report, Report(status, message, failure=error_text.failure(error, environment)))
        sys.stdout.flush()
        return
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(predictor, environment, order, report))
    sys.stdout.flush()
    tree.end_descendants()


async def _serve(predictor: Predictor, environment: Environment, order: Order, report: int) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    fork_guard.default_signals_in_children()
    turn = _Turn(predictor, environment)
    server = await serve(turn.take, path=order.socket, limits=Limits(body=environment.max_body))
    send_report(report, Report(200, memory=memory.own_share()))
    await ending.wait()
    await server.close(DRAIN)


class _Turn:
    """Requests of one turn of the loop, answered together as far as the predictor likes that, else one by one."""

    def __init__(self, predictor: Predictor, environment: Environment) -> None:
        self._predictor = predictor
        self._environment = environment
        self._loop = asyncio.get_running_loop()
        self._requests: list[Request] = []

    def take(self, request: Request) -> None:
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
            responses.give(request, reply, self._environment)
