"""The zygote, run as the host runs it, with this file's function as its server."""

from __future__ import annotations

import os
import select
import socket
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import msgspec
import pytest

from hostler.host.zygote import IMPORTS, IMPORTS_AHEAD, Fork
from hostler.processes.forkserver import Event, Preload, Request, Spawn, Spawned

SOURCE = Path(__file__).parents[2] / "src"


def server() -> None:
    """What the forked containers run: tell what they have, then end as they are told."""
    print(
        os.getcwd(), sorted(os.environ), os.getsid(0) == os.getpid(), sorted(map(int, os.listdir("/proc/self/fd")))[:-1]
    )
    print("threads", len(os.listdir("/proc/self/task")), "xgboost" in sys.modules, flush=True)
    if "TORCH" in os.environ:
        print("torch" in sys.modules, "onnxruntime" in sys.modules)
        import torch

        print(torch.ones(300, 300).matmul(torch.ones(300, 300)).sum().item(), flush=True)
    if end := os.environ.get("END"):
        raise SystemExit(int(end) if end.isdecimal() else end)
    raise RuntimeError("it does not start")


@contextmanager
def zygote() -> Iterator[tuple[socket.socket, subprocess.Popen[bytes]]]:
    ours, theirs = socket.socketpair()
    lifeline, keep = os.pipe()
    ours.settimeout(60)
    with ours, theirs:
        process = subprocess.Popen(
            [
                sys.executable, "-P", "-m", "hostler.host.zygote", "--requests", str(theirs.fileno()),
                "--lifeline", str(lifeline), "--server", "test_engine_zygote:server",
            ],
            env={**os.environ, "PYTHONPATH": f"{SOURCE}:{Path(__file__).parent}", "OMP_NUM_THREADS": "1"},
            pass_fds=(theirs.fileno(), lifeline),
        )  # fmt: skip
        theirs.close()
        try:
            yield ours, process
        finally:
            ours.close()
            assert process.wait(120) == 0
            os.close(lifeline)
            os.close(keep)


def ask(line: socket.socket, request: Request) -> None:
    payload = msgspec.msgpack.encode(request)
    line.sendall(len(payload).to_bytes(4, "big") + payload)


def answered(line: socket.socket) -> Spawned:
    size = int.from_bytes(line.recv(4, socket.MSG_WAITALL), "big")
    event = msgspec.msgpack.decode(line.recv(size, socket.MSG_WAITALL), type=Event)
    assert isinstance(event, Spawned)
    return event


def container(folder: Path, name: str, end: str = "", framework: str = "script", **environment: str) -> Spawn:
    (folder / name).mkdir()
    fork = Fork(str(folder / name), str(folder / f"{name}.log"), {"END": end, "OWN": "1", **environment}, framework)
    return Spawn(1, msgspec.msgpack.encode(fork), IMPORTS.get(framework, ()))


def gone(pid: int) -> None:
    """Wait until a process that is not ours has ended."""
    try:
        watched = os.pidfd_open(pid)
    except ProcessLookupError:
        return
    try:
        assert select.select([watched], [], [], 30)[0]
    finally:
        os.close(watched)


def test_a_container_has_its_folder_its_environment_its_log_and_nothing_else(tmp_path: Path) -> None:
    with zygote() as (line, process):
        ask(line, container(tmp_path, "one", end="0"))
        pid = answered(line).pid
        assert pid not in (0, process.pid)
        gone(pid)
        first, second = (tmp_path / "one.log").read_text().splitlines()
        files = first.rpartition("[")[2].rstrip("]").split(", ")
        assert first.startswith(f"{tmp_path / 'one'} ['END', 'OWN'] True")
        assert files[:3] == ["0", "1", "2"]
        assert len(files) == 4  # the lifeline
        assert second == "threads 1 False"


@pytest.mark.parametrize(
    ("end", "words"), [("", "RuntimeError: it does not start"), ("a plain reason", "a plain reason")]
)
def test_a_container_that_fails_says_why_in_its_log(tmp_path: Path, end: str, words: str) -> None:
    with zygote() as (line, _):
        ask(line, container(tmp_path, "one", end=end))
        gone(answered(line).pid)
        assert (tmp_path / "one.log").read_text().splitlines()[-1] == words


def test_requests_are_answered_while_there_is_much_to_import_and_a_framework_comes_before_its_fork(
    tmp_path: Path,
) -> None:
    pytest.importorskip("xgboost")
    with zygote() as (line, _):
        ask(line, Preload(IMPORTS_AHEAD))
        for name, framework in (("one", "script"), ("two", "xgboost"), ("three", "script")):
            ask(line, container(tmp_path, name, "0", framework))
        for pid in [answered(line).pid for _ in range(3)]:
            gone(pid)
        assert (tmp_path / "two.log").read_text().splitlines()[-1] == "threads 1 True"
        assert (tmp_path / "three.log").read_text().splitlines()[-1] == "threads 1 True"


@pytest.mark.require("torch")
def test_torch_is_imported_for_the_first_container_that_wants_it_and_works_in_all(tmp_path: Path) -> None:
    with zygote() as (line, _):
        ask(line, Preload(IMPORTS_AHEAD))
        for name, framework in (("before", "xgboost"), ("first", "torch"), ("after", "torch")):
            ask(line, container(tmp_path, name, "0", framework, TORCH="1"))
        for pid in [answered(line).pid for _ in range(3)]:
            gone(pid)
        for name, there in (("before", "False False"), ("first", "True False"), ("after", "True False")):
            assert (tmp_path / f"{name}.log").read_text().splitlines()[-3:] == ["threads 1 True", there, "27000000.0"]
