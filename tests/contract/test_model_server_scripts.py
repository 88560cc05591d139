"""Users' scripts in processes of their own: every shape, every way to fall, and nobody else the slower for it."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import signal
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from containers_of_ours import Container, Gate, ask, booster, running, said_by, script, status_of, until

from hostler.processes import tree

Load = Callable[..., dict[str, Any]]


@pytest.fixture(scope="module")
def server(stage: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running(tmp_path_factory.mktemp("ml"), SAGEMAKER_MULTI_MODEL="true") as container:
        yield container.wait()


@pytest.fixture
def load(server: Container) -> Iterator[Load]:
    loaded: list[str] = []

    def load(text: str, name: str = "s") -> dict[str, Any]:
        script(server.model(name), text)
        loaded.append(name)
        return server.loaded(name)

    yield load
    for name in loaded:
        server.ask("DELETE", f"/models/{name}")


STEPS = """
import json
def model_fn(model_dir):
    return {"dir": model_dir}
def input_fn(body, content_type):
    return {"body": body, "type": content_type}
def predict_fn(data, model):
    return {**data, **model}
def output_fn(prediction, accept):
    return json.dumps({**prediction, "accept": accept})
"""


def test_a_script_with_four_functions_is_called_as_the_toolkit_calls_it(server: Container, load: Load) -> None:
    told = load(STEPS)
    answer = server.invoke("s", b'{"a": 1}', "application/json")
    assert answer.status == 200
    assert answer.content_type == "application/json"
    folder = server.url(server.folder / "models/s/model")
    wanted = {"body": '{"a": 1}', "type": "application/json", "dir": folder, "accept": "application/json"}
    assert answer.json == wanted
    assert told["memory"] > 100_000
    direct = server.ask(
        "POST", "/models/s/invoke", b"x", to=server.place(told), content_type="text/csv", accept="text/x"
    )
    assert direct.json == {"body": "x", "type": "text/csv", "dir": folder, "accept": "text/x"}
    assert direct.content_type == "text/x"


def test_transform_fn_and_body_with_type_are_honoured(server: Container, load: Load) -> None:
    load("""
        def model_fn(d): return "m"
        def transform_fn(model, data, content_type, accept, context):
            return model.encode() + data, "image/png"
    """)
    answer = server.invoke("s", b"\x00\xff", "application/octet-stream")
    assert (answer.body, answer.content_type) == (b"m\x00\xff", "image/png")


def test_default_handlers_take_json_csv_and_npy_and_give_json(server: Container, load: Load) -> None:
    import io

    import numpy as np

    load("""
        def model_fn(d): return 2
        def predict_fn(data, model): return {"type": type(data).__name__, "twice": data * model if hasattr(data, "shape") else data}
    """)  # noqa: E501
    assert server.invoke("s", b"[[1, 2]]", "application/json").json == {"type": "ndarray", "twice": [[2, 4]]}
    assert server.invoke("s", b"1,2", "text/csv").json["twice"] == [2.0, 4.0]
    assert server.invoke("s", b"1,2\n3,4", "text/csv").json["twice"] == [[2.0, 4.0], [6.0, 8.0]]
    assert server.invoke("s", b'{"k": 1}', "application/json").json == {"type": "dict", "twice": {"k": 1}}
    stream = io.BytesIO()
    np.save(stream, np.arange(3))
    assert server.invoke("s", stream.getvalue(), "application/x-npy").json["twice"] == [0, 2, 4]
    stream = io.BytesIO()
    np.save(stream, np.array([{}]), allow_pickle=True)
    assert server.invoke("s", stream.getvalue(), "application/x-npy").status == 400
    assert server.invoke("s", b"{", "application/json").status == 400
    assert server.invoke("s", b"x", "image/png").status == 415
    assert server.invoke("s", b"[1]", "application/json", accept="image/png").status == 406


def test_a_script_imports_its_own_neighbours_and_not_those_of_others(server: Container) -> None:
    for name in ("one", "two"):
        folder = script(
            server.model(name), "import mine\ndef model_fn(d): return 0\ndef predict_fn(d, m): return mine.NAME"
        )
        script(folder, f"NAME = {name!r}", "mine.py")
        server.loaded(name)
    assert [server.invoke(name, b"1").json for name in ("one", "two")] == ["one", "two"]
    for name in ("one", "two"):
        server.ask("DELETE", f"/models/{name}")


@pytest.mark.parametrize("report", ["b'no report\\n'", "b'\\xff\\n'", """b'{"status": 99}\\n'""", "b'no end' * 2**20"])
def test_a_script_that_writes_to_the_pipe_for_its_report_fails_its_load(server: Container, report: str) -> None:
    text = f"""
        import contextlib, os
        for name in os.listdir("/proc/self/fd"):
            with contextlib.suppress(OSError):
                if int(name) > 2 and os.readlink(f"/proc/self/fd/{{name}}").startswith("pipe:"):
                    os.write(int(name), {report})
        def model_fn(d): return 1
        def predict_fn(data, model): return data
    """
    script(server.model("s"), text)
    answer = server.load("s")
    assert answer.status == 500
    assert answer.json["message"] == "its process sent a report that cannot be read"
    script(server.model("s"), STEPS)
    server.loaded("s")
    server.ask("DELETE", "/models/s")


def test_a_failing_call_is_500_with_message_and_traceback_and_the_target_lives(server: Container, load: Load) -> None:
    load("""
        import asyncio, sys
        class Mine(Exception):
            status_code, message = 422, "not this"
        async def later(): return "done"
        def model_fn(d): return 0
        def predict_fn(data, model):
            if data == 1: raise ValueError("I am broken")
            if data == 2: sys.exit(3)
            if data == 3: raise MemoryError("too much")
            if data == 4: raise Mine()
            if data == 5: return asyncio.run(later())
            if data == 6: return object()
            return "fine"
    """)

    def call(number: int):
        return server.invoke("s", str(number).encode(), "application/json")

    broken = call(1)
    assert broken.status == 500
    assert broken.text.startswith("I am broken\nTraceback (most recent call last):\n")
    assert 'code/inference.py", line' in broken.text
    assert str(server.folder) not in broken.text
    assert "site-packages" not in broken.text
    assert call(2).status == 500
    assert call(3).status == 507
    assert (call(4).status, call(4).text[:8]) == (422, "not this")
    assert call(5).json == "done"
    assert call(6).status == 500
    assert call(0).json == "fine"


PREDICT = "def predict_fn(d, m): return 1\n"


@pytest.mark.parametrize(
    ("text", "status", "says"),
    [
        (PREDICT + "def model_fn(d): raise ValueError('no luck')", 500, "no luck\nTraceback"),
        (PREDICT + "def model_fn(d): raise MemoryError()", 507, "MemoryError"),
        (PREDICT + "import sys\ndef model_fn(d): sys.exit(0)", 500, "sys.exit(0)"),
        (PREDICT + "import os\ndef model_fn(d): os._exit(0)", 500, "ended itself with exit code 0"),
        (PREDICT + "import os\ndef model_fn(d): os.kill(os.getpid(), 9)", 500, "killed by signal 9"),
        (PREDICT + "def model_fn(d): raise KeyboardInterrupt", 500, "KeyboardInterrupt"),
        (PREDICT + "def model_fn(d) return 1", 500, "SyntaxError"),
        (PREDICT + "import not_installed_anywhere", 500, "not_installed_anywhere"),
        (PREDICT, 500, "has no model_fn"),
        ("def model_fn(d): return 1", 500, "neither predict_fn nor transform_fn"),
        (PREDICT + "def model_fn(d): return 1\ndef transform_fn(*a): return 1", 500, "transform_fn beside"),
    ],
)
def test_a_script_that_does_not_load_says_why(server: Container, text: str, status: int, says: str) -> None:
    script(server.model("bad"), text)
    answer = server.load("bad")
    assert answer.status == status
    assert says in answer.json["message"]
    assert str(server.folder) not in answer.text
    assert server.ask("GET", "/models").json == {"models": []}


def test_a_named_script_that_a_target_lacks_fails_that_load_alone(tmp_path: Path) -> None:
    with running(tmp_path, SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_PROGRAM="serve.py") as server:
        server.wait()
        booster(server.model("without"))
        answer = server.load("without")
        assert answer.status == 500
        assert "SAGEMAKER_PROGRAM names serve.py, which is not there" in answer.json["message"]
        script(server.model("with"), PREDICT + "def model_fn(d): return 0", "serve.py")
        server.loaded("with")
        assert server.invoke("with", b"1").json == 1


def test_a_crash_takes_its_target_alone(server: Container, load: Load) -> None:
    load("import os\ndef model_fn(d): return 0\ndef predict_fn(d, m): os._exit(1)", "falls")
    load("def model_fn(d): return 0\ndef predict_fn(d, m): return 1", "stays")
    assert server.invoke("falls", b"1").status == 500
    end = time.monotonic() + 120
    while server.invoke("falls", b"1").status != 404:
        assert time.monotonic() < end
    assert [entry["modelName"] for entry in server.ask("GET", "/models").json["models"]] == ["stays"]
    assert server.invoke("stays", b"1").json == 1
    assert server.loaded("falls")


def test_a_flood_of_output_reaches_the_log_and_blocks_nobody(server: Container, load: Load) -> None:
    load(
        """
        def model_fn(d): return 0
        def predict_fn(d, m):
            print("flood " * 1_000_000)
            print("after")
            return 1
        """
    )
    assert server.invoke("s", b"1").json == 1
    assert server.output().rstrip().endswith("after")


def test_a_target_ends_after_its_calls_in_flight(server: Container) -> None:
    gate = Gate(server.folder, "ends")
    script(server.model("slow"), f"def model_fn(d): return 0\ndef predict_fn(d, m):\n    {gate.code}\n    return 1")
    [own] = server.own(server.loaded("slow"))
    with contextlib.closing(server.connect(own)) as connection:
        connection.request("POST", "/models/slow/invoke", b"1", {"Content-Type": "text/csv"})
        until(gate.reached)
        with contextlib.closing(server.connect()) as unload:
            unload.request("DELETE", "/models/slow")
            until(lambda: server.ask("GET", "/models/slow").status == 404)
            gate.open()
            assert connection.getresponse().read() == b"1"
            assert unload.getresponse().status == 200
    assert server.refuses(own)


def test_an_endless_load_is_broken_off_by_an_unload(server: Container) -> None:
    script(server.model("endless"), "def model_fn(d):\n    while True: pass\ndef predict_fn(d, m): pass")
    waiting = server.connect()
    waiting.request("POST", "/models", b'{"model_name": "endless", "url": "/opt/ml/models/endless/model"}')
    where = {"modelName": "endless", "modelUrl": "/opt/ml/models/endless/model"}
    until(lambda: server.ask("GET", "/models").json["models"] == [{**where, "loading": True}])
    assert server.ask("GET", "/models/endless").status == 404
    assert server.ask("DELETE", "/models/endless").status == 200
    assert status_of(waiting) == 500
    assert server.ask("GET", "/models").json["models"] == []
    _settles(server, 1)


def test_slow_loads_hold_up_no_other_target_and_no_ping(server: Container) -> None:
    trained = booster(server.model("ready"), 5.0)
    server.loaded("ready")
    stop = server.folder / "stop"
    script(
        server.model("spins"),
        f"""
        import os
        def model_fn(d):
            while not os.path.exists({str(stop)!r}): sum(range(100_000))
        def predict_fn(d, m): return 1
    """,
    )
    folder, gate = server.model("heavy"), Gate(server.folder, "heavy")
    (folder / "model.pkl").write_bytes(pickle.dumps([*((i, str(i)) for i in range(500_000)), gate]))
    waiting = []
    for name in ("spins", "heavy"):
        waiting.append(server.connect())
        waiting[-1].request("POST", "/models", json.dumps({"model_name": name, "url": f"/opt/ml/models/{name}/model"}))
    wanted = said_by(trained, [[number, 1, 2] for number in range(300)])
    with contextlib.closing(server.connect()) as connection:
        for number in range(300):
            answer = ask(connection, "POST", "/models/ready/invoke", f"{number},1,2".encode(), content_type="text/csv")
            assert answer.json == [wanted[number]]
            assert ask(connection, "GET", "/ping").status == 200
    entries = server.ask("GET", "/models").json["models"]
    assert {entry["modelName"] for entry in entries if entry.get("loading")} == {"spins", "heavy"}
    stop.touch()
    gate.open()
    assert [status_of(one) for one in waiting] == [200, 500]  # a list has no predict
    server.ask("DELETE", "/models/spins")
    server.ask("DELETE", "/models/ready")


def test_nothing_is_left_when_the_server_is_killed(tmp_path: Path) -> None:
    with running(tmp_path, SAGEMAKER_MULTI_MODEL="true") as server:
        server.wait()
        script(
            server.model("one"),
            """
            import os, subprocess, sys
            def model_fn(d):
                return subprocess.Popen([sys.executable, "-c", "import time; time.sleep(60)"]).pid
            def predict_fn(d, m): return [os.getpid(), os.getppid(), m]
        """,
        )
        server.loaded("one")
        pids = server.invoke("one", b"1").json
        server.process.kill()
        server.process.wait()
        end = time.monotonic() + 120
        while any(_runs(pid) for pid in pids):
            assert time.monotonic() < end
            time.sleep(0.02)


def _runs(pid: int) -> bool:
    try:
        with open(f"/proc/{pid}/stat") as file:
            return file.read().rpartition(")")[2].split()[0] != "Z"
    except OSError:
        return False


def test_a_lifeline_that_closes_ends_the_server_and_its_targets(tmp_path: Path) -> None:
    reading, writing = os.pipe()
    os.set_inheritable(reading, True)
    try:
        container = Container(
            tmp_path, {"SAGEMAKER_MULTI_MODEL": "true", "HOSTLER_LIFELINE": str(reading)}, keep=(reading,)
        )
    finally:
        os.close(reading)
    try:
        container.wait()
        script(container.model("one"), "import os\ndef model_fn(d): pass\ndef predict_fn(d, m): return os.getpid()")
        container.loaded("one")
        pid = container.invoke("one", b"1").json
        os.close(writing)
        assert container.process.wait(120) == 1
        end = time.monotonic() + 120
        while _runs(pid):
            assert time.monotonic() < end
            time.sleep(0.02)
    finally:
        container.end()


BAD_ANSWERS = {
    "a content type with a line end": 'return b"1", "text/csv\\n"',
    "an error that cannot be said": "raise type('Mute', (Exception,), {'__str__': lambda self: 1 / 0})()",
    "asyncio's own": "import asyncio; raise asyncio.CancelledError",
    "what is no Exception": "raise type('Odd', (BaseException,), {})('odd')",
    "a lone surrogate": "raise ValueError('\\ud800')",
}


@pytest.mark.parametrize("what", BAD_ANSWERS)
def test_every_exception_and_result_of_a_call_is_answered_at_once(server: Container, load: Load, what: str) -> None:
    load(f"def model_fn(d): return 1\ndef transform_fn(m, data, kind, accept):\n    {BAD_ANSWERS[what]}\n")
    assert server.invoke("s", b"1", "text/csv").status == 500
    assert server.invoke("s", b"1", "text/csv").status == 500, "the target lives"


@pytest.mark.parametrize(
    "raised", ["ValueError('\\ud800')", "type('Mute', (Exception,), {'__str__': lambda s: 1 / 0})()"]
)
def test_a_load_that_fails_unspeakably_fails_all_the_same(server: Container, raised: str) -> None:
    script(server.model("unsaid"), f"def model_fn(d): raise {raised}\n")
    answer = server.load("unsaid")
    assert answer.status == 500
    assert b"ended itself" not in answer.body


DAEMON = """
import os, time
def model_fn(model_dir):
    if not os.fork():
        os.setsid()
        if os.fork():
            os._exit(0)
        with open(model_dir + "/../new", "w") as file:
            file.write(str(os.getpid()))
        os.rename(file.name, model_dir + "/../daemon")  # nobody finds it empty
        time.sleep(600)
        os._exit(0)
    while not os.path.exists(model_dir + "/../daemon"):
        time.sleep(0.01)
    return 1
def predict_fn(data, model):
    return os.path.exists("/proc/" + open(%r).read())
"""


def test_a_daemon_lives_as_long_as_its_target_and_no_longer(server: Container) -> None:
    where = server.folder / "models/d/daemon"
    script(server.model("d"), DAEMON % str(where))
    server.loaded("d")
    pid = int(where.read_text())
    assert server.invoke("d", b"1", "text/csv").body == b"true"
    assert server.ask("DELETE", "/models/d").status == 200
    deadline = time.monotonic() + 120
    while os.path.exists(f"/proc/{pid}"):
        assert time.monotonic() < deadline, "the daemon outlived its target"
        time.sleep(0.02)


FORKS = """
import os, sys

def reap():
    try:
        while os.waitpid(-1, os.WNOHANG)[0]: pass
    except ChildProcessError: pass

def fork():
    reap()
    return os.fork()

def model_fn(model_dir):
    fork()
    return 0

def pieces(text):
    yield text
    fork()
    yield "|"
    try:
        yield text
    finally:
        fork()

def transform_fn(model, data, content_type, accept):
    how, _, text = data.partition(" ")
    if how == "pieces":
        return pieces(text), "text/plain"
    child = fork() == 0
    if child and how == "exits":
        sys.exit(3)
    if child and how == "raises":
        raise ValueError(text)
    return ("child " if child else "") + text, "text/plain"
"""


@pytest.mark.parametrize("how", ["returns", "exits", "raises", "pieces"])
def test_a_forked_child_that_returns_from_the_users_code_answers_no_call(
    server: Container, load: Load, how: str
) -> None:
    load(FORKS)
    with contextlib.ExitStack() as stack:
        kept = [stack.enter_context(contextlib.closing(server.connect())) for _ in range(4)]
        for number in range(25):
            texts = [f"{number}.{caller}" for caller in range(len(kept))]
            for connection, text in zip(kept, texts, strict=True):
                connection.request("POST", "/models/s/invoke", f"{how} {text}", {"Content-Type": "text/csv"})
            answers = [connection.getresponse().read().decode() for connection in kept]
            assert answers == [f"{text}|{text}" if how == "pieces" else text for text in texts]
    _settles(server, 2)


def test_a_forked_child_that_gets_sigterm_ends_alone(server: Container, load: Load) -> None:
    load("""
        import multiprocessing, os, time
        def model_fn(model_dir): return 0
        def predict_fn(data, model):
            child = multiprocessing.get_context("fork").Process(target=time.sleep, args=(60,))
            child.start()
            child.terminate()
            child.join(10)
            return [os.getpid(), child.exitcode]
    """)
    told = [server.invoke("s", b"1").json for _ in range(10)]
    assert {code for _, code in told} == {-signal.SIGTERM}
    assert len({pid for pid, _ in told}) == 1, "the same process answers"


@pytest.mark.parametrize("method", ["fork", "forkserver", "spawn"])  # Python's default is fork, since 3.14 forkserver
def test_a_script_may_start_processes_in_each_of_pythons_ways(server: Container, load: Load, method: str) -> None:
    load(
        """
        import multiprocessing
        def double(number): return 2 * number
        def model_fn(model_dir): return 0
        def predict_fn(data, model):
            with multiprocessing.get_context("METHOD").Pool(1) as pool:
                return pool.map(double, [1, 2])
    """.replace("METHOD", method)
    )
    for _ in range(2):
        assert server.invoke("s", b"1").json == [2, 4]


def test_a_model_in_the_servers_own_process_may_fork_too(tmp_path: Path) -> None:
    packages = tmp_path / "packages"
    packages.mkdir()
    (packages / "forks.py").write_text(
        "import os\n"
        "class Forks:\n"
        "    def __setstate__(self, state): os.fork()\n"
        "    def predict(self, rows): return [os.fork() and len(rows)]\n"
    )
    with running(tmp_path, SAGEMAKER_MULTI_MODEL="true", packages=packages) as server:
        server.wait()
        (server.model("s") / "model.pkl").write_bytes(b"cforks\nForks\n)\x81}(I1\nI1\nub.")
        server.loaded("s")
        with contextlib.closing(server.connect()) as kept:
            for rows in [*range(1, 50), 40_000]:  # the last goes to a thread
                answer = ask(kept, "POST", "/models/s/invoke", b"1\n" * rows, content_type="text/csv")
                assert answer.json == [rows]
        _settles(server, 1)


def _settles(server: Container, wanted: int) -> None:
    """Below the server there soon are so many living processes: the fork server, and the targets' own."""
    end = time.monotonic() + 120
    while len(tree.descendants(server.process.pid)) != wanted:
        assert time.monotonic() < end
        time.sleep(0.02)


HEADERS = """
import os
def model_fn(model_dir, context):
    with open("label.txt") as file:
        return file.read(), os.getcwd() == model_dir == context.system_properties["model_dir"]
def input_fn(body, kind, context):
    return [kind, context.get_request_header(0, "X-Amzn-SageMaker-Custom-Attributes")]
def predict_fn(data, model):
    return [*data, *model]
def output_fn(prediction, accept, context):
    context.set_response_header(0, "X-Amzn-SageMaker-Custom-Attributes", "seen")
    context.set_response_header(0, "Transfer-Encoding", "chunked")
    context.set_response_status(422, "refused")
    return prediction
"""


def test_a_call_through_the_server_has_its_headers_and_keeps_the_scripts(tmp_path: Path) -> None:
    with running(tmp_path, SAGEMAKER_MULTI_MODEL="true", HOSTLER_IMAGE="pytorch-inference:2.3.0-cpu-py311") as server:
        server.wait()
        places = {}
        for name in ("cat", "dog"):
            (script(server.model(name), HEADERS) / "label.txt").write_text(name)
            [places[name]] = server.own(server.loaded(name))
        for name in ("cat", "dog", "cat"):
            for to in ("s", places[name]):
                with contextlib.closing(server.connect(to)) as connection:
                    sent = {"Content-Type": "Text/X; a=B", "X-Amzn-SageMaker-Custom-Attributes": f"for {name}"}
                    connection.request("POST", f"/models/{name}/invoke", b"x", sent)
                    response = connection.getresponse()
                    assert response.status == 422
                    assert response.headers["X-Amzn-SageMaker-Custom-Attributes"] == "seen"
                    assert json.loads(response.read()) == ["Text/X; a=B", f"for {name}", name, True]
