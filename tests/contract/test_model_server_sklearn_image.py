"""Our own server in the scikit-learn image's place, as a process: what goes over HTTP, and what a script can import."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers_of_ours import Container, estimator, running, script

SCRIPT = """
from sagemaker_containers.beta.framework import content_types, encoders, worker
from sagemaker_sklearn_container import serving

import logging, os

def model_fn(d): logging.getLogger("mine").info("loading %s", "it")
def input_fn(body, content_type):
    if content_type == "text/plain":
        raise LookupError("no such row")
    return serving.default_input_fn(body, content_type)
def predict_fn(data, model): return data * 2 if os.environ["SM_MODEL_DIR"].endswith("model") else None
def output_fn(prediction, accept):
    body = encoders.encode(prediction, content_types.JSON)
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "a trace"}
    return worker.Response(body, mimetype=content_types.JSON, headers=headers)
def execution_parameters_fn(): raise AssertionError("it is not asked for")
"""
SKLEARN = {"HOSTLER_FRAMEWORK": "sklearn", "HOSTLER_IMAGE": "sagemaker-scikit-learn:1.2-1-cpu-py3"}


@pytest.fixture(scope="module")
def server(stage: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    folder = tmp_path_factory.mktemp("ml")
    (folder / "model").mkdir()
    script(folder / "model", SCRIPT)
    with running(folder, **SKLEARN) as container:
        yield container.wait()


def test_a_script_is_served_without_its_name(server: Container) -> None:
    answer = server.ask("POST", "/invocations", b'["1", "2"]', content_type="application/json")
    assert (answer.status, answer.json) == (200, [2.0, 4.0])


def test_what_a_script_logs_is_in_the_log_as_the_image_formats_it(server: Container) -> None:
    assert "INFO - mine - loading it\n" in server.output()


def test_a_module_that_is_installed_comes_before_ours(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    installed = tmp_path / "packages/sagemaker_containers/beta/framework"
    installed.mkdir(parents=True)
    (installed / "worker.py").write_text("NAME = 'the real one'\n")
    text = """
        from sagemaker_containers.beta.framework import worker
        from sagemaker_inference import content_types
        def model_fn(d): return None
        def transform_fn(*_): return worker.NAME
    """
    script(tmp_path / "model", text)
    for package in (installed, installed.parent, installed.parent.parent):
        (package / "__init__.py").touch()
    with running(tmp_path, packages=tmp_path / "packages", **SKLEARN) as container:
        container.wait()
        assert container.ask("POST", "/invocations", b"").text == "the real one"


def test_headers_of_a_response_are_sent(server: Container) -> None:
    [own] = server.own(server.ask("GET", "/ping").json)  # where gateways send invocations
    with contextlib.closing(server.connect(own)) as connection:
        connection.request("POST", "/invocations", b"[1]", {"Content-Type": "application/json"})
        response = connection.getresponse()
        assert response.headers["X-Amzn-SageMaker-Custom-Attributes"] == "a trace"
        assert response.headers["Content-Type"] == "application/json"


def test_a_scripts_error_is_told_with_its_traceback(server: Container) -> None:
    answer = server.ask("POST", "/invocations", b"x", content_type="text/plain")
    assert answer.status == 500
    assert answer.text.startswith("no such row\nTraceback")
    assert 'inference.py", line 10, in input_fn' in answer.text


def test_no_script_is_asked_for_execution_parameters(server: Container) -> None:
    assert server.ask("GET", "/execution-parameters").json["MaxPayloadInMB"] == 6


def test_a_pickle_without_a_script_is_served(tmp_path: Path) -> None:
    (tmp_path / "model").mkdir()
    fitted = estimator(tmp_path / "model")
    with running(tmp_path, **SKLEARN) as container:
        container.wait()
        answer = container.ask("POST", "/invocations", b"[[1, 2]]", content_type="application/json")
        assert answer.json == fitted.predict([[1, 2]]).tolist()
