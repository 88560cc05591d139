"""Which scikit-learn models say of a row the same in any company, to the last digit, because of how they are made.

Trees compare and add up row by row, and what stands before them here works number by number. Whatever multiplies
matrices or adds up along an axis does not: how it sums depends on how many rows there are, and on what is in them, so
that no number of tries would show it. Only scikit-learn's own classes count: a subclass may do anything.
"""

from __future__ import annotations

from typing import Any

_ONE_JOB: dict[str, tuple[Any, ...]] = {"n_jobs": (None, 1)}  # several threads add up trees in the order they finish

_METHODS = ("predict", "predict_proba", "transform")

# What a class's parameters must be.
_MODELS: dict[str, dict[str, tuple[Any, ...]]] = {
    "DecisionTreeClassifier": {},
    "DecisionTreeRegressor": {},
    "ExtraTreeClassifier": {},
    "ExtraTreeRegressor": {},
    "RandomForestClassifier": _ONE_JOB,
    "RandomForestRegressor": _ONE_JOB,
    "ExtraTreesClassifier": _ONE_JOB,
    "ExtraTreesRegressor": _ONE_JOB,
    "GradientBoostingRegressor": {"init": (None, "zero")},  # a classifier begins with means of logarithms
    "HistGradientBoostingClassifier": {},
    "HistGradientBoostingRegressor": {"loss": ("squared_error", "absolute_error", "quantile")},  # others end in exp
}
_STEPS: dict[str, dict[str, tuple[Any, ...]]] = {
    "FunctionTransformer": {"func": (None,)},  # what a fitted ColumnTransformer makes of "passthrough"
    "MaxAbsScaler": {},
    "MinMaxScaler": {},
    "OneHotEncoder": {"sparse_output": (False,)},  # whether several sparse blocks stay so depends on all rows
    "OrdinalEncoder": {},
    "RobustScaler": {},
    "SimpleImputer": {},
    "StandardScaler": {},
}


def by_construction(model: Any) -> bool:
    """Whether `predict` of a fitted model treats each row by itself."""
    if _class(model) == "Pipeline":
        *before, (_, last) = model.steps
        return all(_step(one) for _, one in before) and by_construction(last)
    return _listed(model, _MODELS)


def _step(one: Any) -> bool:
    """Whether a fitted transformer works number by number."""
    if one is None or isinstance(one, str):  # "passthrough", "drop"
        return True
    if _class(one) == "Pipeline":
        return all(_step(inner) for _, inner in one.steps)
    if _class(one) == "ColumnTransformer":
        return all(_step(inner) for _, inner, _ in one.transformers_)
    return _listed(one, _STEPS)


def _listed(one: Any, classes: dict[str, dict[str, tuple[Any, ...]]]) -> bool:
    wanted = classes.get(_class(one))
    return wanted is not None and all(getattr(one, name, "") in allowed for name, allowed in wanted.items())


def _class(one: Any) -> str:
    """The name of scikit-learn's own class; empty for others, and where a method was put in place of the class's."""
    kind = type(one)
    if not kind.__module__.startswith("sklearn.") or not getattr(one, "__dict__", {}).keys().isdisjoint(_METHODS):
        return ""
    return kind.__name__
