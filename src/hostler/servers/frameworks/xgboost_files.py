"""XGBoost's model files: as any version from 0.90 on saves them, and pickled boosters and estimators."""

from __future__ import annotations

import os
import pickle
from pathlib import Path
from typing import NamedTuple

import xgboost

from hostler import failures, model_files
from hostler.servers.frameworks import old_imports, xgboost_binary, xgboost_old
from hostler.servers.frameworks.predictor import Unloadable


class ModelFile(NamedTuple):
    """A model file's booster, and of its form what the image's predictions depend on."""

    booster: xgboost.Booster
    pickled: bool
    best_trees: int  # `best_ntree_limit`, which a pickled booster carries as an attribute of Python's; 0: none


def load(file: Path) -> ModelFile:
    """Read a model file: as saved, or pickled. Raises Unloadable, MemoryError, and what a pickle's code raises."""
    old_imports.teach()
    data = _content(file)
    if is_saved(data):
        return ModelFile(_saved(file, data), False, 0)
    try:
        model = pickle.loads(data)
    except (MemoryError, ModuleNotFoundError):
        raise
    except xgboost_binary.Damaged as error:
        raise _unreadable(file, str(error)) from None
    except Exception as error:
        raise _unreadable(file, f"as a pickle: {_first_line(error)}") from None
    booster = model.get_booster() if hasattr(model, "get_booster") else model
    if not isinstance(booster, xgboost.Booster):
        raise Unloadable(f"{file.name} is a pickle, but of {type(model).__name__}, not of a booster")
    return ModelFile(booster, True, int(getattr(booster, "best_ntree_limit", 0)))


def is_saved(start: bytes | bytearray) -> bool:
    """Return whether a file that begins so is a model as the library saves it; else it can only be a pickle."""
    return start.startswith(model_files.XGBOOST) or xgboost_old.is_old(start)


def _saved(file: Path, data: bytearray) -> xgboost.Booster:
    if not xgboost_old.is_old(data) and _cut_short(data):
        raise _unreadable(file, "it does not end as an XGBoost model does")
    booster = xgboost.Booster()
    try:
        booster.load_model(data)
    except xgboost_binary.Damaged as error:
        raise _unreadable(file, str(error)) from None
    except (xgboost.core.XGBoostError, ValueError) as error:
        if "bad_alloc" in str(error):
            raise MemoryError("the model does not fit in memory") from None
        raise _unreadable(file, f"as an XGBoost model: {_first_line(error)}") from None
    return booster


def _unreadable(file: Path, reason: str) -> Unloadable:
    cause = f"{file.name} does not load: {reason}"
    advice = failures.SAVE_XGBOOST
    return Unloadable(f"{cause}. {advice}", cause=cause, advice=advice)


def _content(file: Path) -> bytearray:
    """Read a file into the type that the library takes, without a second copy."""
    with file.open("rb") as source:
        data = bytearray(os.fstat(source.fileno()).st_size)
        source.readinto(data)
    return data


def _cut_short(data: bytearray) -> bool:
    """True if a binary (UBJSON) model is truncated: on one in twenty the library's reader crashes or never returns.

    The keys are sorted, so the version comes last. The reader is safe with text (JSON).
    """
    text = data[1:2] and data[1] in b'" \t\r\n}'
    return not text and not (b"version" in data[-64:] and data.endswith(b"}"))


def _first_line(error: Exception) -> str:
    """Return an error's first line without its full stop; a stack trace of the library follows it."""
    lines = [line.partition(": ")[2] or line for line in str(error).splitlines() if line.strip()]
    return lines[0].rstrip(". ") if lines else type(error).__name__
