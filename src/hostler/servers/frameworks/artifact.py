"""An extracted artifact: which framework it is for, and which of its files is the model. It loads nothing."""

from __future__ import annotations

import contextlib
import itertools
import os
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import NamedTuple

from hostler import failures
from hostler.contract import CODE_DIR, DEFAULT_PROGRAM, ENV_PROGRAM
from hostler.failures import Code
from hostler.servers.environment import Environment
from hostler.servers.frameworks.predictor import Unloadable

XGBOOST_FILE = "xgboost-model"
PICKLES = ("model.joblib", "model.pkl", "model.pickle")
PICKLE_ENDINGS = (".joblib", ".pkl", ".pickle")
TORCH_FILES = ("model.pt", "model.pth")
TORCH_ENDINGS = (".pt", ".pth")
ONNX_FILES = ("model.onnx",)
ONNX_ENDINGS = (".onnx",)
_BY_ENDING = {"torch": TORCH_ENDINGS, "onnx": ONNX_ENDINGS, "sklearn": PICKLE_ENDINGS}
_TORCHSCRIPT = "constants.pkl"  # in every TorchScript archive, and in none of torch.save's
_LOOKED_AT = 50  # files of an artifact without a model
_HUGGING_FACE = ("model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "tf_model.h5")


class Stamp(NamedTuple):
    """What tells a file's content from any other's, and from what it was before it was written to. It is no name."""

    device: int
    inode: int
    changed: int  # nanoseconds; a program cannot set it
    size: int  # bytes


def framework(folder: Path, environment: Environment) -> str:
    """The framework to load the artifact with: the environment's, or for `auto` what its files tell.

    A script that SAGEMAKER_PROGRAM names goes before an image's own way with a model, as in AWS's containers; one that
    merely lies there goes before it everywhere but on the XGBoost image. On the PyTorch image (`torch`) a model may be
    TorchScript or ONNX. Raises Unloadable with what was looked for.
    """
    if (environment.program_named or environment.framework != "xgboost") and program(folder, environment):
        return "script"
    if environment.framework not in ("auto", "torch"):
        return environment.framework
    any_image = environment.framework == "auto"
    names = files(folder)
    if any_image and XGBOOST_FILE in names:
        return "xgboost"
    endings: tuple[str, ...] = ()
    for kind in _BY_ENDING if any_image else ("torch", "onnx"):
        if any(name.endswith(_BY_ENDING[kind]) for name in names):
            return kind
        endings += _BY_ENDING[kind]
    if any(name in names for name in _HUGGING_FACE):
        cause = f"the artifact is a model of Hugging Face's libraries ({_listed(names)}), which is loaded by code"
        advice = (
            f"add {CODE_DIR}/{environment.program} with model_fn and predict_fn, or export it to ONNX or TorchScript"
        )
        sentence = f"{advice[0].upper()}{advice[1:]}."
        raise Unloadable(f"{cause}: {advice}", Code.CODE_NEEDED, cause=cause, advice=sentence)
    if any_image and len(names) == 1:
        return "xgboost"
    raise no_model(
        folder,
        f"no model was found in the artifact: neither {CODE_DIR}/{environment.program}, nor "
        + (f"{XGBOOST_FILE}, nor a single file, nor " if any_image else "")
        + f"a file ending in {', '.join(endings)}. It holds {_listed(names)}",
    )


def program(folder: Path, environment: Environment) -> Path | None:
    """The script of an artifact: in its folder `code`, beside the model, or in the submit directory.

    Raises Unloadable if somebody asked for a script and it is in none of them.
    """
    name = environment.program if environment.program.endswith(".py") else f"{environment.program}.py"
    places = [folder / CODE_DIR, folder]
    submitted = environment.submit_directory
    if submitted and "://" not in submitted:
        places.append(environment.below_base(submitted))
    for place in places:
        if os.path.isfile(os.path.join(place, name)):
            return place / name
    if not environment.program_named:
        return None
    last = f"in the submit directory {submitted}" if submitted else "in a submit directory, for none was given"
    if "://" in submitted:
        last = "in the submit directory, an address that was not fetched for this container"
    raise Unloadable(
        f"{ENV_PROGRAM} names {name}, which is not there: neither in the artifact's folder {CODE_DIR}, nor at the "
        f"artifact's top, nor {last}",
        Code.SCRIPT_MISSING,
    )


def model_file(folder: Path, names: Sequence[str], endings: tuple[str, ...] = ("",)) -> Path:
    """The first of `names` that is there, else the only file with one of the endings. Raises Unloadable."""
    for name in names:
        if os.path.isfile(os.path.join(folder, name)):
            return folder / name
    there = files(folder)
    fitting = [name for name in there if name.endswith(endings)]
    if len(fitting) == 1:
        return folder / fitting[0]
    wanted = " or ".join(names)
    said = f"the artifact holds no {wanted} and no single file to take for it. It holds {_listed(there)}"
    raise no_model(folder, said)


def check_torchscript(file: Path) -> None:
    """Raises Unloadable for what torch.jit.load cannot load."""
    try:
        with zipfile.ZipFile(file) as archive:
            if any(name.rpartition("/")[2] == _TORCHSCRIPT for name in archive.namelist()):
                return
    except Exception:  # whatever its reader stumbles over, it is no archive of ours
        pass
    cause = f"{file.name} is no TorchScript, as torch.jit.save writes it"
    advice = (
        "Of a state_dict or a pickled module only its own code can make a model: add"
        f" {CODE_DIR}/{DEFAULT_PROGRAM} with a model_fn that does, or save the model with torch.jit.script or"
        " torch.jit.trace and torch.jit.save"
    )
    raise Unloadable(f"{cause}. {advice}", Code.CODE_NEEDED, cause=cause, advice=f"{advice}.")


def no_model(folder: Path, text: str) -> Unloadable:
    """Return the error for an artifact without model and script; if all files lie in one folder, that is its cause."""
    walked = (
        os.path.relpath(os.path.join(place, name), folder) for place, _, names in os.walk(folder) for name in names
    )
    deep = failures.short(too_deep([*itertools.islice(walked, _LOOKED_AT)]))
    if not deep:
        return Unloadable(text, Code.NO_MODEL)
    return Unloadable(
        text,
        Code.FOLDER_TOO_DEEP,
        cause=f"all files of the archive lie in its folder {deep}/, none at its top",
        advice=f"{failures.PACK_INSIDE} ({failures.pack_inside(deep)}). {failures.LINT}",
    )


def too_deep(files: Sequence[str]) -> str:
    """The one folder in which all files of an archive lie, if that is so and it is not the scripts' own; else empty."""
    real = [name for name in files if not name.rpartition("/")[2].startswith("._")]
    tops = {name.partition("/")[0] for name in real}
    only = next(iter(tops)) if len(tops) == 1 else ""
    return only if only not in ("", CODE_DIR) and all("/" in name for name in real) else ""


def files(folder: Path) -> list[str]:
    """The names of the files at an artifact's top, but for hidden ones (macOS leaves `._*` files in archives)."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))


def size(folder: Path) -> int:
    """Bytes of all files below the folder."""
    return sum(stamp.size for stamp in stamps(folder))


def stamps(folder: Path) -> list[Stamp]:
    """Of all files below the folder. Links are not followed, and what cannot be listed is left out."""
    found: list[Stamp] = []
    unseen = [os.fspath(folder)]
    while unseen:
        with contextlib.suppress(OSError), os.scandir(unseen.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    unseen.append(entry.path)
                else:
                    found.append(stamp(entry.stat(follow_symlinks=False)))
    return found


def stamp(told: os.stat_result) -> Stamp:
    return Stamp(told.st_dev, told.st_ino, told.st_ctime_ns, told.st_size)


def _listed(names: list[str]) -> str:
    shown = ", ".join(names[:5]) or "no files at its top"
    return f"{shown} and {len(names) - 5} more" if len(names) > 5 else shown
