"""TorchScript as AWS's default handlers call it, and what is no TorchScript."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostler.servers import environment
from hostler.servers.frameworks.predictor import Call, Rejected, Unloadable

pytorch = pytest.importorskip("torch")
torch = pytest.importorskip("hostler.servers.frameworks.torch")


class Told(pytorch.nn.Module):
    """Answers with what it was given."""

    def forward(self, x: pytorch.Tensor) -> pytorch.Tensor:
        return x


class Linear(pytorch.nn.Module):
    def __init__(self) -> None:
        super().__init__()
        self.layer = pytorch.nn.Linear(3, 2)
        self.drop = pytorch.nn.Dropout(0.5)

    def forward(self, x: pytorch.Tensor) -> pytorch.Tensor:
        return self.drop(self.layer(x))


def saved(folder: Path, module: pytorch.nn.Module, name: str = "model.pt") -> pytorch.nn.Module:
    pytorch.jit.save(pytorch.jit.script(module), folder / name)
    return module.eval()


def loaded(folder: Path) -> torch.TorchScript:
    return torch.load(folder, environment.read({"SAGEMAKER_BASE_DIR": str(folder), "HOSTLER_FRAMEWORK": "torch"}))


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def answer(predictor: torch.TorchScript, body: bytes, kind: str = "application/json", accept: str = "") -> bytes:
    return predictor.predict([Call(body, kind, accept)])[0].body


@pytest.mark.parametrize("name", ["model.pt", "model.pth", "net.pt"])
def test_a_module_answers_as_it_does_in_eval_mode(tmp_path: Path, name: str) -> None:
    module = saved(tmp_path, Linear(), name)
    predictor = loaded(tmp_path)
    wanted = module(pytorch.tensor([[1.0, 2.0, 3.0], [4.0, 5.0, 6.0]])).tolist()
    assert json.loads(answer(predictor, b"[[1, 2, 3], [4, 5, 6]]")) == wanted
    assert json.loads(answer(predictor, b"1,2,3\n4,5,6", "text/csv")) == wanted
    csv = answer(predictor, b"1,2,3\n4,5,6", "text/csv", "text/csv").decode()
    assert [[float(cell) for cell in line.split(",")] for line in csv.splitlines()] == wanted
    as_npy = answer(predictor, npy(np.float32([[1, 2, 3], [4, 5, 6]])), "application/x-npy", "application/x-npy")
    assert np.load(io.BytesIO(as_npy)).tolist() == wanted


@pytest.mark.parametrize(
    ("body", "kind", "dtype", "shape"),
    [
        (b"[[1, 2]]", "application/json", "<f4", (1, 2)),
        (b"1,2", "text/csv", "<f4", (2,)),
        (b"1,2\n3,4", "text/csv", "<f4", (2, 2)),
        (npy(np.int64([[1]])), "application/x-npy", "<i8", (1, 1)),
        (npy(np.array([[1.5]], dtype=">f8")), "application/x-npy", "<f8", (1, 1)),
        (npy(np.asfortranarray(np.eye(3)[:2])), "application/x-npy", "<f8", (2, 3)),
    ],
)
def test_a_tensor_has_the_type_that_awss_handlers_give_it(
    tmp_path: Path, body: bytes, kind: str, dtype: str, shape: tuple[int, ...]
) -> None:
    saved(tmp_path, Told())
    found = np.load(io.BytesIO(answer(loaded(tmp_path), body, kind, "application/x-npy")))
    assert (found.dtype.str, found.shape) == (dtype, shape)


@pytest.mark.parametrize(
    ("body", "kind", "status", "says"),
    [
        (b"[[1, 2]]", "application/json", 400, "does not take this input, float32 of shape (1, 2)"),
        (npy(np.int64([[1, 2, 3]])), "application/x-npy", 400, "int64 of shape (1, 3)"),
        (b'{"inputs": [1]}', "application/json", 400, "no list of numbers"),
        (b'["a"]', "application/json", 400, "no list of numbers"),
        (b"[[1], [1, 2]]", "application/json", 400, "different lengths"),
        (b"[1e39]", "application/json", 400, "too large"),
        (b"[null]", "application/json", 400, "no list of numbers"),
        (b"x", "application/json", 400, "not JSON"),
        (npy(np.array([{}])), "application/x-npy", 400, "something else than numbers"),
        (b"x", "image/png", 415, "application/x-npy"),
    ],
)
def test_an_input_that_the_model_rejects_is_the_callers_mistake(
    tmp_path: Path, body: bytes, kind: str, status: int, says: str
) -> None:
    saved(tmp_path, Linear())
    with pytest.raises(Rejected) as refused:
        answer(loaded(tmp_path), body, kind)
    assert (refused.value.status, says in str(refused.value)) == (status, True), refused.value


def test_an_accept_that_is_not_offered_is_refused(tmp_path: Path) -> None:
    saved(tmp_path, Told())
    with pytest.raises(Rejected) as refused:
        answer(loaded(tmp_path), b"[1]", accept="image/png")
    assert refused.value.status == 406


def test_a_model_that_is_no_torchscript_needs_a_script(tmp_path: Path) -> None:
    module = Linear()
    for what in (module.state_dict(), module):
        pytorch.save(what, tmp_path / "model.pt")
        with pytest.raises(Unloadable, match=r"no TorchScript.*add code/inference\.py with a model_fn"):
            loaded(tmp_path)
    (tmp_path / "model.pt").write_bytes(b"no model")
    with pytest.raises(Unloadable, match="no TorchScript"):
        loaded(tmp_path)


def test_a_torchscript_file_that_is_cut_or_changed_does_not_load(tmp_path: Path) -> None:
    saved(tmp_path, Linear())
    whole = (tmp_path / "model.pt").read_bytes()
    (tmp_path / "model.pt").write_bytes(whole[: len(whole) // 2])
    with pytest.raises(Unloadable):
        loaded(tmp_path)
    (tmp_path / "model.pt").write_bytes(whole.replace(b"constants.pkl", b"constants.pkx").replace(b"pkx", b"pkl", 1))
    with pytest.raises(Unloadable):
        loaded(tmp_path)
