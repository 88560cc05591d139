"""How an artifact is loaded, by its framework, and whether its target needs a process of its own."""

from __future__ import annotations

import contextlib
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hostler import model_files
from hostler.contract import ENV_PROGRAM
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, canned, installed
from hostler.servers.frameworks.predictor import Predictor

_HEAD = 512  # bytes, by which a model of XGBoost's is recognised
OWN_PROCESS_SIZE = 2**20  # bytes; unpickling a larger artifact blocks the interpreter noticeably


class Inspection(NamedTuple):
    """What an artifact's folder says of its load."""

    framework: str
    needs_process: bool
    files: Sequence[artifact.Stamp]


def inspect(folder: Path, environment: Environment) -> Inspection:
    """Inspect an artifact. Raises Unloadable."""
    framework = artifact.framework(folder, environment)
    if missing := installed.missing(framework):
        raise missing
    return Inspection(framework, needs_process(folder, framework), artifact.stamps(folder))


def needs_process(folder: Path, framework: str) -> bool:
    """True if loading or calling may block the interpreter or the loop: a user's script, or a model that is not small.

    Size does not measure a call's time, but its order of magnitude: a TorchScript or ONNX model below the limit has at
    most a quarter of a million weights. XGBoost's own formats load and predict in milliseconds at any size.
    """
    if framework in ("script", "huggingface", "lightgbm"):  # LightGBM's library ends its process at a damaged tree
        return True
    if framework == "xgboost" and not _xgboost_pickle(folder):
        return False
    return artifact.size(folder) > OWN_PROCESS_SIZE


def load(folder: Path, framework: str, environment: Environment) -> Predictor:
    """Load an artifact. Raises Unloadable, MemoryError, and whatever an artifact's own code raises."""
    if missing := installed.missing(framework):
        raise missing
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
    if framework == "catboost":
        from hostler.servers.frameworks import catboost

        return catboost.load(folder, environment)
    if framework == "lightgbm":
        from hostler.servers.frameworks import lightgbm

        return lightgbm.load(folder, environment)
    if framework == "onnx":
        from hostler.servers.frameworks import onnx

        return onnx.load(folder, environment)
    if framework == canned.FRAMEWORK:
        return canned.load(environment.base)
    return _by_toolkit(folder, framework, environment)


def _by_toolkit(folder: Path, framework: str, environment: Environment) -> Predictor:
    """Load an artifact's script, or a model without one, as the toolkit of the container's image does."""
    from hostler.servers.scripts import loading

    folder = loading.own_folder(folder)
    toolkit = environment.profile(framework).toolkit(environment.multi_model)
    if toolkit == "containers":
        from hostler.servers.scripts import containers_toolkit

        return containers_toolkit.load(folder, environment)
    if toolkit == "huggingface":
        from hostler.servers.scripts import huggingface_toolkit

        return huggingface_toolkit.load(folder, environment)
    from hostler.servers.scripts import inference_toolkit

    return inference_toolkit.load(folder, environment)


def _xgboost_pickle(folder: Path) -> bool:
    """True if a file at the artifact's top may be a pickled model."""
    with contextlib.suppress(OSError):
        return any(_may_be_pickled(folder / name) for name in artifact.files(folder))
    return False


def _may_be_pickled(file: Path) -> bool:
    with file.open("rb") as content:
        start = content.read(_HEAD)
    if start.startswith(model_files.XGBOOST):
        return False
    from hostler.servers.frameworks import xgboost_binary

    return not xgboost_binary.looks_binary(start)
