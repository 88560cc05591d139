"""A server of several workers: every target has a copy in each, calls are shared, and one that ends has a successor."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
import signal
import threading
import time
from collections import Counter
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any, TypeVar

import pytest
from containers_of_ours import Answer, Container, Place, running, script

from free_ports import free_port
from hostler.processes import tree
from hostler.wire.http_call import Reply, call
from hostler.wire.http_exchange import CallFailed

T = TypeVar("T")
WORKERS = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
FATAL, TWICE, WAITS = -1, -2, -3

# What a target's pickle is made of, and how it is known who answers. FATAL ends whoever loads it; TWICE loads twice;
# WAITS is FATAL when it is told to go on.
WHO = """
import os, time

class Who:
    def __setstate__(self, number):
        self.number = number
        if number == -1:
            os._exit(3)
        if number == -2:
            folder = os.environ["SAGEMAKER_BASE_DIR"] + "/loads"
            os.makedirs(folder, exist_ok=True)
            os.mkdir(f"{folder}/{len(os.listdir(folder))}")
            if len(os.listdir(folder)) > 2:
                raise ValueError("two are enough")
        if number == -3:
            folder = os.environ["SAGEMAKER_BASE_DIR"]
            open(f"{folder}/waits", "w").close()
            while not os.path.exists(f"{folder}/go-on"):
                time.sleep(0.01)
            os._exit(3)

    def predict(self, rows):
        return [self.number, os.getpid()]
"""
SCRIPT = """
import os
def model_fn(folder):
    if os.path.exists(folder + "/spoiled"): raise ValueError("spoiled")
    return 0
def predict_fn(data, model):
    if data == [0]: os._exit(3)
    return [7, os.getpid()]
"""


@pytest.fixture
def serve(tmp_path: Path) -> Iterator[Callable[..., Container]]:
    (tmp_path / "who.py").write_text(WHO)
    with contextlib.ExitStack() as stack:

        def serve(**environment: str) -> Container:
            folder = tmp_path / "ml"
            folder.mkdir()
            told = {"SAGEMAKER_MULTI_MODEL": "true", **WORKERS, **environment}
            server = stack.enter_context(running(folder, packages=tmp_path, **told))
            return server.wait() if told.get("HOSTLER_SOCKET") != "" else server

        yield serve


def made(folder: Path, number: int) -> None:
    (folder / "model.pkl").write_bytes(b"cwho\nWho\n)\x81I%d\nb." % number)


HANGING = """
import os, signal
def model_fn(model_dir):
    try:
        os.mkdir(os.path.join(model_dir, "first"))
    except FileExistsError:
        os.mkdir(os.path.join(model_dir, "hangs"))
        while True: signal.pause()
def predict_fn(data, model): return 1
"""


def loaded(server: Container, name: str, number: int) -> dict[str, Any]:
    made(server.model(name), number)
    return server.loaded(name)


def processes(server: Container) -> list[int]:
    """The living children of the server's fork server."""
    [fork_server] = tree.children(server.process.pid)
    return tree.children(fork_server)


def eventually(look: Callable[[], T], within: float = 120) -> T:
    end = time.monotonic() + within
    while not (found := look()):
        assert time.monotonic() < end, f"not in {within} s: {found}"
        time.sleep(0.02)
    return found


def who(answer: Answer) -> tuple[int, int]:
    """The target's number, and the process that answered."""
    assert answer.status == 200, answer
    number, pid = answer.json
    return number, pid


def workers(server: Container) -> list[Place]:
    """Where a server with two workers, and nothing else that listens, may be called besides itself."""
    return [*server.safe_ports[:-3:-1]] if server.at_ports else ["w0", "w1"]


def nothing_else_listens(server: Container) -> bool:
    """Whether the server and its workers are all that can be called."""
    if server.at_ports:
        return {port for port in server.safe_ports if not server.refuses(port)} == set(workers(server))
    return {path.name for path in server.sockets.iterdir()} == {"s", "w0", "w1"}


def settled(server: Container, names: dict[str, int]) -> None:
    """Both workers answer by themselves, with these targets and with none else."""

    def look() -> bool:
        for place in workers(server):
            try:
                for name, number in names.items():
                    answer = server.ask("POST", f"/models/{name}/invoke", b"1", to=place, content_type="text/csv")
                    assert who(answer)[0] == number
                listing = server.ask("GET", "/models", to=place)
            except OSError:
                return False  # nobody listens there, for the moment
            if server.at_ports:
                assert listing.status == 404, "only calls are answered there"
            else:
                assert {model["modelName"] for model in listing.json["models"]} == set(names)
        return True

    eventually(look)


def test_every_worker_has_a_copy_and_memory_counts_for_each(serve: Callable[..., Container]) -> None:
    server = serve()
    told = loaded(server, "a", 1)
    assert server.own(told) == workers(server)
    if not server.at_ports:
        [entry] = server.ask("GET", "/models", to="w0").json["models"]
        assert told["memory"] == 2 * entry["memory"]
    pids = {who(to(server, own, "a")) for own in workers(server)}
    assert len(pids) == 2
    assert {pid for _, pid in pids} == set(processes(server))
    assert server.load("a").status == 409
    assert server.ask("DELETE", "/models/a").status == 200
    settled(server, {})
    assert server.invoke("a", b"1").status == 404


def test_a_target_of_processes_of_its_own_has_as_many(serve: Callable[..., Container]) -> None:
    server = serve()
    script(server.model("s"), SCRIPT)
    told = server.loaded("s")
    assert len(server.own(told)) == 2
    pids = {who(to(server, place)) for place in server.own(told)}
    assert len(pids) == 2
    assert len(processes(server)) == 4
    assert server.ask("DELETE", "/models/s").status == 200
    assert len(processes(server)) == 2
    assert nothing_else_listens(server)


def test_a_script_that_does_not_load_is_tried_once_and_reported_once(serve: Callable[..., Container]) -> None:
    server = serve()
    (script(server.model("s"), SCRIPT) / "spoiled").touch()
    assert server.load("s").status == 500
    assert server.output().count("Traceback") == 1
    assert len(processes(server)) == 2


@pytest.mark.parametrize("hangs", ["first", "second"])
def test_an_unload_ends_the_processes_of_a_load_in_progress(serve: Callable[..., Container], hangs: str) -> None:
    server = serve()
    folder = script(server.model("s"), HANGING)
    if hangs == "first":
        (folder / "first").touch()
    with contextlib.closing(server.connect()) as loading:
        loading.request("POST", "/models", b'{"model_name": "s", "url": "/opt/ml/models/s/model"}')
        eventually((folder / "hangs").exists)
        [entry] = server.ask("GET", "/models").json["models"]
        assert entry == {"modelName": "s", "modelUrl": "/opt/ml/models/s/model", "loading": True}
        assert server.ask("DELETE", "/models/s").status == 200
        assert len(processes(server)) == 2
        answer = loading.getresponse()
        assert (answer.status, b"unloaded while it was being loaded" in answer.read()) == (500, True)
    assert nothing_else_listens(server)
    settled(server, {})


def test_calls_to_the_server_itself_are_shared_among_its_workers(serve: Callable[..., Container]) -> None:
    port = free_port()
    server = serve(HOSTLER_SOCKET="", SAGEMAKER_BIND_TO_PORT=str(port))
    made(server.model("a"), 1)

    async def post(path: str, body: bytes) -> Reply:
        headers = {"content-type": "text/csv"}
        return await call(f"tcp:{server.host}:{port}", "POST", path, headers=headers, body=body, timeout=120)

    async def play() -> Counter[int]:
        async with asyncio.timeout(120):
            while True:
                with contextlib.suppress(CallFailed):
                    told = await post("/models", b'{"model_name": "a", "url": "/opt/ml/models/a/model"}')
                    break
                await asyncio.sleep(0.05)
        assert (told.status, b"socket" in told.body) == (200, False)
        answers = await asyncio.gather(*(post("/models/a/invoke", b"1") for _ in range(100)))
        return Counter(who(Answer(one.status, one.body, ""))[1] for one in answers)

    found = asyncio.run(play())
    assert len(found) == 2
    assert all(count > 25 for count in found.values()), found


def test_a_worker_that_is_killed_has_a_successor_that_holds_it_all(serve: Callable[..., Container]) -> None:
    server = serve()
    names = {f"t{number}": number for number in range(20)}
    for name, number in names.items():
        loaded(server, name, number)
    before = set(processes(server))
    for pid in before:
        os.kill(pid, signal.SIGKILL)
    # A call that reaches a process while it dies is lost; one that finds nobody there waits.
    eventually(lambda: server.invoke("t3", b"1").status == 200)
    settled(server, names)
    assert not before & set(processes(server))


def test_a_model_that_ends_its_process_ends_one_worker_and_its_own_load(serve: Callable[..., Container]) -> None:
    server = serve()
    loaded(server, "a", 1)
    before = processes(server)
    made(server.model("bad"), FATAL)
    answer = server.load("bad")
    assert answer.status == 500
    assert "its worker process did not load it" in answer.json["message"]
    assert answer.json["processEnded"] == 3
    settled(server, {"a": 1})
    assert len(set(before) & set(processes(server))) == 1


def test_a_load_that_waits_behind_one_that_ends_its_worker_succeeds_in_another(serve: Callable[..., Container]) -> None:
    server = serve()
    names = {f"t{number}": number for number in range(12)}
    for name, number in names.items():
        made(server.model(name), number)
    made(server.model("bad"), WAITS)
    with ThreadPoolExecutor(13) as pool:
        bad = pool.submit(server.load, "bad")
        eventually((server.folder / "waits").exists)
        good = [pool.submit(server.load, name) for name in names]
        time.sleep(0.2)  # they are on their way to the worker
        (server.folder / "go-on").touch()
    assert bad.result().json["processEnded"] == 3
    assert [one.result().status for one in good] == [200] * 12
    settled(server, names)


def test_a_target_that_a_replacement_cannot_load_is_unloaded_everywhere(serve: Callable[..., Container]) -> None:
    server = serve()
    loaded(server, "a", 1)
    loaded(server, "bad", TWICE)
    os.kill(processes(server)[0], signal.SIGKILL)
    eventually(lambda: server.invoke("bad", b"1").status == 404)
    settled(server, {"a": 1})
    assert "model bad cannot be loaded again" in server.output()


def test_a_scripts_process_has_a_successor_and_without_one_the_target_goes(serve: Callable[..., Container]) -> None:
    server = serve()
    folder = script(server.model("s"), SCRIPT)
    places = server.own(server.loaded("s"))
    time.sleep(1.1)  # so long it has to live to be replaced at once
    assert server.invoke("s", b"0").status == 500
    assert who(server.invoke("s", b"1"))[0] == 7
    eventually(lambda: len(processes(server)) == 4)
    assert len({eventually(lambda place=place: listening(server, place)) for place in places}) == 2
    (folder / "spoiled").touch()
    assert server.invoke("s", b"0").status == 500
    eventually(lambda: server.invoke("s", b"1").status == 404)
    eventually(lambda: len(processes(server)) == 2)


def listening(server: Container, place: Place) -> tuple[int, int] | None:
    """Who answers there; None while the process, which is there already, does not listen yet."""
    with contextlib.suppress(ConnectionRefusedError):
        return who(to(server, place))
    return None


def to(server: Container, place: Place, name: str = "s") -> Answer:
    """Call a target in one of its processes."""
    return server.ask("POST", f"/models/{name}/invoke", b"1", to=place, content_type="text/csv")


def test_nothing_outlives_a_server_that_is_killed(serve: Callable[..., Container]) -> None:
    server = serve()
    script(server.model("s"), SCRIPT)
    server.loaded("s")
    left = tree.descendants(server.process.pid)
    assert len(left) == 5
    server.process.kill()
    server.process.wait()
    eventually(lambda: not set(left) & set(tree.parents()))


@pytest.mark.slow
def test_every_answer_is_its_own_targets_while_targets_change_and_workers_are_killed(
    serve: Callable[..., Container],
) -> None:
    server = serve()
    stop = threading.Event()
    numbers: dict[str, int] = {}  # target name -> the number that it answers
    correct = [0] * 4  # correct answers of each caller

    def change_and_invoke(caller: int) -> None:
        random_ = random.Random(caller)
        while not stop.is_set():
            name, number = f"t{caller}.{random_.randrange(3)}", random_.randrange(10**6)
            if name in numbers:
                assert server.ask("DELETE", f"/models/{name}").status in (200, 404)
                del numbers[name]
            made(server.model(name), number)
            if server.load(name).status != 200:
                continue
            numbers[name] = number
            for _ in range(5):
                answer = server.invoke(name, b"1")
                assert answer.status in (500, 404) or who(answer)[0] == number
                correct[caller] += answer.status == 200

    with ThreadPoolExecutor(4) as pool:
        callers = [pool.submit(change_and_invoke, caller) for caller in range(4)]

        def each_has_more_than(counts: list[int]) -> bool:
            for caller in callers:
                if caller.done():
                    caller.result()  # raises its error
            return all(now > then for now, then in zip(correct, counts, strict=True))

        try:
            for _ in range(6):
                time.sleep(1.3)  # a worker that has lived for a second is replaced at once
                for pid in processes(server)[:1]:
                    os.kill(pid, signal.SIGKILL)
                after = [count + 3 for count in correct]  # and one more: over 20 in six rounds
                eventually(lambda after=after: each_has_more_than(after), 60)
        finally:
            stop.set()
        for caller in callers:
            caller.result()
    there = {model["modelName"] for model in server.ask("GET", "/models").json["models"]}
    settled(server, {name: number for name, number in numbers.items() if name in there})
