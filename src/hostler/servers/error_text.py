"""Why a load or a call failed, as a reply: the status, and a text that shows none of this machine's folders."""

from __future__ import annotations

import os
import traceback

from hostler import failures
from hostler.contract import BASE_DIR
from hostler.failures import Code, Failure
from hostler.servers.environment import Environment
from hostler.servers.frameworks.predictor import Rejected, Reply, Unloadable
from hostler.text import hide_all_folders

_LENGTH = 6_000  # characters of a text; of a longer one, its end, where the reason stands
_EXTRAS = {  # by what is imported
    "xgboost": "xgboost",
    "sklearn": "sklearn",
    "joblib": "sklearn",
    "torch": "torch",
    "onnxruntime": "onnx",
    "numpy": "xgboost",
}
# How libraries say that memory ran out: C++'s own words, PyTorch's, onnxruntime's.
_NO_MEMORY = ("bad_alloc", "DefaultCPUAllocator: ", "Failed to allocate memory")


def reply(error: BaseException, environment: Environment) -> Reply:
    """The answer to a call that raised `error`: the message, then the traceback, as AWS's toolkit has it.

    A MemoryError is 507, by which the platform knows to unload something. An exception of a script with a
    `status_code` (the toolkit's own errors have one) says itself what it is.
    """
    message = text(error, environment)
    if isinstance(error, Rejected):
        return Reply(error.status, message.encode(), "text/plain")
    if out_of_memory(error):
        return Reply(507, message.encode(), "text/plain")
    status = getattr(error, "status_code", 500)
    status = status if isinstance(status, int) and 400 <= status <= 599 else 500
    return Reply(status, f"{message}\n{where(error, environment)}".encode(), "text/plain")


def out_of_memory(error: BaseException) -> bool:
    """Whether memory ran out, also in a library that says so in words alone."""
    said = _said(error)
    return isinstance(error, MemoryError) or any(words in said for words in _NO_MEMORY)


def text(error: BaseException, environment: Environment) -> str:
    """The error in a sentence; its type's name stands in for a message that it has not.

    Where a package is missing that comes with an extra of ours, it ends with how to install that.
    """
    found = _said(error)
    if isinstance(error, SystemExit):
        found = f"the script ended itself: sys.exit({error.code!r})"
    elif isinstance(error, KeyError | ImportError | NameError | SyntaxError) or not found:
        found = f"{type(error).__name__}: {found}" if found else type(error).__name__
    if extra := _missing_extra(error):
        found = f"{found}: {failures.extra(extra)}"
    return _end(_hidden(found, environment))


def failure(error: BaseException, environment: Environment) -> Failure:
    """Put the error into data, by its type and code; wording counts for none but a library that ran out of memory."""
    code, cause, advice = Code.SCRIPT_RAISED, text(error, environment), ""
    if out_of_memory(error):
        code, advice = Code.OUT_OF_MEMORY, failures.ADVICE[Code.OUT_OF_MEMORY]
    elif isinstance(error, Unloadable):
        code, cause, advice = error.code, _hidden(error.cause, environment), error.advice
    elif extra := _missing_extra(error):
        code, advice = Code.EXTRA_MISSING, failures.install_extra(extra)
        cause = cause.removesuffix(f": {failures.extra(extra)}")
    elif isinstance(error, ModuleNotFoundError) and isinstance(error.name, str) and error.name:
        code, advice = Code.MODULE_MISSING, failures.install_module(error.name)
    return Failure(code, failures.one_line(_end(cause)), _end(_hidden(advice, environment)))


def _missing_extra(error: BaseException) -> str:
    """The extra of ours that brings the module that an import did not find; empty if none does.

    A script may raise the error itself, with anything for a name.
    """
    if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str):
        return _EXTRAS.get(error.name, "")
    return ""


def _said(error: BaseException) -> str:
    """The error's own words. A user's class may say them badly, or not at all."""
    try:
        message = getattr(error, "message", None)
        return message if isinstance(message, str) and message else str(error)
    except Exception:
        return ""


def of_load(error: BaseException, environment: Environment) -> str:
    """The traceback of an artifact's own code that failed a load; empty where the error says it all."""
    raised = error.__cause__ if isinstance(error, Unloadable) else error
    return where(raised, environment) if raised else ""


def where(error: BaseException, environment: Environment) -> str:
    """The end of the error's traceback, from the artifact's own code on."""
    frames = error.__traceback__
    while frames is not None and _ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    lines = "".join(traceback.format_exception(type(error), error, frames))
    return _end(_hidden(lines, environment))


def _ours(file: str) -> bool:
    return file.startswith((os.path.dirname(__file__), "<frozen importlib"))


def _hidden(found: str, environment: Environment) -> str:
    return hide_all_folders(environment.shown(found), but=BASE_DIR)


def _end(found: str) -> str:
    found = found.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
    return found if len(found) <= _LENGTH else f"...{found[-_LENGTH:]}"
