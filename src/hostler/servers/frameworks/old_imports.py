"""Imports that older models need: modules under their former names, and an XGBoost that reads its older forms.

`teach` makes both so for the whole process, so they hold for joblib and for a script's own `pickle.load`, too. Nothing
is imported until a pickle or a script asks for it.
"""

from __future__ import annotations

import importlib
import sys
from collections.abc import Sequence
from importlib.abc import Loader, MetaPathFinder
from importlib.machinery import ModuleSpec, PathFinder
from types import ModuleType

# scikit-learn 0.22 renamed its modules. 0.20 and 0.21 had a joblib of their own.
_RENAMED = {
    "sklearn.cluster.k_means_": "sklearn.cluster._kmeans",
    "sklearn.decomposition.pca": "sklearn.decomposition._pca",
    "sklearn.decomposition.truncated_svd": "sklearn.decomposition._truncated_svd",
    "sklearn.ensemble.bagging": "sklearn.ensemble._bagging",
    "sklearn.ensemble.forest": "sklearn.ensemble._forest",
    "sklearn.ensemble.gradient_boosting": "sklearn.ensemble._gb",
    "sklearn.ensemble.iforest": "sklearn.ensemble._iforest",
    "sklearn.ensemble.voting_classifier": "sklearn.ensemble._voting",
    "sklearn.ensemble.weight_boosting": "sklearn.ensemble._weight_boosting",
    "sklearn.externals.joblib.numpy_pickle": "joblib.numpy_pickle",
    "sklearn.externals.joblib": "joblib",
    "sklearn.feature_extraction.hashing": "sklearn.feature_extraction._hash",
    "sklearn.gaussian_process.gpr": "sklearn.gaussian_process._gpr",
    "sklearn.gaussian_process.gpc": "sklearn.gaussian_process._gpc",
    "sklearn.linear_model.base": "sklearn.linear_model._base",
    "sklearn.linear_model.coordinate_descent": "sklearn.linear_model._coordinate_descent",
    "sklearn.linear_model.huber": "sklearn.linear_model._huber",
    "sklearn.linear_model.logistic": "sklearn.linear_model._logistic",
    "sklearn.linear_model.ridge": "sklearn.linear_model._ridge",
    "sklearn.linear_model.sgd_fast": "sklearn.linear_model._sgd_fast",
    "sklearn.linear_model.stochastic_gradient": "sklearn.linear_model._stochastic_gradient",
    "sklearn.metrics.scorer": "sklearn.metrics._scorer",
    "sklearn.neighbors.classification": "sklearn.neighbors._classification",
    "sklearn.neighbors.regression": "sklearn.neighbors._regression",
    "sklearn.neural_network.multilayer_perceptron": "sklearn.neural_network._multilayer_perceptron",
    "sklearn.preprocessing.data": "sklearn.preprocessing._data",
    "sklearn.preprocessing.label": "sklearn.preprocessing._label",
    "sklearn.svm.classes": "sklearn.svm._classes",
    "sklearn.tree.tree": "sklearn.tree._classes",
}


class _Renamed(MetaPathFinder, Loader):
    """Finds a module under its former name, after all other finders: another module with the same content."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        return ModuleSpec(name, self, is_package=name == "sklearn.externals.joblib") if name in _RENAMED else None

    def exec_module(self, module: ModuleType) -> None:
        content = vars(importlib.import_module(_RENAMED[module.__name__]))
        vars(module).update({name: value for name, value in content.items() if not name.startswith("__")})


class _Taught(MetaPathFinder):
    """Finds xgboost as ever, before all other finders, and teaches it as soon as it is imported."""

    def find_spec(self, name: str, path: Sequence[str] | None, target: ModuleType | None = None) -> ModuleSpec | None:
        spec = PathFinder.find_spec(name, path) if name == "xgboost" else None
        if spec and spec.loader:
            spec.loader = _Teaching(spec.loader)
        return spec


class _Teaching(Loader):
    def __init__(self, loader: Loader) -> None:
        self._loader = loader

    def create_module(self, spec: ModuleSpec) -> ModuleType | None:
        return self._loader.create_module(spec)

    def exec_module(self, module: ModuleType) -> None:
        self._loader.exec_module(module)
        _teach_xgboost()

    def __getattr__(self, name: str) -> object:
        return getattr(self._loader, name)


_RENAMED_FINDER, _TAUGHT_FINDER = _Renamed(), _Taught()


def teach() -> None:
    """Teach this process, once."""
    if _RENAMED_FINDER in sys.meta_path:
        return
    sys.meta_path.append(_RENAMED_FINDER)
    sys.meta_path.insert(0, _TAUGHT_FINDER)
    if "xgboost" in sys.modules:
        _teach_xgboost()


def _teach_xgboost() -> None:
    from hostler.servers.frameworks import xgboost_old

    xgboost_old.teach()
