"""A call that never returns takes its own process with it, soon after its time is up, and nothing else."""

from __future__ import annotations

import contextlib
import errno
import http.client
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar

import pytest
from containers_of_ours import Answer, Container, Place, booster, running, script

from hostler.processes import tree

T = TypeVar("T")
SOON = (
    2.5  # seconds until a call's time is up: it is begun by then, and may run for LEAST (call_notes.py), which is more
)
PATIENCE = 60.0  # seconds, past which a test hangs


@pytest.fixture(scope="module")
def server(stage: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running(tmp_path_factory.mktemp("ml"), SAGEMAKER_MULTI_MODEL="true") as container:
        yield container.wait()


def times(request_id: str, seconds: float = SOON, stream: float | None = None) -> dict[str, str]:
    """The header that a caller gives with a call that it awaits for so many seconds."""
    words = [request_id, *(f"{time.time() + each:.3f}" for each in (seconds, stream) if each is not None)]
    return {"X-Hostler-Call": " ".join(words)}


def begin(server: Container, to: Place, name: str = "", **given: str) -> http.client.HTTPConnection:
    """Begin a call of a target, or of the only model."""
    connection = server.connect(to, PATIENCE)
    connection.request("POST", path_of(name), b"1", {"Content-Type": "text/csv", **given})
    return connection


def path_of(name: str) -> str:
    return f"/models/{name}/invoke" if name else "/invocations"


def outcome(connection: http.client.HTTPConnection) -> bytes | type[Exception]:
    """The body of the answer, or the error instead of it."""
    with contextlib.closing(connection):
        try:
            return connection.getresponse().read()
        except (http.client.HTTPException, OSError) as error:
            return type(error)


def eventually(look: Callable[[], T]) -> T:
    end = time.monotonic() + PATIENCE
    while not (found := look()):
        assert time.monotonic() < end, found
        time.sleep(0.02)
    return found


def load(server: Container, name: str, text: str) -> Place:
    """Load a script. Returns its process's place."""
    script(server.model(name), text)
    [own] = server.own(server.loaded(name))
    return own


PLAIN = "import os\ndef model_fn(folder): return 0\ndef predict_fn(data, model): return os.getpid()"
HANGING = """
import concurrent.futures, ctypes, os, signal, subprocess, sys, threading, time

def model_fn(folder):
    subprocess.Popen(["sleep", "600"])
    return 0

def sleeps(): time.sleep(600)
def pauses(): signal.pause()
def holds_the_interpreter(): ctypes.PyDLL(None).sleep(600)
def computes():
    while True: pass

def forks():
    if os.fork() == 0:
        os.setsid()
        time.sleep(600)
    os.wait()

def waits_for_threads():
    with concurrent.futures.ThreadPoolExecutor(2) as threads:
        list(threads.map(time.sleep, [600, 600]))

def blocks_every_signal():
    signal.pthread_sigmask(signal.SIG_BLOCK, range(1, 65))
    signal.signal(signal.SIGTERM, signal.SIG_IGN)
    time.sleep(600)

def closes_every_file():
    os.closerange(0, 1000)
    time.sleep(600)

def predict_fn(data, model):
    %s()
"""
WAYS = (
    *("sleeps", "pauses", "holds_the_interpreter", "computes", "forks", "waits_for_threads", "blocks_every_signal"),
    "closes_every_file",
)


def test_however_a_call_hangs_its_process_ends_with_all_below_it_and_with_nothing_else(server: Container) -> None:
    stays = load(server, "stays", PLAIN)
    pid = server.ask("POST", path_of("stays"), b"1", to=stays, content_type="text/csv").json
    [fork_server] = tree.children(server.process.pid)
    places = {way: load(server, way, HANGING % way) for way in WAYS}
    assert len(tree.children(fork_server)) == len(WAYS) + 1
    calls = {way: begin(server, place, way, **times(f"id-{way}")) for way, place in places.items()}
    assert {outcome(call) for call in calls.values()} == {http.client.RemoteDisconnected}
    eventually(lambda: tree.descendants(fork_server) == [pid])
    assert server.ask("POST", path_of("stays"), b"1", to=stays, content_type="text/csv").json == pid
    eventually(lambda: [entry["modelName"] for entry in server.ask("GET", "/models").json["models"]] == ["stays"])
    for way in WAYS:
        assert server.output().count(f"request id-{way} to model {way} has not returned after ") == 1
    assert load(server, "sleeps", PLAIN)
    for name in ("stays", "sleeps"):
        server.ask("DELETE", f"/models/{name}")


def test_the_log_names_the_target_and_calls_through_the_server_are_ended_too(server: Container) -> None:
    script(server.model("hash"), HANGING % "pauses")
    body = b'{"model_name": "hash", "url": "/opt/ml/models/hash/model"}'
    named = {"X-Amzn-SageMaker-Target-Model": "eu/a.tar.gz"}
    assert server.ask("POST", "/models", body, **named).status == 200
    answer = server.invoke("hash", b"1", **times("id-1"))
    assert (answer.status, answer.content_type) == (500, "text/plain")
    assert "request id-1 to target eu/a.tar.gz has not returned after" in server.output()


COUNTS = """
import os, time
def model_fn(folder): return folder
def predict_fn(data, model):
    with open(model + "/calls", "a") as file: file.write(f"{int(data)}\\n")
    while data == 1 and not os.path.exists(model + "/go-on"): time.sleep(0.01)
    return os.getpid()
"""


def test_calls_behind_one_that_hangs_are_not_read(server: Container) -> None:
    socket = load(server, "reset", COUNTS)
    folder = server.folder / "models/reset/model"
    hangs = begin(server, socket, "reset", **times("hangs"))
    eventually((folder / "calls").exists)
    behind = [begin(server, socket, "reset", **times("behind", 30)) for _ in range(5)]
    assert outcome(hangs) is http.client.RemoteDisconnected
    for connection in behind:
        with contextlib.closing(connection), pytest.raises(ConnectionResetError) as reset:
            connection.sock.recv(1)
        assert reset.value.errno == errno.ECONNRESET
    assert (folder / "calls").read_text() == "1\n"


def test_a_call_whose_caller_has_left_or_whose_time_is_up_is_not_begun(server: Container) -> None:
    socket = load(server, "left", COUNTS)
    folder = server.folder / "models/left/model"
    first = begin(server, socket, "left")
    eventually((folder / "calls").exists)
    for _ in range(3):
        begin(server, socket, "left").close()
    late = begin(server, socket, "left", **times("late", 0.0))
    (folder / "go-on").touch()
    pid = outcome(first)
    assert outcome(late) == b"The time for the call was up before it began."
    with contextlib.closing(server.connect(socket)) as last:
        last.request("POST", path_of("left"), b"2", {"Content-Type": "text/csv"})
        assert last.getresponse().read() == pid
    assert (folder / "calls").read_text() == "1\n2\n"
    server.ask("DELETE", "/models/left")


SLOW = """
import os, time
def model_fn(folder): return 0
def predict_fn(data, model):
    time.sleep(data[0])
    return os.getpid()
"""


def test_calls_without_times_and_calls_that_end_in_time_end_no_process(server: Container) -> None:
    socket = load(server, "slow", SLOW)

    def call(seconds: float, **given: str) -> Answer:
        return server.ask("POST", path_of("slow"), f"{seconds}".encode(), to=socket, content_type="text/csv", **given)

    pids = [call(0.0, **times("quick")).body]
    pids.append(call(4.0).body)
    pids.append(call(1.0, **times("in-time", 30)).body)
    pids.append(call(1.5, **times("late-but-short", 1.0)).body)
    assert len(set(pids)) == 1
    assert not any(name in server.output() for name in ("quick", "in-time", "late-but-short"))
    server.ask("DELETE", "/models/slow")


STREAM = """
import time
def model_fn(folder): return 0
def predict_fn(data, model):
    before, between, after = data
    def pieces():
        time.sleep(before)
        yield "a"
        time.sleep(between)
        yield "b"
        time.sleep(after)
    return pieces()
def output_fn(prediction, accept): return prediction, "text/plain"
"""


def test_a_stream_has_two_times_one_until_its_first_piece_and_one_in_all(server: Container) -> None:
    def call(name: str, sleeps: bytes, seconds: float, stream: float) -> bytes | str:
        with contextlib.closing(server.connect(load(server, name, STREAM), PATIENCE)) as connection:
            given = {"Content-Type": "text/csv", **times(name, seconds, stream)}
            connection.request("POST", path_of(name), sleeps, given)
            try:
                return connection.getresponse().read()
            except (http.client.HTTPException, OSError) as error:
                return type(error).__name__

    with ThreadPoolExecutor(4) as threads:
        calls = {
            "first": threads.submit(call, "first", b"600,0,0", SOON, 600.0),
            "between": threads.submit(call, "between", b"0,600,0", SOON, SOON),
            "after": threads.submit(call, "after", b"0,0,600", 600.0, SOON),
            "whole": threads.submit(call, "whole", b"0,4,0", SOON, 600.0),
        }
    results = {name: result.result() for name, result in calls.items()}
    assert results["first"] == "RemoteDisconnected"
    assert results["between"] == results["after"] == "IncompleteRead"
    assert results["whole"] == b"ab"
    eventually(lambda: [entry["modelName"] for entry in server.ask("GET", "/models").json["models"]] == ["whole"])
    server.ask("DELETE", "/models/whole")


def test_an_only_model_is_loaded_again_and_the_next_call_is_answered(tmp_path: Path) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    script(folder, COUNTS)
    with running(tmp_path) as server:
        [socket] = server.own(server.wait().ask("GET", "/ping").json)
        with contextlib.closing(server.connect(socket)) as other:
            other.request("POST", "/invocations", b"2", {"Content-Type": "text/csv"})
            pid = other.getresponse().read()
        assert outcome(begin(server, socket, **times("id-1"))) is http.client.RemoteDisconnected
        answer = server.ask("POST", "/invocations", b"2", content_type="text/csv")
        assert (answer.status, answer.body == pid) == (200, False)
        assert "request id-1 to model model has not returned" in server.output()


WHO = """
import os, time
class Who:
    def __setstate__(self, number): self.number = number
    def predict(self, rows):
        if len(rows) > 1: time.sleep(600)
        return [self.number, os.getpid()]
"""


@pytest.mark.parametrize("rows", [2, 40_000], ids=["on the loop", "on the thread"])
def test_a_worker_is_replaced_with_all_its_targets(tmp_path: Path, rows: int) -> None:
    (tmp_path / "who.py").write_text(WHO)
    folder = tmp_path / "ml"
    folder.mkdir()
    workers = {"SAGEMAKER_MULTI_MODEL": "true", "SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
    with running(folder, packages=tmp_path, **workers) as server:
        server.wait()
        for name in ("a", "b"):
            (server.model(name) / "model.pkl").write_bytes(b"cwho\nWho\n)\x81I%d\nb." % ord(name))
            own = server.own(server.loaded(name))
        [fork_server] = tree.children(server.process.pid)
        before = set(tree.children(fork_server))
        with contextlib.closing(server.connect(own[0], PATIENCE)) as hangs:
            given = {"Content-Type": "text/csv", **times("id-1")}
            hangs.request("POST", "/models/a/invoke", b"1\n" * rows, given)
            other = server.ask("POST", "/models/b/invoke", b"1", to=own[1], content_type="text/csv")
            assert other.json[0] == ord("b")
            with pytest.raises(http.client.RemoteDisconnected):
                hangs.getresponse()
        assert "request id-1 to model a has not returned" in server.output()

        def replaced() -> bool:
            now = set(tree.children(fork_server))
            return len(now) == 2 and len(now - before) == 1

        eventually(replaced)
        pids = set()
        for socket in own:
            for name in ("a", "b"):
                with contextlib.suppress(ConnectionRefusedError):  # while it is filled
                    answer = server.ask("POST", f"/models/{name}/invoke", b"1", to=socket, content_type="text/csv")
                    assert answer.json[0] == ord(name)
                    pids.add(answer.json[1])
        assert pids <= set(tree.children(fork_server))


def test_a_server_wakes_only_while_its_processes_are_called(server: Container) -> None:
    def switches() -> int:
        for line in Path(f"/proc/{server.process.pid}/status").read_text().splitlines():
            name, _, value = line.partition(":")
            if name == "voluntary_ctxt_switches":
                return int(value)
        raise AssertionError

    booster(server.model("inline"))
    server.loaded("inline")
    socket = load(server, "idle", PLAIN)
    assert server.ask("POST", path_of("idle"), b"1", to=socket, content_type="text/csv", **times("x", 60)).status == 200

    def rests() -> bool:
        before = switches()
        time.sleep(4)
        return switches() - before < 4  # a timer that ticks twice a second wakes it eight times

    eventually(rests)  # when it has seen that nothing runs, and has trimmed its heap
    for name in ("idle", "inline"):
        server.ask("DELETE", f"/models/{name}")
    assert os.path.exists(f"/proc/{server.process.pid}")


def test_a_load_that_comes_before_the_end_of_the_model_s_process_is_reported_is_a_load(server: Container) -> None:
    """Callers see its end at once, and the platform has it loaded again: that must not be taken for loaded."""
    socket = load(server, "ends", PLAIN)
    pid = int(server.ask("POST", path_of("ends"), b"1", to=socket, content_type="text/csv").json)
    [fork_server] = tree.children(server.process.pid)
    os.kill(fork_server, signal.SIGSTOP)
    try:
        os.kill(pid, signal.SIGKILL)
        eventually(lambda: server.refuses(socket))
        with contextlib.closing(server.connect(timeout=PATIENCE)) as connection:
            body = b'{"model_name": "ends", "url": "/opt/ml/models/ends/model"}'
            connection.request("POST", "/models", body, {"Content-Type": "application/json"})
            time.sleep(0.3)  # in which it is read
            os.kill(fork_server, signal.SIGCONT)
            answer = connection.getresponse()
            assert (answer.status, len(server.own(json.loads(answer.read())))) == (200, 1)
    finally:
        os.kill(fork_server, signal.SIGCONT)
    server.ask("DELETE", "/models/ends")
