"""An extracted artifact: which framework it is for, and which of its files is the model. It loads nothing."""

from __future__ import annotations

import os
from collections.abc import Sequence
from pathlib import Path

from hostler.contract import CODE_DIR
from hostler.servers.environment import Environment
from hostler.servers.predictor import Unloadable

XGBOOST_FILE = "xgboost-model"
PICKLES = ("model.joblib", "model.pkl", "model.pickle")
_PICKLE_ENDINGS = (".joblib", ".pkl", ".pickle")


def framework(folder: Path, environment: Environment) -> str:
    """The framework to load the artifact with: the environment's, or for `auto` what its files tell.

    A script that SAGEMAKER_PROGRAM names goes before an image's own way with a model, as in AWS's containers. Raises
    Unloadable with what was looked for.
    """
    auto = environment.framework == "auto"
    if (auto or environment.program_named) and program(folder, environment):
        return "script"
    if not auto:
        return environment.framework
    names = files(folder)
    if XGBOOST_FILE in names:
        return "xgboost"
    if any(name.endswith(_PICKLE_ENDINGS) for name in names):
        return "sklearn"
    if len(names) == 1:
        return "xgboost"
    raise Unloadable(
        f"no model was found in the artifact: neither {CODE_DIR}/{environment.program}, nor {XGBOOST_FILE}, nor a "
        f"file ending in {', '.join(_PICKLE_ENDINGS)}, nor a single file. It holds {_listed(names)}"
    )


def program(folder: Path, environment: Environment) -> Path | None:
    """The script of an artifact: in its folder `code`, beside the model, or in the submit directory."""
    name = environment.program if environment.program.endswith(".py") else f"{environment.program}.py"
    places = [folder / CODE_DIR, folder]
    if environment.submit_directory and "://" not in environment.submit_directory:
        places.append(environment.below_base(environment.submit_directory))
    return next((place / name for place in places if (place / name).is_file()), None)


def model_file(folder: Path, names: Sequence[str], endings: tuple[str, ...] = ("",)) -> Path:
    """The first of `names` that is there, else the only file with one of the endings. Raises Unloadable."""
    there = files(folder)
    for name in names:
        if name in there:
            return folder / name
    fitting = [name for name in there if name.endswith(endings)]
    if len(fitting) == 1:
        return folder / fitting[0]
    wanted = " or ".join(names)
    raise Unloadable(f"the artifact holds no {wanted} and no single file to take for it. It holds {_listed(there)}")


def files(folder: Path) -> list[str]:
    """The names of the files at an artifact's top, but for hidden ones (macOS leaves `._*` files in archives)."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))


def size(folder: Path) -> int:
    """Bytes of all files below the folder."""
    return sum(os.lstat(os.path.join(place, name)).st_size for place, _, names in os.walk(folder) for name in names)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "no files at its top"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
