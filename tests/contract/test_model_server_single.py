"""The single-model half of the container contract (§5.4, §5.5), asked of our own server as a process."""

from __future__ import annotations

import contextlib
import http.client
import time
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httptools
import msgspec
import pytest
from containers_of_ours import Container, Gate, booster, estimator, running, said_by, script, status_of, until

from free_ports import free_port


@pytest.fixture
def model(tmp_path: Path) -> Path:
    folder = tmp_path / "model"
    folder.mkdir()
    return folder


def test_xgboost_answers_invocations_as_awss_container_does(tmp_path: Path, model: Path) -> None:
    trained = booster(model, 3.0)
    with running(tmp_path, cold=True, HOSTLER_FRAMEWORK="xgboost") as server:
        server.wait()
        wanted = said_by(trained, [[1, 2, 3], [4, 5, 6]])
        csv = server.ask("POST", "/invocations", b"1,2,3\n4,5,6", content_type="text/csv")
        assert csv.text == "".join(f"{value}\n" for value in wanted)
        many = server.ask("POST", "/invocations", b"1,2,3\n" * 20_000, content_type="text/csv")
        assert many.text == f"{wanted[0]}\n" * 20_000
        as_json = server.ask("POST", "/invocations", b"1,2,3", content_type="text/csv", accept="application/json")
        assert as_json.json == {"predictions": [{"score": wanted[0]}]}
        assert server.ask("GET", "/models").status == 404
        assert server.ask("GET", "/invocations").status == 405
        assert server.ask("GET", "/execution-parameters").status == 200
        assert server.end() == 0


def test_several_classes_are_a_line_a_row(tmp_path: Path, model: Path) -> None:
    trained = booster(model, objective="multi:softprob", num_class=3)
    with running(tmp_path, HOSTLER_FRAMEWORK="xgboost") as server:
        server.wait()
        wanted = said_by(trained, [[1, 2, 3], [4, 5, 6]])
        answer = server.ask("POST", "/invocations", b"1,2,3\n4,5,6", content_type="text/csv").text
        assert [[float(value) for value in line.split(",")] for line in answer.splitlines()] == wanted


def test_a_default_accept_in_the_environment_is_the_default(tmp_path: Path, model: Path) -> None:
    booster(model)
    with running(tmp_path, SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT="application/json") as server:
        server.wait()
        assert "predictions" in server.ask("POST", "/invocations", b"1,2,3", content_type="text/csv", accept="*/*").json


def test_a_pickle_that_is_not_small_is_served_from_a_process_of_its_own(tmp_path: Path, model: Path) -> None:
    fitted = estimator(model)
    (model / "ballast.bin").write_bytes(bytes(2**20 + 1))
    with running(tmp_path, HOSTLER_FRAMEWORK="sklearn") as server:
        server.wait()
        answer = server.ask("POST", "/invocations", b"[[1, 2]]", content_type="application/json")
        assert answer.json == fitted.predict([[1, 2]]).tolist()
        [own] = server.own(server.ask("GET", "/ping").json)
        answer = server.ask("POST", "/invocations", b"[[1, 2]]", to=own, content_type="application/json")
        assert answer.json == fitted.predict([[1, 2]]).tolist()


def test_a_script_is_pinged_while_its_code_runs_and_replaced_when_it_crashes(tmp_path: Path, model: Path) -> None:
    gate = Gate(tmp_path, "gate")
    script(
        model,
        f"""
        import os
        def model_fn(d): return 0
        def predict_fn(data, model):
            if data == "fall": os._exit(1)
            if data == "wait": {gate.code}
            return os.getpid()
        """,
    )
    with running(tmp_path) as server:
        server.wait()
        first = server.ask("POST", "/invocations", b"0", content_type="application/json").json
        slow = server.connect()
        slow.request("POST", "/invocations", b'"wait"', {"Content-Type": "application/json"})
        until(gate.reached)
        for _ in range(20):
            assert server.ask("GET", "/ping").status == 200
        gate.open()
        assert status_of(slow) == 200
        assert server.ask("POST", "/invocations", b'"fall"', content_type="application/json").status == 500
        server.wait()
        end = time.monotonic() + 120
        while (answer := server.ask("POST", "/invocations", b"0", content_type="application/json")).status != 200:
            assert time.monotonic() < end
        assert answer.json != first


def test_the_end_waits_for_calls_in_flight(tmp_path: Path, model: Path) -> None:
    gate = Gate(tmp_path, "gate")
    script(model, f"def model_fn(d): pass\ndef predict_fn(d, m):\n    {gate.code}\n    return 'done'")
    with running(tmp_path, cold=True) as server:
        server.wait()
        with contextlib.closing(server.connect()) as slow:
            slow.request("POST", "/invocations", b"1", {"Content-Type": "text/csv"})
            until(gate.reached)
            server.process.terminate()
            until(lambda: server.refuses("s"))
            gate.open()
            assert slow.getresponse().read() == b'"done"'
        assert server.process.wait(120) == 0


def test_the_script_may_lie_in_the_submit_directory(tmp_path: Path, model: Path) -> None:
    (tmp_path / "submitted").mkdir()
    (tmp_path / "submitted/serve_me.py").write_text("def model_fn(d): return 1\ndef predict_fn(d, m): return m")
    for place in (str(tmp_path / "submitted"), "/opt/ml/submitted"):
        with running(tmp_path, SAGEMAKER_PROGRAM="serve_me.py", SAGEMAKER_SUBMIT_DIRECTORY=place) as server:
            server.wait()
            assert server.ask("POST", "/invocations", b"1", content_type="application/json").json == 1


@pytest.mark.parametrize("framework", ["xgboost", "sklearn", "script", "auto"])
def test_a_model_that_does_not_load_ends_the_server_with_the_reason(
    tmp_path: Path, model: Path, framework: str
) -> None:
    (model / "one.txt").write_text("1")
    (model / "two.txt").write_text("2")
    with running(tmp_path, HOSTLER_FRAMEWORK=framework) as server:
        assert server.process.wait(120) == 1
        assert "the model does not load: " in server.output()


FALLS = """
def model_fn(d):
    return open("/etc/nothing/here/weights.bin")
def predict_fn(data, model): return 1
"""


@pytest.mark.parametrize(
    ("text", "last"),
    [
        (FALLS, "[Errno 2] No such file or directory: 'weights.bin'"),
        ("def model_fn(d): raise ValueError('first' + chr(10) + 'second')", "first"),
        ("def model_fn(d): raise ValueError('x' * 5000)", "x" * 500 + "..."),
        (
            "raise ModuleNotFoundError('No module named xgboost', name='xgboost')",
            "ModuleNotFoundError: No module named xgboost: pip install 'hostler[xgboost]'",
        ),
        ("def model_fn(d): return 1", "inference.py has neither predict_fn nor transform_fn"),
    ],
)
def test_the_logs_last_line_is_the_reason_after_one_traceback_of_the_users_own(
    tmp_path: Path, model: Path, text: str, last: str
) -> None:
    script(model, text)
    with running(tmp_path, HOSTLER_FRAMEWORK="script") as server:
        assert server.process.wait(120) == 1
        said = server.output()
        assert said.splitlines()[-1] == f"the model does not load: {last}"
        assert said.count("Traceback") == (0 if "neither" in last else 1)
        assert "hostler/" not in said
        assert "servers/" not in said
        assert str(tmp_path) not in said
        if text is FALLS:
            assert 'File "/opt/ml/model/code/inference.py", line 3, in model_fn' in said


def test_a_named_script_that_is_missing_ends_the_server_with_a_list_of_the_folders(tmp_path: Path, model: Path) -> None:
    booster(model)
    places = {"SAGEMAKER_PROGRAM": "serve.py", "SAGEMAKER_SUBMIT_DIRECTORY": str(tmp_path / "code")}
    with running(tmp_path, HOSTLER_FRAMEWORK="xgboost", **places) as server:
        assert server.process.wait(120) == 1
        assert server.output().splitlines()[-1] == (
            "the model does not load: SAGEMAKER_PROGRAM names serve.py, which is not there: neither in the artifact's "
            "folder code, nor at the artifact's top, nor in the submit directory /opt/ml/code"
        )


def test_a_script_that_is_not_named_is_ignored_with_a_message_on_the_xgboost_image(tmp_path: Path, model: Path) -> None:
    booster(model)
    script(model, "def model_fn(d): return 1")
    with running(tmp_path, HOSTLER_FRAMEWORK="xgboost") as server:
        server.wait()
        assert server.ask("POST", "/invocations", b"1,2,3", content_type="text/csv").status == 200
        assert "inference.py in the artifact is ignored: no SAGEMAKER_PROGRAM names it" in server.output()


def test_a_named_script_with_model_fn_alone_predicts_on_the_xgboost_image(tmp_path: Path, model: Path) -> None:
    trained = booster(model, 3.0)
    script(
        model,
        """
        import os, xgboost
        def model_fn(d):
            model = xgboost.Booster()
            model.load_model(os.path.join(d, "xgboost-model"))
            return model
        """,
        "serve.py",
    )
    with running(tmp_path, HOSTLER_FRAMEWORK="xgboost", SAGEMAKER_PROGRAM="serve.py") as server:
        server.wait()
        answer = server.ask("POST", "/invocations", b"1,2,3", content_type="text/csv")
        assert answer.json == said_by(trained, [[1, 2, 3]])


def test_a_framework_that_is_not_installed_ends_the_server_with_the_install_command(
    tmp_path: Path, model: Path
) -> None:
    # -S leaves out site-packages; what the server itself needs is linked into a folder of its own
    packages = tmp_path / "packages"
    packages.mkdir()
    for package in (httptools, msgspec):
        (packages / package.__name__).symlink_to(Path(package.__file__).parent)
    with running(tmp_path, HOSTLER_FRAMEWORK="xgboost", options=("-S",), packages=packages) as server:
        assert server.process.wait(120) == 1
        assert "needs xgboost: pip install 'hostler[xgboost]'" in server.output()
    (packages / "sklearn").mkdir()  # there, but without the joblib that it comes with
    with running(tmp_path, HOSTLER_FRAMEWORK="sklearn", options=("-S",), packages=packages) as server:
        assert server.process.wait(120) == 1
        wanted = "ModuleNotFoundError: No module named 'joblib': pip install 'hostler[sklearn]'"
        assert server.output().strip() == wanted
    with running(tmp_path, HOSTLER_FRAMEWORK="onnx", options=("-S",), packages=packages) as server:
        assert server.process.wait(120) == 1
        assert server.output().strip() == "this model needs onnxruntime: pip install 'hostler[onnx]'"
    (model / "model.pt").touch()
    with running(tmp_path, HOSTLER_FRAMEWORK="torch", options=("-S",), packages=packages) as server:
        assert server.process.wait(120) == 1
        wanted = "the model does not load: this model needs torch: pip install 'hostler[torch]'"
        assert server.output().strip() == wanted
    script(model, "def model_fn(d): return 1\ndef predict_fn(d, m): return [d, m]")
    with running(tmp_path, HOSTLER_FRAMEWORK="torch", options=("-S",), packages=packages) as server:
        server.wait()  # its image's scripts may do without it
        assert server.ask("POST", "/invocations", b"[1]", content_type="application/json").json == [[1], 1]
    with running(tmp_path, SAGEMAKER_MULTI_MODEL="true", options=("-S",), packages=packages) as server:
        server.wait()
        server.model("x").joinpath("xgboost-model").write_bytes(b"{}")
        answer = server.load("x")
        assert (answer.status, "hostler[xgboost]" in answer.text) == (500, True)
        script(server.model("plain"), "def model_fn(d): return 1\ndef predict_fn(d, m): return [d, m]")
        server.loaded("plain")
        assert server.invoke("plain", b'[[1, 2], {"a": null}]', "application/json").json == [[[1, 2], {"a": None}], 1]


def test_without_a_socket_it_listens_on_the_given_port(tmp_path: Path, model: Path) -> None:
    booster(model)
    port = free_port()
    container = Container(tmp_path, {"HOSTLER_SOCKET": "", "SAGEMAKER_BIND_TO_PORT": str(port)})
    try:
        end = time.monotonic() + 120
        while True:
            connection = http.client.HTTPConnection("127.0.0.1", port, timeout=5)
            with contextlib.closing(connection), contextlib.suppress(OSError):
                connection.request("GET", "/ping")
                if connection.getresponse().status == 200:
                    break
            assert time.monotonic() < end, container.output()
            time.sleep(0.02)
    finally:
        assert container.end() == 0


def test_a_variable_that_is_no_number_is_named(tmp_path: Path) -> None:
    with running(tmp_path, cold=True, SAGEMAKER_BIND_TO_PORT="many") as server:
        assert server.process.wait(120) == 1
        assert "SAGEMAKER_BIND_TO_PORT is not a number: many" in server.output()


FALLS = """
import os, time
def model_fn(model_dir):
    base = os.path.dirname(model_dir)
    if os.path.exists(base + "/held"):
        open(base + "/loading", "w").close()
        while not os.path.exists(base + "/go"):
            time.sleep(0.01)
        if os.path.exists(base + "/broken"):
            raise ValueError("no luck")
    return 0
def transform_fn(model, data, content_type, accept):
    if data == "fall": os._exit(1)
    return data, "text/plain"
"""


def _invocation(server: Container, text: str) -> http.client.HTTPConnection:
    connection = server.connect()
    connection.request("POST", "/invocations", text, {"Content-Type": "text/csv"})
    return connection


def _fallen(server: Container) -> None:
    """The model's process has ended, and the next one is loading until the file `go` is there."""
    (server.folder / "held").touch()
    assert server.ask("POST", "/invocations", b"fall", content_type="text/csv").status == 500
    end = time.monotonic() + 120
    while not (server.folder / "loading").exists():
        assert time.monotonic() < end
        time.sleep(0.01)


def test_a_call_waits_while_a_crashed_model_is_loaded_again(tmp_path: Path, model: Path) -> None:
    script(model, FALLS)
    with running(tmp_path) as server:
        server.wait()
        _fallen(server)
        waiting = [_invocation(server, str(number)) for number in range(20)]
        waiting[7].close()
        assert server.ask("GET", "/ping").status == 503
        (server.folder / "go").touch()
        for number, connection in enumerate(waiting):
            if number != 7:
                with contextlib.closing(connection), connection.getresponse() as response:
                    assert (response.status, response.read()) == (200, str(number).encode())
        assert server.ask("GET", "/ping").status == 200


def test_a_call_that_waits_for_a_crashed_model_that_does_not_load_again_is_refused(tmp_path: Path, model: Path) -> None:
    script(model, FALLS)
    with running(tmp_path) as server:
        server.wait()
        _fallen(server)
        waiting = [_invocation(server, "1") for _ in range(5)]
        assert server.ask("GET", "/ping").status == 503
        (server.folder / "broken").touch()
        (server.folder / "go").touch()
        assert [status_of(connection) for connection in waiting] == [503] * 5
        assert server.process.wait(120) == 1
        assert server.output().splitlines()[-1] == "the model does not load: no luck"


def test_the_end_does_not_wait_for_calls_that_wait_for_a_crashed_model(tmp_path: Path, model: Path) -> None:
    script(model, FALLS)
    with running(tmp_path) as server:
        server.wait()
        _fallen(server)
        waiting = _invocation(server, "1")
        assert server.ask("GET", "/ping").status == 503
        assert server.end() == 0
        assert status_of(waiting) == 503


def test_only_the_calls_in_flight_in_the_crashed_process_fail(tmp_path: Path, model: Path) -> None:
    script(model, FALLS)
    answered: list[tuple[str, bytes]] = []
    with running(tmp_path) as server, ThreadPoolExecutor(4) as callers:
        server.wait()

        def call(caller: int) -> None:
            for number in range(200):
                text = f"{caller}.{number}"
                answered.append((text, server.ask("POST", "/invocations", text.encode(), content_type="text/csv").body))

        calls = [callers.submit(call, caller) for caller in range(4)]
        for _ in range(10):
            assert server.ask("POST", "/invocations", b"fall", content_type="text/csv").status == 500
        for done in calls:
            done.result()
    failed = [body for text, body in answered if body != text.encode()]
    assert len(failed) <= 4 * 10, "at most what each caller had on its way at each fall"
    assert set(failed) <= {b"The model's process did not answer: the connection ended without an answer"}
