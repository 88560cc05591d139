"""For those who need a hostler of their own: test suites, and the demo, tests and benchmarks of this project."""

from __future__ import annotations

import importlib
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from hostler.testing.faults import FaultRefused
    from hostler.testing.hosting import Endpoint, EndpointFailed, Hostler, Refused, running
    from hostler.testing.process import NotReady

__all__ = ["Endpoint", "EndpointFailed", "FaultRefused", "Hostler", "NotReady", "Refused", "running"]
_MODULES = {"FaultRefused": "faults", "NotReady": "process"}


def __getattr__(name: str) -> object:
    """Import what is asked for: pytest imports this package in every run, and most runs use nothing of it."""
    if name not in __all__:
        raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
    return getattr(importlib.import_module(f"{__name__}.{_MODULES.get(name, 'hosting')}"), name)
