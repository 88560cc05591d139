"""TorchScript and ONNX in our model server, beside the other frameworks."""

from __future__ import annotations

import json
import pickle
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from containers_of_ours import Container, booster, estimator, onnx_model, running, said_by, script, torchscript

LARGE = 2**21  # bytes; a model of this size has a process of its own


@pytest.fixture(scope="module")
def pytorch(stage: None, tmp_path_factory: pytest.TempPathFactory, require: Callable[..., None]) -> Iterator[Container]:
    require("torch")
    folder = tmp_path_factory.mktemp("ml")
    with running(folder, SAGEMAKER_MULTI_MODEL="true", HOSTLER_FRAMEWORK="torch") as container:
        yield container.wait()


@pytest.mark.parametrize("padding", [0, LARGE])
def test_ten_torchscript_targets_on_one_server_each_give_their_own(pytorch: Container, padding: int) -> None:
    names = [f"t{number}" for number in range(10)]
    told = {}
    for number, name in enumerate(names):
        torchscript(pytorch.model(name), 100.0 * number, padding=padding)
        told[name] = pytorch.loaded(name)
    for number, name in [*enumerate(names)] * 3:
        assert pytorch.invoke(name, b"[[1, 2, 3]]", "application/json").json == [[6 + 100.0 * number]]
        assert pytorch.invoke(name, b"1,2,3\n4,5,6", accept="text/csv").text == (
            f"{6.0 + 100 * number}\n{15.0 + 100 * number}\n"
        )
    for name in names:
        assert told[name]["memory"] >= padding
        assert bool(pytorch.own(told[name])) == bool(padding)
        assert pytorch.ask("DELETE", f"/models/{name}").status == 200
    if padding:  # torch is imported once for all of them
        assert sum(one["memory"] for one in told.values()) < 10 * 150 * 2**20


def test_wrong_calls_of_a_torchscript_target_are_the_callers_mistake(pytorch: Container) -> None:
    torchscript(pytorch.model("t"))
    pytorch.loaded("t")
    answer = pytorch.invoke("t", b"[[1, 2]]", "application/json")
    assert answer.status == 400
    why = "The model does not take this input, float32 of shape (1, 2): mat1 and mat2 shapes cannot be multiplied"
    assert answer.text.startswith(why)
    assert "rows @ self.weight" in answer.text, "TorchScript's own traceback is there"
    assert str(pytorch.folder) not in answer.text
    assert pytorch.invoke("t", b"x", "image/png").status == 415
    assert pytorch.invoke("t", b"1,2,3", accept="image/png").status == 406
    assert pytorch.invoke("t", b"1,2,3").json == [6.0]
    pytorch.ask("DELETE", "/models/t")


def test_a_script_on_the_pytorch_image_has_that_images_defaults(pytorch: Container) -> None:
    folder = script(
        pytorch.model("s"),
        """
        import os, torch
        def model_fn(model_dir): return torch.jit.load(os.path.join(model_dir, "model.pt"))
        """,
    )
    torchscript(folder, 0.5)
    assert pytorch.own(pytorch.loaded("s"))
    assert pytorch.invoke("s", b"[[1, 2, 3]]", "application/json").json == [[6.5]]
    assert pytorch.invoke("s", b"1,2,3", accept="text/csv").text == "6.5\n"
    script(
        pytorch.model("p"),
        """
        def model_fn(model_dir): return 1
        def predict_fn(data, model): return data if isinstance(data, dict) else {str(data.dtype): data * 2}
        """,
    )
    pytorch.loaded("p")
    assert pytorch.invoke("p", b"[1, 2]", "application/json").json == {"torch.float32": [2.0, 4.0]}
    assert pytorch.invoke("p", b'{"inputs": "text"}', "application/json").json == {"inputs": "text"}
    for name in "sp":
        pytorch.ask("DELETE", f"/models/{name}")


def test_an_error_of_the_pytorch_image_says_what_to_do(pytorch: Container) -> None:
    import torch

    torch.save({"weight": torch.ones(1)}, pytorch.model("state") / "model.pth")
    answer = pytorch.load("state")
    assert answer.status == 500
    assert "model.pth is no TorchScript" in answer.json["message"]
    assert "add code/inference.py with a model_fn" in answer.json["message"]
    folder = pytorch.model("hub")
    for name in ("config.json", "model.safetensors"):
        (folder / name).touch()
    assert "add code/inference.py with model_fn and predict_fn" in pytorch.load("hub").json["message"]


@pytest.fixture(scope="module")
def server(stage: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running(tmp_path_factory.mktemp("ml"), SAGEMAKER_MULTI_MODEL="true") as container:
        yield container.wait()


@pytest.mark.require("torch")
def test_targets_of_every_framework_live_in_one_server(server: Container) -> None:
    trained = booster(server.model("xgboost"), 5.0)
    fitted = estimator(server.model("sklearn"))
    torchscript(server.model("torch"), 7.0)
    onnx_model(server.model("onnx"), 9.0)
    torchscript(server.model("torch-large"), 8.0, padding=LARGE)
    onnx_model(server.model("onnx-large"), 10.0, padding=LARGE)
    script(server.model("script"), "def model_fn(d): return 3\ndef predict_fn(d, m): return d * m")
    names = ("xgboost", "sklearn", "torch", "onnx", "torch-large", "onnx-large", "script")
    sockets = {name for name in names if server.own(server.loaded(name))}
    assert sockets == {"torch-large", "onnx-large", "script"}
    for _ in range(3):
        assert server.invoke("xgboost", b"1,2,3").json == said_by(trained, [[1, 2, 3]])
        assert server.invoke("sklearn", b"1,2").json == fitted.predict([[1.0, 2.0]]).tolist()
        assert server.invoke("script", b"[1]", "application/json").json == [3]
        for name, answer in (("torch", 7.0), ("torch-large", 8.0), ("onnx", 9.0), ("onnx-large", 10.0)):
            assert server.invoke(name, b"[[1, 2, 3], [0, 0, 0]]", "application/json").json == [[6 + answer], [answer]]
            long = json.dumps([[number, 0, 0] for number in range(20_000)]).encode()  # answered on another thread
            assert server.invoke(name, long, "application/json").json[-1] == [19_999 + answer]
    assert server.invoke("onnx", b'{"x": [1, 2, 3]}', "application/json").json == [[15.0]]
    assert server.invoke("onnx", b"1,2,3", accept="text/csv").text == "15.0\n"
    for body in (b'{"y": [1, 2, 3]}', b"[[1, 2]]", b'["a", "b", "c"]', b"{"):
        answer = server.invoke("onnx", body, "application/json")
        assert answer.status == 400
        assert answer.text.endswith("The model takes x: float32 [rows, 3].")
    for name in names:
        assert server.ask("DELETE", f"/models/{name}").status == 200


@pytest.mark.parametrize("padding", [0, LARGE])
def test_concurrent_calls_are_answered_as_one_by_one(server: Container, padding: int) -> None:
    onnx_model(server.model("together"), 1.0, padding=padding)
    assert bool(server.own(server.loaded("together"))) == bool(padding)
    bodies = [b"x" if number % 10 == 9 else b"%d,%d,0.5" % (number, number) for number in range(200)]
    alone = [server.invoke("together", body) for body in bodies]
    assert [answer.status for answer in alone] == ([200] * 9 + [400]) * 20
    with ThreadPoolExecutor(16) as callers:
        assert [*callers.map(lambda body: server.invoke("together", body), bodies)] == alone
    server.ask("DELETE", "/models/together")


def test_an_estimator_that_fails_says_where_in_the_answer_and_in_the_log(server: Container) -> None:
    fitted = estimator(server.model("broken"))
    fitted.coef_ = None
    (server.folder / "models/broken/model/model.joblib").unlink()
    (server.folder / "models/broken/model/model.pkl").write_bytes(pickle.dumps(fitted))
    server.loaded("broken")
    answer = server.invoke("broken", b"1,2")
    assert answer.status == 500
    first, second, third, *_ = answer.text.splitlines()
    assert first in server.output()
    assert second == "Traceback (most recent call last):"
    assert 'File "sklearn/' in third, "it begins where our own code ends, and shows no folder of this machine"
    assert "Traceback" in server.output()
    server.ask("DELETE", "/models/broken")


def test_a_pickle_whose_code_fails_says_where_in_the_answer_and_in_the_log(server: Container) -> None:
    # a call of int("no number")
    (server.model("bad") / "model.pkl").write_bytes(b"cbuiltins\nint\n(Vno number\ntR.")
    answer = server.load("bad")
    assert answer.status == 500
    wanted = "model.pkl does not load: invalid literal for int() with base 10: 'no number'\nTraceback"
    assert answer.json["message"].startswith(wanted)
    assert "ValueError: invalid literal" in server.output()


@pytest.mark.require("torch")
def test_onnx_and_torchscript_files_that_are_none_do_not_load_and_the_server_lives(server: Container) -> None:
    for name in ("model.onnx", "model.pt"):
        (server.model("bad") / name).write_bytes(b"no model" * 1000)
        assert server.load("bad").status == 500
    onnx_model(server.model("whole"))
    whole = (server.folder / "models/whole/model/model.onnx").read_bytes()
    (server.model("bad") / "model.onnx").write_bytes(whole[: len(whole) // 2])
    answer = server.load("bad")
    assert answer.status == 500
    assert str(server.folder) not in answer.text
    assert server.ask("GET", "/ping").status == 200


@pytest.mark.parametrize("padding", [0, LARGE])
def test_a_single_model_is_served_in_the_process_or_apart(tmp_path: Path, padding: int) -> None:
    (tmp_path / "model").mkdir()
    onnx_model(tmp_path / "model", 1.0, padding=padding)
    with running(tmp_path, HOSTLER_FRAMEWORK="onnx") as server:
        server.wait()
        assert server.ask("POST", "/invocations", b"1,2,3", content_type="text/csv").json == [[7.0]]
        assert server.end() == 0
