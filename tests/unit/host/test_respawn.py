"""Processes that are kept alive, the reaper, and strangers: over real and very small processes."""

from __future__ import annotations

import os
import subprocess
import sys
import textwrap
from pathlib import Path

import pytest

from hostler.host.respawn import exit_words


@pytest.mark.parametrize(
    ("code", "words"), [(0, "exit code 0"), (3, "exit code 3"), (-9, "killed by SIGKILL"), (-99, "exit code -99")]
)
def test_an_exit_code_is_described_in_words(code: int, words: str) -> None:
    assert exit_words(code) == words


def apart(body: str) -> str:
    """Run a coroutine's body in a process of its own (it adopts orphans and takes SIGCHLD); what it printed."""
    program = (
        "import asyncio, os, signal, sys, time\n"
        + textwrap.dedent(
            """
        from hostler.host.respawn import Respawned
        from hostler.host.reaper import Reaper
        from hostler.processes.spawn import spawn
        from hostler.processes.tree import children
        async def play():
            reaper = Reaper()
        """
        )
        + textwrap.indent(textwrap.dedent(body), "    ")
        + "\nasyncio.run(asyncio.wait_for(play(), 120))"
    )
    done = subprocess.run(
        [sys.executable, "-c", program], env={**os.environ, "PYTHONPATH": str(Path(__file__).parents[3] / "src")},
        capture_output=True, text=True, timeout=180, check=False,
    )  # fmt: skip
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_a_process_that_ends_is_started_again_until_it_is_dismissed() -> None:
    said = apart(
        """
        ends, third = [], asyncio.Event()
        def start():
            if len(ends) == 2:
                third.set()
                return spawn(["sleep", "60"], {})
            return spawn(["false"], {})
        kept = Respawned("it", start, reaper, ends.append)
        kept.start()
        await third.wait()
        await kept.stop(10, asyncio.Event())
        print(ends, kept.pid, children(os.getpid()))
        """
    )
    assert said == "[1, 1] 0 []\n"


def test_a_process_that_does_not_listen_is_killed_when_there_is_a_hurry() -> None:
    said = apart(
        """
        deaf = ["sh", "-c", "trap '' TERM; while :; do sleep 1; done"]
        kept = Respawned("it", lambda: spawn(deaf, {"PATH": os.defpath}), reaper)
        kept.start()
        hurry = asyncio.Event()
        hurry.set()
        await kept.stop(60, hurry)
        await reaper.wait_for_strangers()
        print(kept.pid, children(os.getpid()))
        """
    )
    assert said == "0 []\n"


def test_a_program_that_cannot_be_started_is_tried_again() -> None:
    said = apart(
        """
        tries = []
        def start():
            tries.append(1)
            return spawn(["/not/there" if len(tries) < 3 else "true"], {})
        ended = asyncio.Event()
        Respawned("it", start, reaper, lambda code: ended.set()).start()
        await ended.wait()
        print(len(tries))
        """
    )
    assert said == "3\n"


def test_strangers_are_killed_but_not_during_a_spawn() -> None:
    said = apart(
        """
        def orphan():
            reading, writing = os.pipe()
            if not (between := os.fork()):
                if pid := os.fork():
                    os.write(writing, b"%d" % pid)
                    os._exit(0)
                time.sleep(60)
            return between, int(os.read(reading, 20))
        with reaper.spawning():
            between, pid = orphan()
            codes = []
            ended = asyncio.Event()
            reaper.watch(between, lambda code: ended.set())
            await ended.wait()
            print(children(os.getpid()) == [pid])
            reaper.watch(pid, codes.append)
        await reaper.wait_for_strangers()
        print(children(os.getpid()) == [pid], codes)
        orphan()
        await reaper.wait_for_strangers()
        print(children(os.getpid()) == [pid], codes)
        os.kill(pid, signal.SIGKILL)
        """
    )
    assert said == "True\nTrue []\nTrue []\n"


def test_a_child_that_ends_before_its_pid_is_known_is_not_missed() -> None:
    said = apart(
        """
        codes = []
        with reaper.spawning():
            pid = spawn(["sh", "-c", "exit 5"], {"PATH": os.defpath})
            while children(os.getpid()):
                await asyncio.sleep(0)
            reaper.reap()
            reaper.watch(pid, codes.append)
        print(codes)
        """
    )
    assert said == "[5]\n"


def test_the_proxy_is_started_by_its_first_connection_and_again_when_it_ends() -> None:
    said = apart(
        """
        import socket
        from hostler.host.proxy import ProxyProcess
        starts, second = [], asyncio.Event()
        def start():
            starts.append(spawn(["sleep", "60"], {}))
            if len(starts) == 2:
                second.set()
            return starts[-1]
        process = Respawned("proxy", start, reaper)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            proxy = ProxyProcess(sock, process)
            await asyncio.sleep(0)
            print(starts)
            _, writer = await asyncio.open_connection(*sock.getsockname())
            while not starts:
                await asyncio.sleep(0.001)
            os.kill(starts[0], signal.SIGKILL)
            await second.wait()
            await proxy.stop(asyncio.Event())
            print(process.pid, children(os.getpid()))
            writer.close()
        """
    )
    assert said == "[]\n0 []\n"


def test_a_proxy_that_nobody_needed_has_no_process_to_be_stopped() -> None:
    said = apart(
        """
        import socket
        from hostler.host.proxy import ProxyProcess
        process = Respawned("proxy", lambda: spawn(["sleep", "60"], {}), reaper)
        with socket.create_server(("127.0.0.1", 0)) as sock:
            for each in (sock, None):
                await ProxyProcess(each, process).stop(asyncio.Event())
        print(process.pid, children(os.getpid()))
        """
    )
    assert said == "0 []\n"
