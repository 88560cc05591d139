"""scikit-learn's pickles of other versions: why one does not load.

scikit-learn promises to read its own version's pickles alone. Many others load and predict all the same: linear models,
support vectors, pipelines of them.
"""

from __future__ import annotations

import importlib
from importlib.metadata import version

from hostler.failures import Code
from hostler.servers.frameworks import old_imports
from hostler.servers.frameworks.pickles import Pickle
from hostler.servers.frameworks.predictor import Unloadable

_TREES = (1, 3)  # the first version that reads the trees of the installed one
_INSTALLABLE = (1, 2)  # the first version that Python 3.11 can install
_TREE = ("sklearn.tree._tree", "Tree")


def mismatch(file: str, made_by: str, error: str = "") -> Unloadable | None:
    """Return why a pickle of scikit-learn `made_by` does not load; None if that is the installed one, or empty.

    `error`: what its load raised.
    """
    ours = version("scikit-learn")
    if not made_by or made_by == ours:
        return None
    cause = f"{file} is a pickle of scikit-learn {made_by}, which {ours}, installed here, does not read"
    cause = f"{cause}: {error}" if error else cause
    install = f"Install that version where hostler is installed (pip install scikit-learn=={made_by}). Or convert"
    if _numbers(made_by) < _INSTALLABLE:
        install = "That version cannot be installed here. Convert"
    advice = (
        f"{install} the model where it was made, into ONNX:"
        " open('model.onnx', 'wb').write(skl2onnx.to_onnx(model, X[:1].astype('float32')).SerializeToString())"
        " (pip install skl2onnx)."
    )
    return Unloadable(f"{cause}. {advice}", Code.MODEL_FORM, cause=cause, advice=advice)


def unreadable(pickle: Pickle) -> str:
    """Return what in a pickle the installed version certainly does not read; empty if nothing is known.

    It imports modules of the installed library that the pickle names, and nothing else.
    """
    old_imports.teach()
    if _TREE in pickle.names and pickle.sklearn and _numbers(pickle.sklearn) < _TREES:
        return "its trees have another layout"
    for module, name in sorted(pickle.names):
        if module.partition(".")[0] != "sklearn":
            continue
        try:
            found = hasattr(importlib.import_module(module), name)
        except ImportError:
            found = False
        if not found:
            return f"it has no {module}.{name}"
    return ""


def _numbers(text: str) -> tuple[int, ...]:
    return tuple(int(part) for part in text.split(".")[:2] if part.isdecimal())
