"""Replies for failed loads and calls: the status, and a text without this machine's folders."""

from __future__ import annotations

import os
import traceback

from hostler import failures
from hostler.contract import BASE_DIR
from hostler.failures import Code, Failure
from hostler.servers.environment import Environment
from hostler.servers.frameworks.predictor import Rejected, Reply, Unloadable
from hostler.text import hide_all_folders

_LENGTH = 6_000  # characters of a text; a longer one is cut to its end, where the reason is
_EXTRAS = {  # by module
    "xgboost": "xgboost",
    "sklearn": "sklearn",
    "joblib": "sklearn",
    "torch": "torch",
    "onnxruntime": "onnx",
    "catboost": "catboost",
    "lightgbm": "lightgbm",
    "numpy": "xgboost",
}
# Phrases of errors about memory: of C++, PyTorch and onnxruntime.
_NO_MEMORY = ("bad_alloc", "DefaultCPUAllocator: ", "Failed to allocate memory")


def reply(error: BaseException, environment: Environment) -> Reply:
    """Return the answer to a call that raised `error`: the message, then the traceback, as AWS's toolkit does.

    A MemoryError is 507, on which the platform unloads something. Else an exception's `status_code`, which the
    toolkit's own errors have, is the status if it is 400 to 599.
    """
    message = text(error, environment)
    if isinstance(error, Rejected):
        return Reply(error.status, message.encode(), "text/plain")
    if out_of_memory(error):
        return Reply(507, message.encode(), "text/plain")
    status = getattr(error, "status_code", 500)
    status = status if isinstance(status, int) and 400 <= status <= 599 else 500
    return Reply(status, f"{message}\n{user_traceback(error, environment)}".encode(), "text/plain")


def out_of_memory(error: BaseException) -> bool:
    """True if memory ran out, also in a library whose error tells that in words alone."""
    message = _message(error)
    return isinstance(error, MemoryError) or any(phrase in message for phrase in _NO_MEMORY)


def text(error: BaseException, environment: Environment) -> str:
    """Return the error as a sentence; its type's name if it has no message.

    If a package of an extra of ours is missing, the sentence ends with the command that installs it.
    """
    message = _message(error)
    if isinstance(error, SystemExit):
        message = f"the script ended itself: sys.exit({error.code!r})"
    elif isinstance(error, KeyError | ImportError | NameError | SyntaxError) or not message:
        message = f"{type(error).__name__}: {message}" if message else type(error).__name__
    if extra := _missing_extra(error):
        message = f"{message}: {failures.extra(extra)}"
    return hidden(message, environment)


def own_message(error: BaseException, environment: Environment) -> str:
    """Return the error's own words, as str() has them; empty if it has none, or raises."""
    try:
        return hidden(str(error), environment)
    except Exception:
        return ""


def hidden(message: str, environment: Environment) -> str:
    """Return the end of a message of the user's code, without this machine's folders."""
    return _end(_hidden(message, environment))


def failure(error: BaseException, environment: Environment) -> Failure:
    """Return the error as data, by its type and code; wording matters only for a library that ran out of memory."""
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
    return Failure(code, failures.one_line(_end(cause)), hidden(advice, environment))


def _missing_extra(error: BaseException) -> str:
    """Return the extra of ours for a module that is missing; empty if it is of none.

    A script may raise the error itself, with anything as its name.
    """
    if isinstance(error, ModuleNotFoundError) and isinstance(error.name, str):
        return _EXTRAS.get(error.name, "")
    return ""


def _message(error: BaseException) -> str:
    """Return the error's own message. A user's class may have none, or raise."""
    try:
        attribute = getattr(error, "message", None)
        return attribute if isinstance(attribute, str) and attribute else str(error)
    except Exception:
        return ""


def load_traceback(error: BaseException, environment: Environment) -> str:
    """Return the traceback of the artifact's own code that failed a load; empty if none of it was running."""
    raised = error.__cause__ if isinstance(error, Unloadable) else error
    return user_traceback(raised, environment) if raised else ""


def user_traceback(error: BaseException, environment: Environment) -> str:
    """Return the end of the error's traceback, from the artifact's own code on."""
    frames = error.__traceback__
    while frames is not None and _ours(frames.tb_frame.f_code.co_filename):
        frames = frames.tb_next
    lines = "".join(traceback.format_exception(type(error), error, frames))
    return _end(_hidden(lines, environment))


def _ours(file: str) -> bool:
    return file.startswith((os.path.dirname(__file__), "<frozen importlib"))


def _hidden(text: str, environment: Environment) -> str:
    return hide_all_folders(environment.contract_paths(text), but=BASE_DIR)


def _end(text: str) -> str:
    text = text.encode("utf-8", "replace").decode()  # a lone surrogate cannot be sent
    return text if len(text) <= _LENGTH else f"...{text[-_LENGTH:]}"
