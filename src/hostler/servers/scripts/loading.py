"""Find an artifact's script, import it, and find its functions."""

from __future__ import annotations

import importlib.util
import os
import shutil
import sys
from collections.abc import Callable
from pathlib import Path
from types import ModuleType
from typing import NamedTuple

from hostler.contract import CODE_DIR
from hostler.failures import Code
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, old_imports, requirements
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


def own_folder(folder: Path) -> Path:
    """Return a folder with a model's files in which its script may make others.

    The folder of a target is a link to files that containers share, read-only. Beside it, a tree of links to them is
    made, once for all processes of the target; it is removed with the target. Any other folder is the model's own.
    """
    if not folder.is_symlink():
        return folder
    shared = folder.resolve()
    own = folder.with_name(f"own-{shared.parent.name}")  # by the artifact: after a crash, a new one may be in its place
    if not own.is_dir():
        draft = folder.with_name(f".{own.name}.{os.getpid()}")
        shutil.copytree(shared, draft, copy_function=os.symlink)
        try:
            draft.rename(own)
        except OSError:  # another process of the target was faster
            shutil.rmtree(draft)
    return own


def functions(folder: Path, environment: Environment) -> Functions:
    """Make this process the script's own, and import the script. Raises Unloadable, and whatever the script raises.

    Multi Model Server and TorchServe run a model in its folder, which is on the path (WorkerLifeCycle.java), and before
    it `code`. With sagemaker_containers it is neither: a script works in the container's folder.
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
    places = [program.parent, folder / CODE_DIR]
    if profile.toolkit(environment.multi_model) != "containers":
        os.chdir(folder)
        places.append(folder)
    path = dict.fromkeys(map(str, places))
    sys.path[:0] = path
    os.environ["PYTHONPATH"] = os.pathsep.join(path)  # for the script's children
    sys.path.extend(str(folder) for folder in profile.module_folders())
    old_imports.teach()
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
