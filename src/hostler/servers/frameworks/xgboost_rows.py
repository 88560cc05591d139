"""Rows of one width, predicted directly through libxgboost's C API; and the proof that this predicts the same."""

from __future__ import annotations

import ctypes
import struct
import weakref
from dataclasses import dataclass
from functools import lru_cache

import numpy as np
import xgboost

from hostler.servers.codecs import json
from hostler.servers.frameworks import artifact

MAX_BATCH = 64  # calls; larger batches are no faster
_BUFFER_CELLS = 65_536
_PROBES = 6  # rows
_WHOLE, _GAPS = 0, 2  # indices of a probe without gaps and of one with
_NARROW = 1_024  # columns; probes of wider models take too much memory to be cached
_LIBRARY = xgboost.core._LIB
_CONFIG = (
    b'{"type": 0, "training": false, "iteration_begin": 0, "iteration_end": 0, "strict_shape": false, '
    b'"missing": NaN, "cache_id": 0}'
)


def matrix(table: np.ndarray, feature_types: list[str] | None) -> xgboost.DMatrix:
    """Return a DMatrix of float32 rows, missing values as NaN."""
    return xgboost.DMatrix(table, feature_types=feature_types, enable_categorical=True, nthread=1)


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


def prove(booster: xgboost.Booster, proof: Proof) -> None:
    """Compare the fast paths with the booster's own predict, on rows with and without gaps."""
    proof.tried = True
    width = booster.num_features()
    if not width:
        return
    try:
        types = booster.feature_types
        probes = (_kept_probes if width <= _NARROW else _Probes)(width, tuple(types) if types else None)
        expected = booster.predict(probes.matrix, validate_features=False)
        if width > _BUFFER_CELLS:
            proof.inplace = _same(booster.inplace_predict(probes.table, validate_features=False), expected)
            return
        for chosen in ([*range(_PROBES)], [_WHOLE], [_GAPS]):  # the library treats one row unlike several
            for index, row in enumerate(chosen):
                probes.buffer.put(index, probes.table[row].tolist())
            values = probes.buffer.predict(booster.handle, len(chosen))
            if not _same(np.array(values, dtype=np.float32), expected[chosen]):
                return
            proof.inplace = True  # it calls the same function of the library
        proof.single = True
    except (xgboost.core.XGBoostError, ValueError, AttributeError, OverflowError):
        pass  # a model without these paths, such as a linear one


def _same(values: object, expected: object) -> bool:
    return np.shape(values) == np.shape(expected) and bool(np.array_equal(values, expected, equal_nan=True))


class RowBuffer:
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
        """Write a row. Raises OverflowError for a number beyond float32."""
        self._row.pack_into(self._buffer, index * self._row.size, *values)

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
def row_buffer(width: int, thread: int) -> RowBuffer:
    """Return the buffer that all models of a width share on a thread, each within one call of `predict`."""
    return RowBuffer(width, max(1, min(MAX_BATCH, _BUFFER_CELLS // width)))


class _Probes:
    """Rows to compare the paths on, also as a DMatrix. Their seed is the width."""

    def __init__(self, width: int, feature_types: tuple[str, ...] | None) -> None:
        table = np.random.default_rng(width).normal(scale=3.0, size=(_PROBES, width)).astype(np.float32)
        table[_GAPS, ::2] = np.nan
        table[3] = np.nan
        table[4] = np.abs(np.round(table[4]))  # categories are small whole numbers
        self.table = table
        self.matrix = matrix(table, list(feature_types) if feature_types else None)
        self.buffer = RowBuffer(width, _PROBES)


# Making probes takes as long as using them. Only the loading thread uses them.
_kept_probes = lru_cache(maxsize=64)(_Probes)


def _error() -> Exception:
    error: Exception = xgboost.core.XGBoostError(xgboost.core.py_str(_LIBRARY.XGBGetLastError()))
    return error
