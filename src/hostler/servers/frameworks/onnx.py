"""ONNX models through onnxruntime, their inputs typed and checked as the model declares them.

A request is JSON: {"name": [...], ...}, the same under "inputs", or for a model of one input its bare value. For a
model of one input it may be CSV or NPY. The answer is JSON: the value of the only output, or {"name": ..., ...}; an
only output that is an array may be CSV or NPY. An array without the dimension of rows is one row.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import numpy as np
import onnxruntime

from hostler.servers import error_text
from hostler.servers.codecs import arrays, json, media, npy, request_rows
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact
from hostler.servers.frameworks.predictor import Call, Rejected, Reply, Unloadable

_TYPES = {
    "tensor(float)": np.float32,
    "tensor(double)": np.float64,
    "tensor(float16)": np.float16,
    **{f"tensor(int{bits})": np.dtype(f"int{bits}") for bits in (8, 16, 32, 64)},
    **{f"tensor(uint{bits})": np.dtype(f"uint{bits}") for bits in (8, 16, 32, 64)},
    "tensor(bool)": np.bool_,
    "tensor(string)": np.object_,
}


def load(folder: Path, environment: Environment) -> Onnx:
    """Load model.onnx or the only .onnx file. Raises Unloadable and MemoryError."""
    file = artifact.model_file(folder, artifact.ONNX_FILES, artifact.ONNX_ENDINGS)
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = options.inter_op_num_threads = 1  # more threads do not speed up one row
    options.enable_cpu_mem_arena = False  # memory kept after a large call would be counted for no model
    options.log_severity_level = 4  # errors are raised, too
    try:
        session = onnxruntime.InferenceSession(str(file), options, ["CPUExecutionProvider"], enable_fallback=0)
        return Onnx(session, environment)
    except (MemoryError, Unloadable):
        raise
    except Exception as error:
        raise Unloadable(f"{file.name} does not load: {str(error) or type(error).__name__}") from None


class Onnx:
    """A session. Calls are not batched: its prediction for a row may depend on other rows."""

    max_batch = 1

    def __init__(self, session: onnxruntime.InferenceSession, environment: Environment) -> None:
        self._session = session
        self._inputs = [_Input(declared) for declared in session.get_inputs()]
        self._outputs = [output.name for output in session.get_outputs()]
        self._takes = f"The model takes {'; '.join(map(str, self._inputs)) or 'no input'}."
        self._default = environment.default_accept or media.JSON

    def predict(self, calls: Sequence[Call]) -> list[Reply]:
        return [self._reply(call) for call in calls]

    def _reply(self, call: Call) -> Reply:
        try:
            feed = self._feed(call.body, media.type_of(call.content_type) or media.JSON)
            try:
                values = self._session.run(self._outputs, feed)
            except Exception as error:  # of its own types: for example, two inputs' dimensions must match
                if error_text.out_of_memory(error):
                    raise
                raise Rejected(400, f"The model does not take this input: {error}.") from None
        except Rejected as error:
            if error.status != 400:
                raise
            raise Rejected(400, f"{error} {self._takes}") from None
        return self._encoded(values, call)

    def _encoded(self, outputs: Sequence[object], call: Call) -> Reply:
        only = outputs[0] if len(outputs) == 1 else None
        if isinstance(only, np.ndarray):
            return Reply(200, *arrays.encoded(only, call.accept, self._default))
        answer_type = media.accepted(call.accept, (media.JSON,), media.JSON)
        values = dict(zip(self._outputs, outputs, strict=True)) if only is None else only
        return Reply(200, json.encoded(values), answer_type)

    def _feed(self, body: bytes, content_type: str) -> dict[str, np.ndarray]:
        if content_type == media.JSON:
            return self._named(json.parse(body))
        if content_type not in (media.CSV, media.NPY):
            supported = ", ".join((media.JSON, media.CSV, media.NPY))
            raise Rejected(415, f"Content type {content_type} is not supported. Supported: {supported}.")
        if len(self._inputs) != 1:
            raise Rejected(400, "CSV and NPY hold one array: send JSON with an array for each input.")
        array = request_rows.table(body, content_type, 0) if content_type == media.CSV else npy.array(body)
        return {self._inputs[0].name: self._inputs[0].fitted(array)}

    def _named(self, value: object) -> dict[str, np.ndarray]:
        names = {declared.name for declared in self._inputs}
        if isinstance(value, dict) and set(value) == {"inputs"} != names:
            value = value["inputs"]
        if not isinstance(value, dict):
            if len(self._inputs) != 1:
                raise Rejected(400, "The JSON body does not say which input is which.")
            value = {self._inputs[0].name: value}
        if unknown := sorted(set(value) - names):
            raise Rejected(400, f"The model has no input named {', '.join(unknown)}.")
        if missing := sorted(names - set(value)):
            raise Rejected(400, f"The input {', '.join(missing)} is missing.")
        return {declared.name: declared.fitted(declared.array(value[declared.name])) for declared in self._inputs}


class _Input:
    """An input as the model declares it. A dimension without a size takes any size; no dimensions take any shape."""

    def __init__(self, declared: onnxruntime.NodeArg) -> None:
        self.name: str = declared.name
        if declared.type not in _TYPES:
            raise Unloadable(f"its input {self.name} is a {declared.type}, which no request can hold")
        self._type = np.dtype(_TYPES[declared.type])
        self._shape: list[int | str | None] = declared.shape

    def __str__(self) -> str:
        type_name = "text" if self._type.kind == "O" else self._type.name
        return f"{self.name}: {type_name} [{', '.join(str(size or '?') for size in self._shape)}]"

    def array(self, value: object) -> np.ndarray:
        """Return the array of a JSON value; null is NaN. Raises Rejected (400)."""
        try:
            array: np.ndarray = np.array(value)
            if array.dtype.kind == "O" and not any(map(_is_text, array.flat)):
                array = np.array(value, dtype=np.float64)
        except (ValueError, TypeError, OverflowError):
            raise Rejected(400, f"{self.name} is not an array of numbers or text, all rows of one length.") from None
        if array.dtype.kind == "U":
            array = np.array(value, dtype=object)
        return array

    def fitted(self, array: np.ndarray) -> np.ndarray:
        """Return the array in the declared shape and type. Raises Rejected (400) if it does not fit without loss."""
        declared = self._shape
        if declared and array.ndim == len(declared) - 1 and (declared[0] == 1 or not isinstance(declared[0], int)):
            array = array[np.newaxis]
        if declared and (
            array.ndim != len(declared)
            or any(isinstance(size, int) and size != actual for size, actual in zip(declared, array.shape, strict=True))
        ):
            raise Rejected(400, f"{self.name} has the shape {list(array.shape)}.")
        return self._typed(array)

    def _typed(self, array: np.ndarray) -> np.ndarray:
        text = array.dtype.kind == "O" and all(map(_is_text, array.flat))
        if self._type.kind == "O":
            if not text:
                raise Rejected(400, f"{self.name} holds something else than text.")
            return array
        if array.dtype.kind == "O":
            raise Rejected(400, f"{self.name} holds text where a number is wanted.")
        with np.errstate(all="ignore"):
            converted: np.ndarray = array.astype(self._type)
        lost = np.isinf(converted) & ~np.isinf(array) if self._type.kind == "f" else converted != array
        if lost.any():
            raise Rejected(400, f"{self.name} holds {array[lost].flat[0]}, which is no {self._type.name}.")
        contiguous: np.ndarray = np.ascontiguousarray(converted)
        return contiguous


def _is_text(cell: object) -> bool:
    return isinstance(cell, str)
