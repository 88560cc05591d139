"""XGBoost models. Predictions equal the booster's own; formats are those of AWS's XGBoost container.

| | single model | multi-model |
|---|---|---|
| text/csv | one line a row | one-value rows joined by commas, as AWS's multi-model handler does |
| application/json | {"predictions": [{"score": ...}]} | a list |
| application/jsonlines | {"score": ...}, a line a row | the same |

A row of several values is its values joined by commas, a line a row, in both (AWS's multi-model handler writes Python
lists there, which is no CSV). No Content-Type means libsvm, an empty body is answered 204, both as AWS's.
"""

from __future__ import annotations

import ctypes
import os
import pickle
import struct
import weakref
from collections.abc import Sequence
from dataclasses import dataclass
from functools import lru_cache
from pathlib import Path
from threading import get_ident
from typing import Any

import numpy as np
import xgboost

from hostler.servers.codecs import csv, json, media, rows
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact
from hostler.servers.frameworks.predictor import Call, Rejected, Reply, Unloadable

_OFFERED = (media.CSV, media.JSON, media.JSON_LINES)
_MAX_BATCH = 64  # rows of one flush; more gains nothing
_BUFFER_CELLS = 65_536
_PROBES = 6  # rows
_WHOLE, _GAPS = 0, 2  # two of them
_NARROW = 1_024  # columns; probes of wider models take too much memory to be kept
_LIBRARY = xgboost.core._LIB
_CONFIG = (
    b'{"type": 0, "training": false, "iteration_begin": 0, "iteration_end": 0, "strict_shape": false, '
    b'"missing": NaN, "cache_id": 0}'
)


def load(folder: Path, environment: Environment) -> XGBoost:
    """Load `xgboost-model`, or the only file. Raises Unloadable, MemoryError, and what a pickle's code raises."""
    file = artifact.model_file(folder, (artifact.XGBOOST_FILE,))
    proof = proof_of(artifact.stamp(os.stat(file)))
    return XGBoost(_booster(file), environment, proof)


@dataclass(slots=True)
class Proof:
    """Which quick ways to a model say what its booster's own predict says."""

    tried: bool = False
    inplace: bool = False
    single: bool = False


@lru_cache(maxsize=10_000)
def proof_of(file: artifact.Stamp) -> Proof:
    """Of a file that is loaded again there is no need to prove anew what takes as long as half of a load."""
    return Proof()


def matrix(table: Any, feature_types: list[str] | None) -> Any:
    """A DMatrix of float32 rows, missing values as NaN."""
    return xgboost.DMatrix(table, feature_types=feature_types, enable_categorical=True, nthread=1)


def _booster(file: Path) -> Any:
    data = _content(file)
    pickled = ""
    if not data.startswith(b"{"):
        try:
            model = pickle.loads(data)
        except (MemoryError, ModuleNotFoundError):
            raise
        except Exception as error:
            pickled = f"as a pickle: {error}; "
        else:
            booster = model.get_booster() if hasattr(model, "get_booster") else model
            if not isinstance(booster, xgboost.Booster):
                raise Unloadable(f"{file.name} is a pickle, but of {type(model).__name__}, not of a booster")
            return booster
    if _cut_short(data):
        raise Unloadable(f"{file.name} does not load: {pickled}it does not end as an XGBoost model does")
    booster = xgboost.Booster()
    try:
        booster.load_model(data)
    except (xgboost.core.XGBoostError, ValueError) as error:
        if "bad_alloc" in str(error):
            raise MemoryError("the model does not fit in memory") from None
        raise Unloadable(f"{file.name} does not load: {pickled}as an XGBoost model: {_first_line(error)}") from None
    return booster


def _content(file: Path) -> bytearray:
    """As the library takes it, without a second copy."""
    with file.open("rb") as source:
        data = bytearray(os.fstat(source.fileno()).st_size)
        source.readinto(data)
    return data


def _cut_short(data: bytearray) -> bool:
    """Whether a binary (UBJSON) model is not whole: the library's reader crashes or runs for ever on one in twenty.

    Its keys are sorted, so that the version comes last. Text (JSON) is read safely.
    """
    text = data[1:2] and data[1] in b'" \t\r\n}'
    return not text and not (b"version" in data[-64:] and data.endswith(b"}"))


def _first_line(error: Exception) -> str:
    """XGBoost's own errors go on with a stack trace of the library."""
    lines = [line.partition(": ")[2] or line for line in str(error).splitlines() if line.strip()]
    return lines[0] if lines else type(error).__name__


class XGBoost:
    """A booster, and the quick ways to it that were found to say the same."""

    max_batch = _MAX_BATCH

    def __init__(self, booster: Any, environment: Environment, proof: Proof | None = None) -> None:
        proof = proof or Proof()
        booster.set_param({"nthread": 1})  # one row on two threads takes twice as long as on one
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
        """Try the quick ways on rows with and without gaps, beside the booster's own predict."""
        if not self._width:
            return
        try:
            types = self._booster.feature_types
            probes = (_kept_probes if self._width <= _NARROW else _Probes)(self._width, tuple(types) if types else None)
            wanted = self._booster.predict(probes.matrix, validate_features=False)
            if self._width > _BUFFER_CELLS:
                proof.inplace = _same(self._booster.inplace_predict(probes.table, validate_features=False), wanted)
                return
            for some in ([*range(_PROBES)], [_WHOLE], [_GAPS]):  # one row is not what several are, to the library
                for place, row in enumerate(some):
                    probes.buffer.put(place, probes.table[row].tolist())
                found = probes.buffer.predict(self._booster.handle, len(some))
                if not _same(np.array(found, dtype=np.float32), wanted[some]):
                    return
                proof.inplace = True  # which asks the library for the same
            proof.single = True
        except (xgboost.core.XGBoostError, ValueError, AttributeError, OverflowError):
            pass  # a model that these ways do not serve, such as a linear one

    def predict(self, calls: Sequence[Call]) -> list[Reply]:
        replies: dict[int, Reply] = {}
        queued: list[tuple[int, str]] = []
        buffer = _row_buffer(self._width, get_ident()) if self._single else None
        for number, call in enumerate(calls):
            try:
                if not call.body:
                    replies[number] = Reply(204, b"", media.CSV)
                    continue
                answer_type = media.accepted(call.accept, _OFFERED, self._default)
                kind = media.type_of(call.content_type)
                row = rows.plain_row(call.body, kind, self._width) if buffer else None
                if row is None:
                    table = self._table(call.body, kind)
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
        """Answer the calls whose rows lie in the room."""
        if not (buffer and queued):
            return
        for (number, answer_type), value in zip(queued, buffer.predict(self._booster.handle, len(queued)), strict=True):
            replies[number] = self._reply([value], answer_type)
        queued.clear()

    def _table(self, body: bytes, kind: str) -> Any:
        try:
            return rows.float32(rows.table(body, kind or media.LIBSVM, self._width))
        except Rejected as error:
            if kind:
                raise
            raise Rejected(error.status, f"No Content-Type was given, so libsvm was assumed. {error}") from None

    def _predict(self, table: Any, buffer: _RowBuffer | None) -> list[Any]:
        if buffer and len(table) <= buffer.room:
            buffer.fill(table)
            return buffer.predict(self._booster.handle, len(table))
        if self._inplace:
            found = self._booster.inplace_predict(table, validate_features=False)
        else:
            found = self._booster.predict(matrix(table, self._booster.feature_types), validate_features=False)
        return found.tolist()  # type: ignore[no-any-return]

    def _reply(self, values: list[Any], answer_type: str) -> Reply:
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


def _same(found: Any, wanted: Any) -> bool:
    return np.shape(found) == np.shape(wanted) and bool(np.array_equal(found, wanted, equal_nan=True))


class _RowBuffer:
    """Room for rows of one width, and their way straight through libxgboost's C API.

    Half the time of `inplace_predict` for one row. A room is used by one thread at a time.
    """

    def __init__(self, width: int, room: int) -> None:
        self.room = room
        self._row = struct.Struct(f"={width}f")
        self._buffer = bytearray(self._row.size * room)
        place = ctypes.addressof(ctypes.c_char.from_buffer(self._buffer))
        self._told = [  # of the first n rows
            ctypes.c_char_p(
                json.encoded({"data": [place, True], "shape": [rows + 1, width], "typestr": "<f4", "version": 3})
            )
            for rows in range(room)
        ]
        # What a call puts its array into. Without one it makes its own, which asks the system for this process's share
        # of the processors each time: eleven system calls, a quarter of what one row takes.
        proxy = ctypes.c_void_p()
        if _LIBRARY.XGProxyDMatrixCreate(ctypes.byref(proxy)):
            raise _error()
        weakref.finalize(self, _LIBRARY.XGDMatrixFree, proxy)
        self._shape = ctypes.POINTER(ctypes.c_uint64)()
        self._dimensions = ctypes.c_uint64()
        self._result = ctypes.POINTER(ctypes.c_float)()
        self._rest = (
            *(ctypes.c_char_p(_CONFIG), proxy),
            *(ctypes.byref(self._shape), ctypes.byref(self._dimensions), ctypes.byref(self._result)),
        )

    def put(self, place: int, values: list[float]) -> None:
        """Raises Rejected for a number that no float32 holds."""
        try:
            self._row.pack_into(self._buffer, place * self._row.size, *values)
        except OverflowError:
            raise Rejected(400, "The body holds a number that is too large.") from None

    def fill(self, table: Any) -> None:
        """Put in a whole table of float32, of as many rows as there is room for at most."""
        self._buffer[: table.nbytes] = table.tobytes()

    def predict(self, handle: ctypes.c_void_p, rows: int) -> list[Any]:
        """What a booster says of each of the first `rows` rows: a float, or a list of them."""
        if _LIBRARY.XGBoosterPredictFromDense(handle, self._told[rows - 1], *self._rest):
            raise _error()
        if self._dimensions.value == 1:
            return self._result[:rows]
        width = 1
        for dimension in range(1, self._dimensions.value):
            width *= self._shape[dimension]
        return [self._result[row * width : (row + 1) * width] for row in range(rows)]


@lru_cache(maxsize=1024)
def _row_buffer(width: int, thread: int) -> _RowBuffer:
    """The room that all models of a width share on one thread, each within one call of `predict`."""
    return _RowBuffer(width, max(1, min(_MAX_BATCH, _BUFFER_CELLS // width)))


class _Probes:
    """Rows on which the ways to a model are compared, and the booster's own form of them. Their seed is the width."""

    def __init__(self, width: int, feature_types: tuple[str, ...] | None) -> None:
        table = np.random.default_rng(width).normal(scale=3.0, size=(_PROBES, width)).astype(np.float32)
        table[_GAPS, ::2] = np.nan
        table[3] = np.nan
        table[4] = np.abs(np.round(table[4]))  # categories are small whole numbers
        self.table = table
        self.matrix = matrix(table, list(feature_types) if feature_types else None)
        self.buffer = _RowBuffer(width, _PROBES)


# The probes of many models at once: making them takes as long as using them. Only the thread that loads uses them.
_kept_probes = lru_cache(maxsize=64)(_Probes)


def _error() -> Exception:
    error: Exception = xgboost.core.XGBoostError(xgboost.core.py_str(_LIBRARY.XGBGetLastError()))
    return error
