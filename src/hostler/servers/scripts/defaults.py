"""The functions that an image supplies where a script has none, by its family."""

from __future__ import annotations

from hostler.servers.images.profile import Family
from hostler.servers.scripts.loading import Defaults


def of(family: Family, multi_model: bool) -> Defaults | None:
    """Return an image's functions; None for a family whose functions depend on the model (inference_toolkit)."""
    if family == "xgboost":
        from hostler.servers.scripts import xgboost_defaults

        return xgboost_defaults.MULTI if multi_model else xgboost_defaults.SINGLE
    if family == "sklearn":
        from hostler.servers.scripts import sklearn_defaults

        return sklearn_defaults.MULTI if multi_model else sklearn_defaults.SINGLE
    return None
