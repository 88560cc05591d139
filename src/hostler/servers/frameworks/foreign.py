"""Archives that are made for another model server: recognised by their files, and served by nothing here.

Under an image that nobody knows they would be taken for something else: for scikit-learn by a pickle beside
serving.properties, for XGBoost by their only file.
"""

from __future__ import annotations

import itertools
import os
from collections.abc import Sequence
from fnmatch import fnmatchcase
from pathlib import Path

from hostler.failures import Code
from hostler.servers.frameworks.predictor import Unloadable
from hostler.servers.images import refused
from hostler.servers.images.refused import Refused

_LISTED_FILES = 200
# Configurations of servers, at an archive's top: with one of these, no file beside it is served by itself.
_CONFIGURATIONS = {
    "serving.properties": ("configures DJL Serving (LMI)", refused.LMI),
    "config.pbtxt": ("configures Triton Inference Server", refused.TRITON),
}
# Models that no server here loads, by a pattern of their paths; `*` covers folders, too.
_MODELS = (
    ("*/config.pbtxt", "is of a model repository for Triton Inference Server", refused.TRITON),
    ("*.plan", "is an engine of TensorRT, as Triton serves it", refused.TRITON),
    ("*/serving.properties", "configures DJL Serving (LMI)", refused.LMI),
    ("*saved_model.pb", "is TensorFlow's SavedModel", refused.TENSORFLOW),
    ("*.keras", "is a model of Keras", refused.TENSORFLOW),
    ("*.h5", "is a model of Keras", refused.TENSORFLOW),
    ("*.tflite", "is a model of TensorFlow Lite", refused.TENSORFLOW),
    ("bundle.json", "is of an MLeap bundle, as Spark ML Serving takes it", refused.SPARK_ML),
    ("metadata/part-00000*", "is of a pipeline as Spark ML saves it", refused.SPARK_ML),
    ("*.neuron", "is compiled for AWS's Neuron chips", refused.NEURON),
    ("*.neff", "is compiled for AWS's Neuron chips", refused.NEURON),
    ("*-symbol.json", "is of a model of Apache MXNet", refused.MXNET),
    ("*.gguf", "is a model for llama.cpp", refused.LLAMA_CPP),
    ("model_algo-1", "is the model of one of Amazon's built-in algorithms", refused.ALGORITHM),
)


def check_configuration(names: Sequence[str]) -> None:
    """Raise Unloadable if a file at the archive's top, by these names, configures another model server."""
    for name, (text, advice) in _CONFIGURATIONS.items():
        if name in names:
            raise _unloadable(name, text, advice)


def check_models(folder: Path) -> None:
    """Raise Unloadable if a file of the archive is a model of a kind that no server here loads."""
    paths = (
        os.path.relpath(os.path.join(parent, name), folder) for parent, _, names in os.walk(folder) for name in names
    )
    listed = sorted(itertools.islice(paths, _LISTED_FILES))
    for pattern, text, advice in _MODELS:
        if path := next((path for path in listed if fnmatchcase(path, pattern)), ""):
            raise _unloadable(path, text, advice)


def _unloadable(path: str, text: str, instead: Refused) -> Unloadable:
    cause = f"{path} {text}, which nothing here stands in for"
    return Unloadable(
        f"{cause}. {instead.advice} Or map the image to a command under [images] in hostler.toml",
        Code.OTHER_SERVER,
        cause=cause,
        advice=instead.advice,
    )
