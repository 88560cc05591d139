"""Which scikit-learn models predict a row the same in any batch, to the last digit, because of their algorithm.

Trees compare and add up row by row, and the transformers listed here work number by number. Models that multiply
matrices or sum along an axis do neither: their order of summation depends on the number of rows and on their values, so
that no number of tries would prove them safe. Only scikit-learn's own classes count: a subclass may do anything.
"""

from __future__ import annotations

from typing import Any

_ONE_JOB: dict[str, tuple[object, ...]] = {
    "n_jobs": (None, 1)
}  # several threads add up trees in the order in which they finish

_METHODS = ("predict", "predict_proba", "transform")

# By class, the values that its parameters may have.
_MODELS: dict[str, dict[str, tuple[object, ...]]] = {
    "DecisionTreeClassifier": {},
    "DecisionTreeRegressor": {},
    "ExtraTreeClassifier": {},
    "ExtraTreeRegressor": {},
    "RandomForestClassifier": _ONE_JOB,
    "RandomForestRegressor": _ONE_JOB,
    "ExtraTreesClassifier": _ONE_JOB,
    "ExtraTreesRegressor": _ONE_JOB,
    "GradientBoostingRegressor": {"init": (None, "zero")},  # a classifier starts from means of logarithms
    "HistGradientBoostingClassifier": {},
    "HistGradientBoostingRegressor": {"loss": ("squared_error", "absolute_error", "quantile")},  # others end in exp
}
_STEPS: dict[str, dict[str, tuple[object, ...]]] = {
    "FunctionTransformer": {"func": (None,)},  # "passthrough" of a fitted ColumnTransformer
    "MaxAbsScaler": {},
    "MinMaxScaler": {},
    "OneHotEncoder": {"sparse_output": (False,)},  # several sparse blocks become dense depending on all rows
    "OrdinalEncoder": {},
    "RobustScaler": {},
    "SimpleImputer": {},
    "StandardScaler": {},
}


def by_construction(model: Any) -> bool:
    """True if `predict` of a fitted model treats each row by itself."""
    if _class(model) == "Pipeline":
        *before, (_, last) = model.steps
        return all(_step(transformer) for _, transformer in before) and by_construction(last)
    return _listed(model, _MODELS)


def _step(transformer: Any) -> bool:
    """True if a fitted transformer works number by number."""
    if transformer is None or isinstance(transformer, str):  # "passthrough", "drop"
        return True
    if _class(transformer) == "Pipeline":
        return all(_step(inner) for _, inner in transformer.steps)
    if _class(transformer) == "ColumnTransformer":
        return all(_step(inner) for _, inner, _ in transformer.transformers_)
    return _listed(transformer, _STEPS)


def _listed(estimator: object, classes: dict[str, dict[str, tuple[object, ...]]]) -> bool:
    parameters = classes.get(_class(estimator))
    return parameters is not None and all(
        getattr(estimator, name, "") in allowed for name, allowed in parameters.items()
    )


def _class(estimator: object) -> str:
    """Return the name of scikit-learn's own class; empty for other classes, and if a method was replaced."""
    cls = type(estimator)
    if not cls.__module__.startswith("sklearn.") or not getattr(estimator, "__dict__", {}).keys().isdisjoint(_METHODS):
        return ""
    return cls.__name__
