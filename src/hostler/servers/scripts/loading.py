"""Find an artifact's script, import it, and find its functions."""

from __future__ import annotations

import importlib.util
import os
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from hostler.contract import CODE_DIR
from hostler.failures import Code
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, requirements
from hostler.servers.frameworks.predictor import Unloadable
from hostler.servers.processes import fork_guard

Function = Callable[..., object]


class Functions(NamedTuple):
    """A script's functions; None for those that it does not have."""

    program: str  # the script's file name
    model: Function | None
    input: Function | None
    predict: Function | None
    output: Function | None
    transform: Function | None
    before_load: Function | None
    warm_up: Function | None


class Defaults(NamedTuple):
    """The functions that an image supplies where a script has none; called as a script's own, without a context."""

    input: Function  # (body, content type): text of JSON and CSV, else bytes
    predict: Function  # (data, model)
    output: Function  # (prediction, accept)
    model: Function | None = None  # (model_dir)
    method: str = "predict"  # what `predict` calls of the model; empty: the model itself


def functions(folder: Path, environment: Environment) -> Functions:
    """Make this process the script's own, and import the script. Raises Unloadable, and whatever the script raises.

    The working directory is the model's folder. It is on the path, and before it `code`, as in the images: Multi Model
    Server's and TorchServe's WorkerLifeCycle.java start a model's process in its folder, with that in PYTHONPATH.
    """
    program = artifact.program(folder, environment)
    if program is None:
        text = f"the artifact has no {CODE_DIR}/{environment.program}, and no other place has it"
        raise artifact.no_model(folder, text)
    profile = environment.profile("script")
    if (program.parent / "requirements.txt").is_file():
        missing = requirements.missing(program.parent / "requirements.txt", profile)
        print("requirements.txt is not installed here: what it names must be installed where hostler is", end="")
        print(f". What is not: {', '.join(missing)}" if missing else "")
    for name, value in profile.variables.items():
        os.environ.setdefault(name, str(environment.below_base(value)))
    os.chdir(folder)
    path = dict.fromkeys(str(place) for place in (program.parent, folder / CODE_DIR, folder))
    sys.path[:0] = path
    os.environ["PYTHONPATH"] = os.pathsep.join(path)  # for the script's children
    sys.path.extend(str(folder) for folder in profile.module_folders())
    module = _imported(program)
    names = ("model_fn", "input_fn", "predict_fn", "output_fn", "transform_fn", "pre_model_fn", "model_warmup_fn")
    return Functions(program.name, *(getattr(module, name, None) for name in names))


def _imported(program: Path) -> ModuleType:
    """Import the script as a module under its own name."""
    spec = importlib.util.spec_from_file_location(program.stem, program)
    if spec is None or spec.loader is None:
        raise Unloadable(f"{program.name} is not a Python module", Code.OTHER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[program.stem] = module
    with fork_guard.exit_if_forked():
        spec.loader.exec_module(module)
    return module
