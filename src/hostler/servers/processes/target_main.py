"""A target's own process: it loads, reports, then serves HTTP by itself (process_server.py), and runs the user's code
inline.

It shares nothing with other targets: neither modules nor memory nor a crash.
"""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import time
from pathlib import Path
from urllib.parse import unquote

from hostler.contract import INVOCATIONS, MODELS, PING
from hostler.processes import tree
from hostler.processes.lifeline import leave_with
from hostler.servers import error_text, memory, responses
from hostler.servers.environment import Environment
from hostler.servers.frameworks import registry
from hostler.servers.frameworks.predictor import Predictor
from hostler.servers.loop import new_loop
from hostler.servers.processes import call_notes, fork_guard
from hostler.servers.processes.call_notes import CallNotes
from hostler.servers.processes.process_server import ProcessServer
from hostler.servers.processes.protocol import DRAIN, LoadReport, ProcessFds, ProcessSpec, send_report
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_request import Request


def run(environment: Environment, spec: ProcessSpec, fds: ProcessFds) -> None:
    """Run the process: load and serve. Returns after SIGTERM, when every call is answered."""
    os.set_inheritable(fds.report, False)
    notes = CallNotes(fds.page, fds.bell)
    sys.dont_write_bytecode = True  # the artifact's folder may be shared: no file may appear in it by itself
    for fd in (fds.lifeline, environment.lifeline):
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
        send_report(fds.report, LoadReport(status, message, failure=error_text.failure(error, environment)))
        sys.stdout.flush()
        return
    with asyncio.Runner(loop_factory=new_loop) as runner:
        runner.run(_serve(_Calls(predictor, environment, spec.label, notes), environment, spec, fds.report))
    sys.stdout.flush()
    tree.end_descendants()


async def _serve(calls: _Calls, environment: Environment, spec: ProcessSpec, report_pipe: int) -> None:
    ending = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, ending.set)
    fork_guard.default_signals_in_children()
    path = f"{MODELS}/{spec.name}/invoke" if environment.multi_model else INVOCATIONS

    def call(request: Request) -> bool:
        if request.method != "POST" or unquote(request.path) != path:
            return False
        calls.add(request)
        return True

    server = ProcessServer(calls.add, call, ConnectionLimits(body=environment.max_body))
    await server.start(spec.socket)
    send_report(report_pipe, LoadReport(200, memory=memory.own_share()))
    await ending.wait()
    await server.close(DRAIN)


class _Calls:
    """Collects the requests of one turn of the loop and answers them in batches of at most `max_batch`.

    A full batch runs at once, within the read of its last request: so what is read is what runs, and when this process
    is ended because of a call that never returns, no other call was begun. Their callers are told by the system that
    their requests were not read, and send them again.
    """

    def __init__(self, predictor: Predictor, environment: Environment, label: str, notes: CallNotes) -> None:
        self._predictor = predictor
        self._environment = environment
        self._label = label
        self._notes = notes
        self._requests: list[Request] = []

    def add(self, request: Request) -> None:
        if request.path == PING:
            request.answer(200)
            return
        self._requests.append(request)
        if len(self._requests) == self._predictor.max_batch:
            self._run()
        elif len(self._requests) == 1:
            asyncio.get_running_loop().call_soon(self._run)

    def _run(self) -> None:
        requests, self._requests = self._requests, []
        batch = [request for request in requests if self._awaited(request)]
        if not batch:
            return
        calls = [responses.call_of(request) for request in batch]
        with self._notes.running(call_notes.LOOP, batch, self._label), responses.off_loop():
            replies = responses.replies(self._predictor, calls, self._environment)
        for request, reply in zip(batch, replies, strict=True):
            responses.send(request, reply, self._environment, self._notes, self._label)

    def _awaited(self, request: Request) -> bool:
        """Whether the caller still waits: it may have left while the calls before this one ran."""
        times = call_notes.times_of(request)
        if times and times.until <= time.monotonic():
            request.answer(500, b"The time for the call was up before it began.", "text/plain")
            return False
        return not request.peer_left()
