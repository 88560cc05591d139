"""XGBoost models. Predictions equal the booster's own; formats are those of AWS's XGBoost container.

Accepted are the model files that `load` names, and the content types of codecs/request_rows.py. Answers:

| | single model | multi-model |
|---|---|---|
| text/csv | one line a row | one-value rows joined by commas, as AWS's multi-model handler does |
| application/json | {"predictions": [{"score": ...}]} | a list |
| application/jsonlines | {"score": ...}, a line a row | the same |

In both, a row of several values is a line of values joined by commas (AWS's multi-model handler writes Python lists,
which are no CSV). No Content-Type means libsvm, and an empty body is answered 204, as in AWS's container.
"""

from __future__ import annotations

import ctypes
import os
import struct
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import get_ident

import numpy as np
import xgboost

from hostler.servers.codecs import csv, json, media, request_rows
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, xgboost_files
from hostler.servers.frameworks.predictor import Call, Rejected, Reply

_ANSWER_TYPES = (media.CSV, media.JSON, media.JSON_LINES)
_MAX_BATCH = 64  # calls; larger batches are no faster
_BUFFER_CELLS = 65_536
_PROBES = 6  # rows
_WHOLE, _GAPS = 0, 2  # indices of a probe without gaps and of one with
_NARROW = 1_024  # columns; probes of wider models take too much memory to be cached
_LIBRARY = xgboost.core._LIB
_CONFIG = (
    b'{"type": 0, "training": false, "iteration_begin": 0, "iteration_end": 0, "strict_shape": false, '
    b'"missing": NaN, "cache_id": 0}'
)


def load(folder: Path, environment: Environment) -> XGBoost:
    """Load `xgboost-model`, or the only file. Raises Unloadable, MemoryError, and what a pickle's code raises."""
    file = artifact.model_file(folder, (artifact.XGBOOST_FILE,))
    proof = proof_of(artifact.stamp(os.stat(file)))
    return XGBoost(xgboost_files.load(file).booster, environment, proof)


@dataclass(slots=True)
class Proof:
    """Which fast paths predict exactly what the booster's own predict does, as far as they were tried."""

    tried: bool = False
    inplace: bool = False
    single: bool = False


@lru_cache(maxsize=10_000)
def proof_of(file: artifact.Stamp) -> Proof:
    """Return a file's proof, shared by all its loads: proving takes half as long as a load."""
    return Proof()


def matrix(table: np.ndarray, feature_types: list[str] | None) -> xgboost.DMatrix:
    """Return a DMatrix of float32 rows, missing values as NaN."""
    return xgboost.DMatrix(table, feature_types=feature_types, enable_categorical=True, nthread=1)


class XGBoost:
    """A booster, and the fast paths that are proven to predict the same."""

    max_batch = _MAX_BATCH

    def __init__(self, booster: xgboost.Booster, environment: Environment, proof: Proof | None = None) -> None:
        proof = proof or Proof()
        # One row takes twice as long on two threads. There is nothing to validate, which takes as long as half a call.
        booster.set_param({"nthread": 1, "validate_parameters": False})
        self._booster = booster
        self._width: int = booster.num_features()
        self._default = environment.default_accept or media.CSV
        self._multi_model = environment.multi_model
        if not proof.tried:
            self._prove(proof)
            proof.tried = True
        self._inplace = proof.inplace
        self._single = proof.single

    def _prove(self, proof: Proof) -> None:
        """Compare the fast paths with the booster's own predict, on rows with and without gaps."""
        if not self._width:
            return
        try:
            types = self._booster.feature_types
            probes = (_kept_probes if self._width <= _NARROW else _Probes)(self._width, tuple(types) if types else None)
            expected = self._booster.predict(probes.matrix, validate_features=False)
            if self._width > _BUFFER_CELLS:
                proof.inplace = _same(self._booster.inplace_predict(probes.table, validate_features=False), expected)
                return
            for chosen in ([*range(_PROBES)], [_WHOLE], [_GAPS]):  # the library treats one row unlike several
                for index, row in enumerate(chosen):
                    probes.buffer.put(index, probes.table[row].tolist())
                values = probes.buffer.predict(self._booster.handle, len(chosen))
                if not _same(np.array(values, dtype=np.float32), expected[chosen]):
                    return
                proof.inplace = True  # it calls the same function of the library
            proof.single = True
        except (xgboost.core.XGBoostError, ValueError, AttributeError, OverflowError):
            pass  # a model without these paths, such as a linear one

    def predict(self, calls: Sequence[Call]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        queued: list[tuple[int, str]] = []
        buffer = _row_buffer(self._width, get_ident()) if self._single else None
        for number, call in enumerate(calls):
            try:
                if not call.body:
                    replies[number] = Reply(204, b"", media.CSV)
                    continue
                answer_type = media.accepted(call.accept, _ANSWER_TYPES, self._default)
                content_type = media.type_of(call.content_type)
                row = request_rows.plain_row(call.body, content_type, self._width) if buffer else None
                if row is None:
                    table = self._table(call.body, content_type)
                    if not buffer or len(table) > 1:
                        self._flush(buffer, queued, replies)
                        replies[number] = self._reply(self._predict(table, buffer), answer_type)
                        continue
                    row = table[0].tolist()
                assert buffer
                buffer.put(len(queued), row)
                queued.append((number, answer_type))
                if len(queued) == buffer.room:
                    self._flush(buffer, queued, replies)
            except Rejected as error:
                replies[number] = Reply(error.status, str(error).encode(), "text/plain")
        self._flush(buffer, queued, replies)
        return [replies[number] for number in range(len(calls))]

    def _flush(self, buffer: _RowBuffer | None, queued: list[tuple[int, str]], replies: dict[int, Reply]) -> None:
        """Answer the calls whose rows are in the buffer."""
        if not (buffer and queued):
            return
        for (number, answer_type), value in zip(queued, buffer.predict(self._booster.handle, len(queued)), strict=True):
            replies[number] = self._reply([value], answer_type)
        queued.clear()

    def _table(self, body: bytes, content_type: str) -> np.ndarray:
        try:
            return request_rows.float32(request_rows.table(body, content_type or media.LIBSVM, self._width))
        except Rejected as error:
            if content_type:
                raise
            raise Rejected(error.status, f"No Content-Type was given, so libsvm was assumed. {error}") from None

    def _predict(self, table: np.ndarray, buffer: _RowBuffer | None) -> list[object]:
        if buffer and len(table) <= buffer.room:
            buffer.fill(table)
            return buffer.predict(self._booster.handle, len(table))
        if self._inplace:
            values = self._booster.inplace_predict(table, validate_features=False)
        else:
            values = self._booster.predict(matrix(table, self._booster.feature_types), validate_features=False)
        return values.tolist()  # type: ignore[no-any-return]

    def _reply(self, values: list[object], answer_type: str) -> Reply:
        if answer_type == media.CSV:
            if self._multi_model and not isinstance(values[0], list):
                return Reply(200, ",".join(map(str, values)).encode(), answer_type)
            return Reply(200, csv.lines(values), answer_type)
        if answer_type == media.JSON and self._multi_model:
            return Reply(200, json.encoded(values), answer_type)
        scores = [{"score": value} for value in values]
        if answer_type == media.JSON:
            return Reply(200, json.encoded({"predictions": scores}), answer_type)
        return Reply(200, json.lines(scores), answer_type)


def _same(values: object, expected: object) -> bool:
    return np.shape(values) == np.shape(expected) and bool(np.array_equal(values, expected, equal_nan=True))


class _RowBuffer:
    """A buffer for rows of one width, predicted directly through libxgboost's C API.

    One row takes half the time of `inplace_predict`. Not for several threads at once.
    """

    def __init__(self, width: int, room: int) -> None:
        self.room = room
        self._row = struct.Struct(f"={width}f")
        self._buffer = bytearray(self._row.size * room)
        address = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        self._interfaces = [  # the array interface of the first n rows
            ctypes.c_char_p(
                json.encoded({"data": [address, True], "shape": [rows + 1, width], "typestr": "<f4", "version": 3})
            )
            for rows in range(room)
        ]
        # The matrix into which a call puts the array. Without it each call makes its own and asks the system for this
        # process's share of the processors: eleven system calls, a quarter of the time of one row.
        proxy = ctypes.c_void_p()
        if _LIBRARY.XGProxyDMatrixCreate(ctypes.byref(proxy)):
            raise _error()
        weakref.finalize(self, _LIBRARY.XGDMatrixFree, proxy)
        self._shape = ctypes.POINTER(ctypes.c_uint64)()
        self._dimensions = ctypes.c_uint64()
        self._result = ctypes.POINTER(ctypes.c_float)()
        self._arguments = (
            *(ctypes.c_char_p(_CONFIG), proxy),
            *(ctypes.byref(self._shape), ctypes.byref(self._dimensions), ctypes.byref(self._result)),
        )

    def put(self, index: int, values: list[float]) -> None:
        """Write a row. Raises Rejected (400) for a number beyond float32."""
        try:
            self._row.pack_into(self._buffer, index * self._row.size, *values)
        except OverflowError:
            raise Rejected(400, "The body holds a number that is too large.") from None

    def fill(self, table: np.ndarray) -> None:
        """Write a table of float32 with at most `room` rows."""
        self._buffer[: table.nbytes] = table.tobytes()

    def predict(self, handle: ctypes.c_void_p, rows: int) -> list[object]:
        """Return a booster's prediction for each of the first `rows` rows: a float, or a list of floats."""
        if _LIBRARY.XGBoosterPredictFromDense(handle, self._interfaces[rows - 1], *self._arguments):
            raise _error()
        if self._dimensions.value == 1:
            return self._result[:rows]
        width = 1
        for dimension in range(1, self._dimensions.value):
            width *= self._shape[dimension]
        return [self._result[row * width : (row + 1) * width] for row in range(rows)]


@lru_cache(maxsize=1024)
def _row_buffer(width: int, thread: int) -> _RowBuffer:
    """Return the buffer that all models of a width share on a thread, each within one call of `predict`."""
    return _RowBuffer(width, max(1, min(_MAX_BATCH, _BUFFER_CELLS // width)))


class _Probes:
    """Rows to compare the paths on, also as a DMatrix. Their seed is the width."""

    def __init__(self, width: int, feature_types: tuple[str, ...] | None) -> None:
        table = np.random.default_rng(width).normal(scale=3.0, size=(_PROBES, width)).astype(np.float32)
        table[_GAPS, ::2] = np.nan
        table[3] = np.nan
        table[4] = np.abs(np.round(table[4]))  # categories are small whole numbers
        self.table = table
        self.matrix = matrix(table, list(feature_types) if feature_types else None)
        self.buffer = _RowBuffer(width, _PROBES)


# Making probes takes as long as using them. Only the loading thread uses them.
_kept_probes = lru_cache(maxsize=64)(_Probes)


def _error() -> Exception:
    error: Exception = xgboost.core.XGBoostError(xgboost.core.py_str(_LIBRARY.XGBGetLastError()))
    return error
