"""How an artifact is loaded, by its framework, and whether its target needs a process of its own."""

from __future__ import annotations

from pathlib import Path

from hostler.contract import ENV_PROGRAM
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, installed
from hostler.servers.frameworks.predictor import Predictor, Unloadable

APART_SIZE = 2**20  # bytes of an artifact whose unpickling, which holds the interpreter, takes noticeably long


def needs_process(folder: Path, framework: str) -> bool:
    """Whether loading or calling may hold the interpreter or the loop: a user's script, or what is not small.

    Size is no measure of a call's time, but a good one of its order: a TorchScript or ONNX model below the limit has at
    most a quarter of a million weights. XGBoost's own formats load and answer in milliseconds at any size.
    """
    if framework == "script":
        return True
    if framework == "xgboost" and not _xgboost_pickle(folder):
        return False
    return artifact.size(folder) > APART_SIZE


def load(folder: Path, framework: str, environment: Environment) -> Predictor:
    """Load an artifact. Raises Unloadable, MemoryError, and whatever an artifact's own code raises."""
    if absent := installed.missing(framework):
        raise absent
    if framework == "xgboost":
        from hostler.servers.frameworks import xgboost

        if ignored := artifact.program(folder, environment):
            print(f"{ignored.name} in the artifact is ignored: no {ENV_PROGRAM} names it")
        return xgboost.load(folder, environment)
    if framework == "sklearn":
        from hostler.servers.frameworks import sklearn

        return sklearn.load(folder, environment)
    if framework == "torch":
        from hostler.servers.frameworks import torch

        return torch.load(folder, environment)
    if framework == "onnx":
        from hostler.servers.frameworks import onnx

        return onnx.load(folder, environment)
    from hostler.servers.frameworks import script

    return script.load(folder, environment)


def _xgboost_pickle(folder: Path) -> bool:
    try:
        with artifact.model_file(folder, (artifact.XGBOOST_FILE,)).open("rb") as file:
            return file.read(1) != b"{"  # every native format of today begins so, and no pickle does
    except (Unloadable, OSError):
        return False
