"""The failure of one of our model servers as data, with code, message and advice, and the file that carries it.

The server leaves the file in its base folder; control reads it for the FailureReason, and `hostler lint` uses the same
codes and advice. Neither depends on wording: see docs/decisions/0016-failures-in-data.md.
"""

from __future__ import annotations

import contextlib
import os
import stat
from enum import StrEnum
from pathlib import Path

import msgspec

from hostler.contract import CODE_DIR, DEFAULT_PROGRAM, ENV_PROGRAM

FILE = "hostler-failure.json"  # in the container's base folder
SIZE = 16_384  # bytes; a larger file is ignored
_LINE = 500  # characters of a message, and of the log's last line


class Code(StrEnum):
    """The kinds of failure. Never change a value: servers and control may be of different versions."""

    EXTRA_MISSING = "extra_missing"  # a package of one of hostler's extras
    MODULE_MISSING = "module_missing"  # any other module that the artifact's code imports
    NO_MODEL = "no_model"  # no possible model file, and no script
    FOLDER_TOO_DEEP = "folder_too_deep"  # the same, and all files are in one folder of the archive
    MODEL_FILE = "model_file"  # the model's file does not load
    MODEL_FORM = "model_form"  # it is in a form that what is installed here does not read
    CODE_NEEDED = "code_needed"  # only a script can make a model of the file
    OTHER_SERVER = "other_server"  # the artifact is made for a model server that nothing here stands in for
    SCRIPT_MISSING = "script_missing"  # the script that SAGEMAKER_PROGRAM names does not exist
    SCRIPT_RAISED = "script_raised"  # the artifact's own code raised an exception
    NO_MODEL_FN = "no_model_fn"
    NO_PREDICT_FN = "no_predict_fn"
    FUNCTIONS_CLASH = "functions_clash"  # transform_fn and functions that it replaces
    OUT_OF_MEMORY = "out_of_memory"
    PROCESS_KILLED = "process_killed"  # the target's process, by SIGKILL, during its load
    PROCESS_ENDED = "process_ended"  # the same, in any other way
    OTHER = "other"


class Failure(msgspec.Struct, frozen=True):
    """`message`: one line without advice and full stop. `advice`: whole sentences, or empty.

    `line`: the same failure's line in the log, as printed. `loading`: the load of the model failed, not the server's
    start before it. `code` is text, so that codes of other versions can be read.
    """

    code: str
    message: str
    advice: str = ""
    line: str = ""
    loading: bool = True


_FAILURE = msgspec.json.Decoder(Failure)  # made before threads decode (see s3/buckets.py)


# --- advice ---------------------------------------------------------------------------------------------------------

LINT = "hostler lint model.tar.gz checks an archive before anything starts."
MEMORY = (
    "A smaller model, fewer instances or containers, or a machine with more memory helps; on AWS, a larger"
    " InstanceType."
)
SAVE_XGBOOST = "Save it again where it was made: booster.save_model('model.ubj'), packed as xgboost-model."
EACH_FILE = "this image takes each file at the archive's top for a model"  # XGBoost's since 1.2-2
PACK_INSIDE = "Pack what is in that folder, not the folder"
_NAMED = 60  # characters of a name


def define_model_fn(where: str = "") -> str:
    """Return the advice for a script without model_fn; `where` says in which file."""
    return f"Define model_fn(model_dir){where}; it returns the loaded model."


def leave_out(name: str) -> str:
    """Return the advice for a file that is no model, where an image takes each file for one."""
    return f"Leave {name} out of the archive, or put it into a folder there; if it is a model, save it again."


# By code, for errors without advice of their own.
ADVICE = {
    Code.NO_MODEL: LINT,
    Code.SCRIPT_MISSING: (
        f"Put it into the archive's folder {CODE_DIR}/, or set {ENV_PROGRAM} to the script that is there. {LINT}"
    ),
    Code.NO_MODEL_FN: define_model_fn(f" in {CODE_DIR}/{DEFAULT_PROGRAM} of the archive"),
    Code.NO_PREDICT_FN: (
        "Define predict_fn(data, model) in the script, or transform_fn(model, data, content_type, accept): only a model"
        " with a method predict needs neither."
    ),
    Code.OUT_OF_MEMORY: MEMORY,
    Code.PROCESS_KILLED: MEMORY,
}


def extra(name: str) -> str:
    """Return the command that installs an extra of hostler's."""
    return f"pip install 'hostler[{name}]'"


def install_extra(name: str) -> str:
    """Return the advice for a package that comes with an extra of hostler's."""
    return f"Install that ({extra(name)})."


def install_module(module: str) -> str:
    """Return the advice for any other missing module."""
    return (
        f"Install the package that has it (such as pip install {package(module)}) where hostler is installed: here, an"
        " archive's requirements.txt is not."
    )


def map_image(name: str) -> str:
    """Return the advice for an image that nothing here stands in for. `name`: its URI without tag and digest."""
    return f'Map it to a command in hostler.toml: under [images], "{name}" = "/path/to/program".'


def package(module: str) -> str:
    """Return the package that most likely has a module: the first part of its name."""
    return short(module.partition(".")[0])


def short(name: str) -> str:
    """Shorten a name to 60 characters."""
    return name if len(name) <= _NAMED else f"{name[: _NAMED - 3]}..."


def pack_inside(folder: str) -> str:
    """Return the command that packs the content of an archive's one folder."""
    return f"tar -czf model.tar.gz -C {folder} ."


# --- the file -------------------------------------------------------------------------------------------------------


def one_line(text: str) -> str:
    """Return the first line of an error, cut to 500 characters."""
    line = text.strip().partition("\n")[0]
    return line if len(line) <= _LINE else f"{line[:_LINE]}..."


def leave(base: Path, failure: Failure) -> None:
    """Write the failure atomically into the base folder. An OSError is ignored, for the log has the same."""
    draft = base / f".{FILE}.{os.getpid()}"
    with contextlib.suppress(OSError):
        try:
            draft.write_bytes(msgspec.json.encode(failure))
            draft.replace(base / FILE)
        finally:
            draft.unlink(missing_ok=True)


def withdraw(base: Path) -> None:
    """Remove an earlier server's failure."""
    with contextlib.suppress(OSError):
        (base / FILE).unlink(missing_ok=True)


def read(base: Path) -> Failure | None:
    """Read the failure that a server left, if there is one. Code of the artifact may have written anything there."""
    try:
        fd = os.open(base / FILE, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
        with open(fd, "rb") as file:
            if not stat.S_ISREG(os.fstat(fd).st_mode):
                return None
            return decoded(file.read(SIZE + 1))
    except OSError:
        return None


def decoded(data: bytes) -> Failure | None:
    """Decode the file's bytes; None if they are truncated, too many, no such JSON, or without a message."""
    if len(data) > SIZE:
        return None
    try:
        failure = _FAILURE.decode(data)
    except (msgspec.MsgspecError, RecursionError, ValueError):
        return None
    return failure if failure.message.strip() else None
