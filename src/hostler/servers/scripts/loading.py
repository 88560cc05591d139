"""Find an artifact's script, import it, and find its functions."""

from __future__ import annotations

import importlib.util
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import Any, NamedTuple

from hostler.contract import CODE_DIR
from hostler.failures import Code
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, requirements
from hostler.servers.frameworks.predictor import Unloadable
from hostler.servers.processes import fork_guard

Function = Callable[..., Any]


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


def functions(folder: Path, environment: Environment) -> Functions:
    """Import the artifact's script. Raises Unloadable, and whatever the script raises."""
    program = artifact.program(folder, environment)
    if program is None:
        text = f"the artifact has no {CODE_DIR}/{environment.program}, and no other place has it"
        raise artifact.no_model(folder, text)
    profile = environment.profile("script")
    if (program.parent / "requirements.txt").is_file():
        missing = requirements.missing(program.parent / "requirements.txt", profile)
        print("requirements.txt is not installed here: what it names must be installed where hostler is", end="")
        print(f". What is not: {', '.join(missing)}" if missing else "")
    sys.path.extend(str(folder) for folder in profile.module_folders())
    module = _imported(program)
    names = ("model_fn", "input_fn", "predict_fn", "output_fn", "transform_fn", "pre_model_fn", "model_warmup_fn")
    return Functions(program.name, *(getattr(module, name, None) for name in names))


def _imported(program: Path) -> ModuleType:
    """Import the script as a module under its own name, with its folder first on the path."""
    sys.path.insert(0, str(program.parent))
    spec = importlib.util.spec_from_file_location(program.stem, program)
    if spec is None or spec.loader is None:
        raise Unloadable(f"{program.name} is not a Python module", Code.OTHER)
    module = importlib.util.module_from_spec(spec)
    sys.modules[program.stem] = module
    with fork_guard.exit_if_forked():
        spec.loader.exec_module(module)
    return module
