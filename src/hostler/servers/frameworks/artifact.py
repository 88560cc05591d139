"""An extracted artifact: its framework, its script and its model file. Nothing is loaded here."""

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
from hostler.servers.frameworks import canned, foreign
from hostler.servers.frameworks.predictor import Unloadable
from hostler.servers.images import xgboost

XGBOOST_FILE = "xgboost-model"
PICKLES = ("model.joblib", "model.pkl", "model.pickle")
PICKLE_ENDINGS = (".joblib", ".pkl", ".pickle")
TORCH_FILES = ("model.pt", "model.pth")
TORCH_ENDINGS = (".pt", ".pth")
ONNX_FILES = ("model.onnx",)
ONNX_ENDINGS = (".onnx",)
CATBOOST_FILES = ("model.cbm",)
CATBOOST_ENDINGS = (".cbm",)
LIGHTGBM_FILES = ("model.txt",)
LIGHTGBM_ENDINGS = ("model.txt", ".lgb", ".lgbm")
_BY_ENDING = {
    "torch": TORCH_ENDINGS,
    "onnx": ONNX_ENDINGS,
    "sklearn": PICKLE_ENDINGS,
    "catboost": CATBOOST_ENDINGS,
    "lightgbm": LIGHTGBM_ENDINGS,
}
_TORCHSCRIPT = "constants.pkl"  # in every TorchScript archive, and in none of torch.save's
HUGGING_FACE_CONFIG = "config.json"
_WEIGHTS = (
    "model.safetensors", "model.safetensors.index.json", "pytorch_model.bin", "pytorch_model.bin.index.json",
    "tf_model.h5",
)  # fmt: skip
_ZEROS = 64  # bytes at the begin of a file; the old binary form has the number of columns among them
_LISTED_FILES = 50  # of an artifact without a model, to find out whether they are in one folder


class Stamp(NamedTuple):
    """Identifies a file's content: it differs from every other file's, and changes with each write. It is no name."""

    device: int
    inode: int
    changed: int  # nanoseconds (ctime); a program cannot set it
    size: int  # bytes


def framework(folder: Path, environment: Environment) -> str:
    """Return the framework that loads the artifact: the environment's; for `auto`, by the artifact's files.

    A script that SAGEMAKER_PROGRAM names takes precedence over the image's own loading, as in AWS's containers; any
    other script does so on every image but XGBoost's. On the PyTorch image (`torch`) a model is TorchScript or ONNX.
    Raises Unloadable, which lists the files that would do.
    """
    if environment.framework == canned.FRAMEWORK:
        return canned.FRAMEWORK
    if (environment.program_named or environment.framework != "xgboost") and program(folder, environment):
        return "script"
    if environment.framework not in ("auto", "torch"):
        return environment.framework
    any_image = environment.framework == "auto"
    names = files(folder)
    if any_image:
        foreign.check_configuration(names)
        if any(name.startswith(XGBOOST_FILE) for name in names):
            return "xgboost"
    endings: tuple[str, ...] = ()
    for candidate in _BY_ENDING if any_image else ("torch", "onnx"):
        if any(name.endswith(_BY_ENDING[candidate]) for name in names):
            return candidate
        endings += _BY_ENDING[candidate]
    if any(name in names for name in _WEIGHTS):
        if any_image and HUGGING_FACE_CONFIG in names:
            return "huggingface"
        raise _needs_code(names, environment)
    if any_image:
        foreign.check_models(folder)
        if len(names) == 1:
            return "xgboost"
    raise no_model(
        folder,
        f"no model was found in the artifact: neither {CODE_DIR}/{environment.program}, nor "
        + (f"{XGBOOST_FILE}, nor a single file, nor " if any_image else "")
        + f"a file ending in {', '.join(endings)}. It holds {_listed(names)}",
    )


def program(folder: Path, environment: Environment) -> Path | None:
    """Return the artifact's script: in its folder `code`, beside the model, or in the submit directory; else None.

    Raises Unloadable if SAGEMAKER_PROGRAM names a script that is in none of them.
    """
    name = environment.program if environment.program.endswith(".py") else f"{environment.program}.py"
    folders = [folder / CODE_DIR, folder]
    submitted = environment.submit_directory
    if submitted and "://" not in submitted:
        folders.append(environment.below_base(submitted))
    for candidate in folders:
        if os.path.isfile(os.path.join(candidate, name)):
            return candidate / name
    if not environment.program_named or environment.framework == "huggingface":  # its toolkit has defaults for all
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
    """Return the first of `names` that exists, else the only file with one of the endings. Raises Unloadable."""
    for name in names:
        if os.path.isfile(os.path.join(folder, name)):
            return folder / name
    existing = files(folder)
    fitting = [name for name in existing if name.endswith(endings)]
    if len(fitting) == 1:
        return folder / fitting[0]
    text = f"the artifact holds no {' or '.join(names)} and no single file to take for it. It holds {_listed(existing)}"
    raise no_model(folder, text)


def xgboost_files(folder: Path, environment: Environment) -> list[Path]:
    """Return the files of an artifact that the XGBoost image loads as models, by name. Raises Unloadable.

    Since 1.2-2 these are all at the artifact's top, unless SAGEMAKER_INFERENCE_ENSEMBLE says otherwise
    (get_loaded_booster in serve_utils.py of aws/sagemaker-xgboost-container). Before, it is the first that the system
    lists: here `xgboost-model`, if there is one. An unknown image takes only files of that name, where there are any.
    Scripts are left out, and files that begin with zeros, as no model does: the image would fail to load them.
    """
    names = [name for name in files(folder) if not (name.endswith(".py") or _begins_with_zeros(folder / name))]
    named = [name for name in names if name.startswith(XGBOOST_FILE)]
    if environment.framework == "auto" and named:
        names = [XGBOOST_FILE] if XGBOOST_FILE in named else named
    if not names:
        return [model_file(folder, (XGBOOST_FILE,))]
    if len(names) > 1 and not (environment.ensemble and xgboost.algorithm(environment.profile("xgboost")).ensembles):
        names = [XGBOOST_FILE if XGBOOST_FILE in names else names[0]]
    return [folder / name for name in names]


def _begins_with_zeros(file: Path) -> bool:
    try:
        with file.open("rb", buffering=0) as opened:
            return opened.read(_ZEROS) == bytes(_ZEROS)
    except OSError:
        return False


def check_torchscript(file: Path) -> None:
    """Raise Unloadable for a file that torch.jit.load cannot load."""
    try:
        with zipfile.ZipFile(file) as archive:
            if any(name.rpartition("/")[2] == _TORCHSCRIPT for name in archive.namelist()):
                return
    except Exception:  # any exception of the reader's means that it is no such archive
        pass
    cause = f"{file.name} is no TorchScript, as torch.jit.save writes it"
    advice = (
        "Of a state_dict or a pickled module only its own code can make a model: add"
        f" {CODE_DIR}/{DEFAULT_PROGRAM} with a model_fn that does, or save the model with torch.jit.script or"
        " torch.jit.trace and torch.jit.save"
    )
    raise Unloadable(f"{cause}. {advice}", Code.CODE_NEEDED, cause=cause, advice=f"{advice}.")


def no_model(folder: Path, text: str) -> Unloadable:
    """Return the error for an artifact without model and script; its cause may be that all files are in one folder."""
    paths = (
        os.path.relpath(os.path.join(parent, name), folder) for parent, _, names in os.walk(folder) for name in names
    )
    deep = failures.short(too_deep([*itertools.islice(paths, _LISTED_FILES)]))
    if not deep:
        return Unloadable(text, Code.NO_MODEL)
    return Unloadable(
        text,
        Code.FOLDER_TOO_DEEP,
        cause=f"all files of the archive lie in its folder {deep}/, none at its top",
        advice=f"{failures.PACK_INSIDE} ({failures.pack_inside(deep)}). {failures.LINT}",
    )


def too_deep(files: Sequence[str]) -> str:
    """Return the folder that holds all files of an archive, unless it is the scripts' own; empty if there is none."""
    real = [name for name in files if not name.rpartition("/")[2].startswith("._")]
    tops = {name.partition("/")[0] for name in real}
    only = next(iter(tops)) if len(tops) == 1 else ""
    return only if only not in ("", CODE_DIR) and all("/" in name for name in real) else ""


def files(folder: Path) -> list[str]:
    """List the files at an artifact's top by name, without hidden ones (macOS leaves `._*` files in archives)."""
    with os.scandir(folder) as entries:
        return sorted(entry.name for entry in entries if entry.is_file() and not entry.name.startswith("."))


def size(folder: Path) -> int:
    """Return the bytes of all files below the folder."""
    return sum(stamp.size for stamp in stamps(folder))


def stamps(folder: Path) -> list[Stamp]:
    """Return the stamps of all files below the folder. Links are not followed; unreadable folders are left out."""
    stamps: list[Stamp] = []
    folders = [os.fspath(folder)]
    while folders:
        with contextlib.suppress(OSError), os.scandir(folders.pop()) as entries:
            for entry in entries:
                if entry.is_dir(follow_symlinks=False):
                    folders.append(entry.path)
                else:
                    stamps.append(stamp(entry.stat(follow_symlinks=False)))
    return stamps


def stamp(status: os.stat_result) -> Stamp:
    return Stamp(status.st_dev, status.st_ino, status.st_ctime_ns, status.st_size)


def _needs_code(names: list[str], environment: Environment) -> Unloadable:
    cause = f"the artifact is a model of Hugging Face's libraries ({_listed(names)}), which is loaded by code"
    advice = (
        f"add {CODE_DIR}/{environment.program} with model_fn and predict_fn, or name the image"
        f" huggingface-pytorch-inference, which serves a folder with {HUGGING_FACE_CONFIG}"
    )
    sentence = f"{advice[0].upper()}{advice[1:]}."
    return Unloadable(f"{cause}: {advice}", Code.CODE_NEEDED, cause=cause, advice=sentence)


def _listed(names: list[str]) -> str:
    first = ", ".join(names[:5]) or "no files at its top"
    return f"{first} and {len(names) - 5} more" if len(names) > 5 else first
