"""Whether a model's file will load, as far as that can be said without loading it: for `hostler lint`.

Pickles are not unpickled (pickles.py). XGBoost's own forms are read without its library.
"""

from __future__ import annotations

import importlib.util
from collections.abc import Iterator
from pathlib import Path
from typing import NamedTuple

from hostler import failures, model_files
from hostler.failures import Code
from hostler.servers.frameworks import old_imports, pickles
from hostler.servers.frameworks.predictor import Unloadable

_SAVE_AGAIN = {  # of the frameworks that are checked
    "xgboost": failures.SAVE_XGBOOST,
    "sklearn": "Save it again where it was made: joblib.dump(model, 'model.joblib').",
}
_HEAD = 512  # bytes, in which XGBoost's old form is recognised


class Problem(NamedTuple):
    """`certain`: the file does not load; else it may not, or may predict otherwise."""

    certain: bool
    reason: Unloadable


def problems(framework: str, file: Path) -> Iterator[Problem]:
    """Yield what speaks against a model's file. Raises OSError."""
    if framework not in _SAVE_AGAIN or importlib.util.find_spec("numpy") is None:
        return
    if framework == "xgboost" and (saved := _saved(file)) is not None:
        if saved:
            yield Problem(True, Unloadable(f"It does not load: {saved}. {_SAVE_AGAIN[framework]}"))
        return
    pickle = pickles.read(file)
    if not pickle.whole:
        kind = "a pickle" if framework == "sklearn" else "an XGBoost model or a pickle"
        yield Problem(True, Unloadable(f"It is not {kind}, or it is cut off. {_SAVE_AGAIN[framework]}"))
        return
    if framework == "xgboost" and not any(module.partition(".")[0] == "xgboost" for module in pickle.modules):
        yield Problem(True, Unloadable(f"It is a pickle, but not of a booster. {_SAVE_AGAIN[framework]}"))
        return
    old_imports.teach()
    for module in sorted(pickle.modules):
        top = module.partition(".")[0]
        if not _is_there(top):
            need = f"It needs {top}, which is not installed here: it fails when it is loaded."
            yield Problem(True, Unloadable(f"{need} {failures.install_module(top)}", Code.MODULE_MISSING))
            return
    if not _is_there("sklearn"):
        return
    from hostler.servers.frameworks import sklearn_old

    unreadable = sklearn_old.unreadable(pickle)
    if mismatch := sklearn_old.mismatch("It", pickle.sklearn, unreadable):
        yield Problem(bool(unreadable), mismatch)


def _is_there(package: str) -> bool:
    try:
        return importlib.util.find_spec(package) is not None
    except (ImportError, ValueError):
        return False


def _saved(file: Path) -> str | None:
    """Return why a model that XGBoost saved does not load; empty if it does, None if XGBoost did not save it."""
    from hostler.servers.frameworks import xgboost_binary

    data = file.read_bytes()
    if xgboost_binary.looks_binary(data[:_HEAD]):
        try:
            xgboost_binary.convert(data)
        except xgboost_binary.Damaged as error:
            return str(error)
        return ""
    if not data.startswith(model_files.XGBOOST):
        return None
    return "" if b"version" in data and data.rstrip().endswith(b"}") else "it does not end as an XGBoost model does"
