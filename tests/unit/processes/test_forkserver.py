"""The fork server and its client, over real and very small processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

PROGRAM = """
import asyncio, gc, os, resource, signal, socket, sys, time
from hostler.processes import forkserver, tree
from hostler.processes.forkserver import Client, Exited, ForkServer, Preload, Signal, Spawn, Spawned, SpawnFailed

def run(order, fds):
    '''A child: it sends its pid, and what else its order has it do.'''
    if fds:
        os.write(fds[0], b"%d\\n" % os.getpid())
    exec(order.decode(), {"os": os, "time": time, "signal": signal, "sys": sys, "fds": fds, "collections": collections})

def preload(unit):
    if unit == "missing":
        raise ImportError(unit)
    if unit == "no hold":  # on the lifeline: its other end is the client's alone
        os.close(hold)
    if unit == "no processes":
        resource.setrlimit(resource.RLIMIT_NPROC, (0, 0))
        os.getuid() or os.setuid(65534)  # root has no limit
    if unit == "count" and not gc.callbacks:
        gc.callbacks.append(count)
    sys.modules[unit] = os

collections = []  # those of all generations

def count(phase, info):
    if phase == "stop" and info["generation"] == 2:
        collections.append(info)

class Recorder:
    '''A client with its events, in order.'''

    def __init__(self, line):
        self.events, self.gone, self._news = [], asyncio.Event(), asyncio.Event()
        self.client = Client(line, self._on_event, self.gone.set)

    def _on_event(self, event):
        self.events.append(event)
        self._news.set()

    async def event(self, number):
        '''The first event of a process.'''
        while not (found := [event for event in self.events if event.number == number]):
            self._news.clear()
            await self._news.wait()
        return found[0]

    async def spawn(self, number, order, preload=()):
        '''Spawn a process with a pipe to it; its pid, and the pipe's end here, which closes with it.'''
        reading, writing = os.pipe()
        self.client.send(Spawn(number, order.encode(), preload), [writing])
        pipe = os.fdopen(reading)
        return int(await asyncio.to_thread(pipe.readline)), pipe

async def until_gone(*pids):
    while set(pids) & set(tree.parents()):
        await asyncio.sleep(0.005)
"""


def play(body: str, lifeline: bool = False) -> str:
    """Run a coroutine's body, beside a fork server of kept children, in a process of its own. Returns its output."""
    program = "".join(
        (
            PROGRAM,
            "\nlifeline, hold = os.pipe()\n" if lifeline else "\nlifeline = None\n",
            "line = forkserver.start(run, preload, lifeline)\n",
            "[server] = tree.children(os.getpid())\n",
            "async def play():\n    recorder = Recorder(line)\n",
            textwrap.indent(textwrap.dedent(body), "    "),
            "\nasyncio.run(asyncio.wait_for(play(), 120))\n",
        )
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")},
        capture_output=True, text=True, timeout=60, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_child_gets_its_order_and_its_file_descriptors_and_its_exit_is_reported() -> None:
    said = play(
        """
        pid, pipe = await recorder.spawn(7, "os.write(fds[0], b'done'); os._exit(5)")
        print(pid != server, pipe.read(), await recorder.event(7))
        """
    )
    assert said == "True done Exited(number=7, status=5)\n"


@pytest.mark.parametrize(("order", "status"), [("pass", 0), ("raise ValueError", 1), ("os.kill(os.getpid(), 9)", -9)])
def test_a_status_is_an_exit_code_or_a_negative_signal_number(order: str, status: int) -> None:
    said = play(f"recorder.client.send(Spawn(1, b'{order}'))\nprint((await recorder.event(1)).status)")
    assert said == f"{status}\n"


def test_the_fork_server_collects_garbage_after_imports_alone() -> None:
    said = play(
        """
        count = "os.write(fds[0], b'%d' % len(collections))"
        for number, units in enumerate((("count",), ("count",), (), ("more",), ("missing",))):
            _, pipe = await recorder.spawn(number, count, units)
            print(pipe.read())
        """
    )
    assert said.split() == ["1", "1", "1", "2", "2"]


def test_a_preloaded_unit_is_imported_in_every_child_and_a_failed_import_stops_none() -> None:
    said = play(
        """
        recorder.client.send(Preload(("ahead", "missing")))
        for number, units in ((1, ()), (2, ("missing", "needed")), (3, ())):
            await recorder.spawn(number, "sys.exit()", units)
        _, pipe = await recorder.spawn(4, "os.write(fds[0], b'%d' % len({'ahead', 'needed'} & {*sys.modules}))")
        print(pipe.read())
        """
    )
    assert said == "2\n"


def test_a_signal_reaches_the_child_of_that_number_and_an_exited_one_is_no_error() -> None:
    said = play(
        """
        await recorder.spawn(1, "time.sleep(60)")
        await recorder.spawn(2, "time.sleep(60)")
        recorder.client.send(Signal(2, signal.SIGTERM))
        print(await recorder.event(2))
        recorder.client.send(Signal(2, signal.SIGTERM))
        recorder.client.send(Signal(1, signal.SIGINT))
        print(await recorder.event(1), len(recorder.events))
        """
    )
    assert said == "Exited(number=2, status=-15)\nExited(number=1, status=1) 2\n"


def test_a_child_that_is_killed_takes_along_all_that_descends_from_it() -> None:
    said = play(
        """
        pid, _ = await recorder.spawn(1, "os.fork() or os.fork(); os.setsid() if os.fork() else 0; time.sleep(60)")
        while len(below := tree.descendants(pid)) < 5:
            await asyncio.sleep(0.005)
        recorder.client.send(Signal(1, signal.SIGKILL))
        print(await recorder.event(1))
        await until_gone(*below)
        print(tree.descendants(server))
        """
    )
    assert said == "Exited(number=1, status=-9)\n[]\n"


def test_an_exited_childs_orphans_are_killed_without_an_event() -> None:
    said = play(
        """
        pid, pipe = await recorder.spawn(1, "os.write(fds[0], b'%d' % pid) if (pid := os.fork()) else time.sleep(60)")
        orphan = int(await asyncio.to_thread(pipe.read))
        print(await recorder.event(1))
        await until_gone(orphan)
        print(len(recorder.events))
        """
    )
    assert said == "Exited(number=1, status=0)\n1\n"


@pytest.mark.parametrize(
    "end", ["recorder.client.close()", "os.close(hold)", "os.kill(server, signal.SIGKILL)"],
    ids=["its client closes", "its lifeline closes", "it is killed"],
)  # fmt: skip
def test_a_fork_server_takes_along_its_children(end: str) -> None:
    deaf = "[signal.signal(number, signal.SIG_IGN) for number in (2, 15)]; os.write(fds[0], b'deaf\\n'); time.sleep(60)"
    said = play(
        f"""
        pid, pipe = await recorder.spawn(1, {deaf!r}, ("no hold",))
        await asyncio.to_thread(pipe.readline)
        {end}
        await until_gone(server, pid)
        {"" if "close()" in end else "await recorder.gone.wait()"}
        """,
        lifeline=True,
    )
    assert said == ""


def test_sigterm_and_sigint_leave_the_fork_server_alone() -> None:
    said = play(
        """
        for number in (signal.SIGTERM, signal.SIGINT):
            os.kill(server, number)
        recorder.client.send(Spawn(1, b""))
        print(await recorder.event(1))
        """
    )
    assert said == "Exited(number=1, status=0)\n"


def test_many_large_requests_at_once_all_arrive_and_the_client_never_blocks() -> None:
    said = play(
        """
        os.kill(server, signal.SIGSTOP)
        for number in range(20):
            recorder.client.send(Spawn(number, b"#" * 100_000 + b"\\nos._exit(%d)" % number))
        os.kill(server, signal.SIGCONT)
        print(all([(await recorder.event(number)).status == number for number in range(20)]))
        """
    )
    assert said == "True\n"


def test_a_child_has_none_of_the_fork_servers_file_descriptors() -> None:
    said = play(
        """
        open_files = "[os.path.realpath(f'/proc/self/fd/{fd}') for fd in os.listdir('/proc/self/fd')]"
        own = f"[path for path in {open_files} if '/libffi.so' not in path]"  # since 3.5 libffi keeps its own open
        _, pipe = await recorder.spawn(1, f"os.write(fds[0], str(len({own})).encode())")
        print(pipe.read())
        """
    )
    assert said == "5\n"  # three standard ones, its own pipe, and that folder itself


def test_a_fork_that_fails_is_reported_with_its_reason_and_the_next_one_is_tried() -> None:
    said = play(
        """
        recorder.client.send(Spawn(1, b"", ("no processes",)))
        print(await recorder.event(1))
        recorder.client.send(Spawn(2, b""))
        print(await recorder.event(2))
        """
    )
    reason = os.strerror(11)
    assert said == f"SpawnFailed(number=1, reason={reason!r})\nSpawnFailed(number=2, reason={reason!r})\n"


def test_invalid_data_counts_as_the_fork_servers_end() -> None:
    said = play(
        """
        ours, theirs = socket.socketpair()
        other = Recorder(ours)
        theirs.sendall((3).to_bytes(4, "big") + b"???")
        await other.gone.wait()
        print(other.events, theirs.recv(1))
        """
    )
    assert said == "[] b''\n"


def test_an_adopted_child_has_the_adopter_as_its_parent_and_outlives_the_fork_server() -> None:
    said = play(
        """
        tree.adopt_orphans()
        ours, theirs = socket.socketpair()
        if not (zygote := os.fork()):
            ours.close()
            ForkServer(theirs, run, preload, adopted=True).serve()
            os._exit(0)
        theirs.close()
        other = Recorder(ours)
        pid, pipe = await other.spawn(3, "time.sleep(60)")
        print(await other.event(3) == Spawned(3, pid), pid in tree.children(os.getpid()), tree.children(zygote))
        other.client.close()
        print(os.waitpid(zygote, 0)[1], pid in tree.children(os.getpid()))
        os.kill(pid, signal.SIGTERM)
        print(os.waitstatus_to_exitcode(os.waitpid(pid, 0)[1]))
        """
    )
    assert said == "True True []\n0 True\n-15\n"
