"""A model's folder as Hugging Face's libraries save it, served by transformers' pipeline, as the toolkit loads it.

Source: transformers_utils.py of aws/sagemaker-huggingface-inference-toolkit. Nothing is fetched: the libraries are
offline in a process that loads a folder here.
"""

from __future__ import annotations

import importlib
import json
import os
import sys
import tempfile
from collections.abc import Callable, Mapping
from pathlib import Path

from hostler.failures import Code
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact, installed
from hostler.servers.frameworks.predictor import Unloadable

ENV_TASK = "HF_TASK"
_ENV_TRUST = "HF_TRUST_REMOTE_CODE"
_TRUST = f"If you trust that code, set {_ENV_TRUST}=True in the container's Environment."
_OFFLINE = ("HF_HUB_OFFLINE", "TRANSFORMERS_OFFLINE")
_DIFFUSERS = "model_index.json"
# The task of an architecture, by the end of its name; a later line wins.
_TASKS = {
    "TapasForQuestionAnswering": "table-question-answering",
    "ForQuestionAnswering": "question-answering",
    "ForTokenClassification": "token-classification",
    "ForSequenceClassification": "text-classification",
    "ForMultipleChoice": "multiple-choice",
    "ForMaskedLM": "fill-mask",
    "ForCausalLM": "text-generation",
    "ForConditionalGeneration": "text2text-generation",
    "MTModel": "text2text-generation",
    "EncoderDecoderModel": "text2text-generation",
    "GPT2LMHeadModel": "text-generation",
    "T5WithLMHeadModel": "text2text-generation",
}
# Tasks whose inputs a feature extractor prepares; those of all others, a tokenizer.
EXTRACTED = (
    "automatic-speech-recognition", "image-segmentation", "image-classification", "audio-classification",
    "object-detection", "zero-shot-image-classification",
)  # fmt: skip
_TRUE = ("y", "yes", "t", "true", "on", "1")
_FALSE = ("n", "no", "f", "false", "off", "0")


def pipeline(folder: Path, environment: Environment) -> Callable[..., object]:
    """Load a folder for HF_TASK, else for its architecture's task, which is then in HF_TASK. Raises Unloadable."""
    task = task_of(folder, os.environ)
    if missing := installed.missing("huggingface"):
        raise missing
    trusted = _trusts_remote_code()
    os.environ.update(dict.fromkeys(_OFFLINE, "1") | {ENV_TASK: task})
    processor = "feature_extractor" if task in EXTRACTED else "tokenizer"
    with tempfile.TemporaryDirectory(dir=environment.base, prefix="remote-code-") as modules:
        transformers = importlib.import_module("transformers")
        _set_imported(modules)
        try:
            model: Callable[..., object] = transformers.pipeline(
                task=task, model=str(folder), device=-1, trust_remote_code=trusted, **{processor: str(folder)}
            )
            return model
        except MemoryError:
            raise
        except Exception as error:
            advice = _advice(folder, task, trusted, error)
            cause = f"transformers does not load it for {task}: {_said(error)}"
            raise Unloadable(f"{cause}. {advice}".strip(" ."), cause=cause, advice=advice) from error
        finally:
            sys.path[:] = [path for path in sys.path if path != modules]


def _advice(folder: Path, task: str, trusted: bool, error: Exception) -> str:
    """Return what helps, where that is known: the library's own error says nothing of a missing tokenizer."""
    if not trusted and "trust_remote_code" in str(error):
        return _TRUST
    prepared = task in EXTRACTED or any(name.startswith("tokenizer") for name in artifact.files(folder))
    return "" if prepared else "The folder has no tokenizer: tokenizer.save_pretrained adds one."


def task_of(folder: Path, environ: Mapping[str, str]) -> str:
    """Return HF_TASK, else the task of the model's architecture. Raises Unloadable if there is neither."""
    if environ.get(ENV_TASK):
        return environ[ENV_TASK]
    advice = f"Set {ENV_TASK} in the container's Environment to the task, such as text-classification."
    if not (folder / artifact.HUGGING_FACE_CONFIG).is_file():
        diffusers = (folder / _DIFFUSERS).is_file()
        cause = (
            f"it is a model of diffusers ({_DIFFUSERS})"
            if diffusers
            else f"there is no {artifact.HUGGING_FACE_CONFIG}, and no {ENV_TASK}"
        )
        raise _unknown(cause, "Add code/inference.py with a model_fn that loads it." if diffusers else advice)
    try:
        architectures = json.loads((folder / artifact.HUGGING_FACE_CONFIG).read_bytes()).get("architectures")
        architecture = str(architectures[0])
    except (ValueError, AttributeError, TypeError, LookupError, RecursionError):
        raise _unknown(f"{artifact.HUGGING_FACE_CONFIG} names no architecture", advice) from None
    tasks = [task for ending, task in _TASKS.items() if architecture.endswith(ending)]
    if not tasks:
        raise _unknown(f"no task is known for the architecture {architecture[:60]}", advice)
    return tasks[-1]


def _unknown(cause: str, advice: str) -> Unloadable:
    return Unloadable(f"{cause}. {advice.rstrip('.')}", Code.NO_MODEL, cause=cause, advice=advice)


def _trusts_remote_code() -> bool:
    value = os.environ.get(_ENV_TRUST, "False").lower()
    if value not in (*_TRUE, *_FALSE):
        raise Unloadable(f"{_ENV_TRUST} is neither true nor false: {value[:40]}", Code.OTHER)
    return value in _TRUE


def _set_imported(modules: str) -> None:
    """Set what the libraries took from the environment when they were imported, perhaps before this process began.

    `modules`: where they copy a model's own code, which is in nobody's way there once it is imported.
    """
    for module, name, value in (
        ("huggingface_hub.constants", "HF_HUB_OFFLINE", True),
        ("transformers.utils.hub", "_is_offline_mode", True),
        ("transformers.dynamic_module_utils", "HF_MODULES_CACHE", modules),
    ):
        setattr(importlib.import_module(module), name, value)


def _said(error: Exception) -> str:
    """Return the line of an error that says why: the last of one that quotes tracebacks, else the first."""
    first, _, more = str(error).strip().partition("\n")
    line = more.rpartition("\n")[2] if "Traceback" in more else first
    return line.rstrip(".") or type(error).__name__
