"""The frameworks: which are installed, how an artifact is loaded, and whether its target needs a process of its own."""

from __future__ import annotations

import importlib
import importlib.util
from pathlib import Path

from hostler.contract import ENV_PROGRAM
from hostler.servers import artifact
from hostler.servers.environment import Environment
from hostler.servers.predictor import Predictor, Unloadable

FRAMEWORKS = ("xgboost", "sklearn", "script")
APART_SIZE = 2**20  # bytes of an artifact whose unpickling, which holds the interpreter, takes noticeably long


def missing(framework: str) -> str:
    """Why a framework cannot be used here; empty text if it can."""
    if framework not in FRAMEWORKS:
        return f"there is no framework named {framework}: choose from {', '.join(FRAMEWORKS)} and auto"
    if framework == "script" or importlib.util.find_spec(framework) is not None:
        return ""
    return f"this model needs {framework}: pip install 'hostler[{framework}]'"


def warm(framework: str) -> None:
    """Import what a framework's loads need, so that the first one and every process forked later find it there."""
    if framework == "xgboost":
        importlib.import_module("xgboost")
    elif framework == "sklearn":
        importlib.import_module("joblib")
        importlib.import_module("sklearn.base")


def needs_process(folder: Path, framework: str) -> bool:
    """Whether loading or calling may hold the interpreter: a user's script, or a pickle that is not small."""
    if framework == "script":
        return True
    if framework == "xgboost" and not _xgboost_pickle(folder):
        return False
    return artifact.size(folder) > APART_SIZE


def load(folder: Path, framework: str, environment: Environment) -> Predictor:
    """Load an artifact. Raises Unloadable, MemoryError, and whatever an artifact's own code raises."""
    if reason := missing(framework):
        raise Unloadable(reason)
    if framework == "xgboost":
        from hostler.servers import xgboost

        if ignored := artifact.program(folder, environment):
            print(f"{ignored.name} in the artifact is ignored: no {ENV_PROGRAM} names it")
        return xgboost.load(folder, environment)
    if framework == "sklearn":
        from hostler.servers import sklearn

        return sklearn.load(folder, environment)
    from hostler.servers import script

    return script.load(folder, environment)


def _xgboost_pickle(folder: Path) -> bool:
    try:
        with artifact.model_file(folder, (artifact.XGBOOST_FILE,)).open("rb") as file:
            return file.read(1) != b"{"  # every native format of today begins so, and no pickle does
    except (Unloadable, OSError):
        return False
