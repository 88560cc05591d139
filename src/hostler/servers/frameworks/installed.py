"""Which frameworks are installed, and their import."""

from __future__ import annotations

import importlib
import importlib.util

from hostler import failures
from hostler.failures import Code
from hostler.servers.frameworks.predictor import Unloadable

# What each framework imports, the package itself last. Each but `script` is an extra of the same name.
_MODULES = {
    "xgboost": ("xgboost",),
    "sklearn": ("joblib", "sklearn.base"),
    "torch": ("torch",),
    "onnx": ("onnxruntime",),
    "catboost": ("joblib", "catboost"),
    "lightgbm": ("joblib", "lightgbm"),
    "huggingface": ("torch", "transformers.pipelines"),
    "script": (),
    "canned": (),
}
AHEAD = ("xgboost", "sklearn")  # what a server of any models imports, where it is installed, before it has one
_THREADED = ("onnx",)  # onnxruntime starts a thread when it is imported, so it is no import for a process that forks


def missing(framework: str) -> Unloadable | None:
    """Return why a framework cannot be used here; None if it can."""
    if framework not in _MODULES:
        return Unloadable(
            f"there is no framework named {framework}: choose from {', '.join(_MODULES)} and auto", Code.OTHER
        )
    for module in _MODULES[framework][-1:]:
        package = module.partition(".")[0]
        if importlib.util.find_spec(package) is None:
            cause = f"this model needs {package}"
            return Unloadable(
                f"{cause}: {failures.extra(framework)}",
                Code.EXTRA_MISSING,
                cause=cause,
                advice=failures.install_extra(framework),
            )
    return None


def import_modules(framework: str) -> None:
    """Import what a framework's loads need, before the first one. Raises whatever an import raises."""
    for module in _MODULES[framework]:
        importlib.import_module(module)


def preload(framework: str) -> None:
    """Import the same in a process that forks, whose children then share it. Raises the same."""
    if framework not in _THREADED:
        import_modules(framework)
