"""What every test may use."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Callable

import pytest
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("hostler", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hostler")

_TRIALS = {"java": ["java", "-version"], "bwrap": ["bwrap", "--ro-bind", "/", "/", "--unshare-pid", "true"]}


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """`require("java", "bwrap")` skips the test, with the reason, where one of them does not work.

    Where HOSTLER_TEST_REQUIRE (a list with commas) has the name, it is there to be tested: then the test fails instead.
    """
    return _require


def _require(*names: str) -> None:
    for name in names:
        if reason := _missing(name):
            if name in os.environ.get("HOSTLER_TEST_REQUIRE", "").split(","):
                pytest.fail(reason)
            pytest.skip(reason)


def _missing(name: str) -> str:
    """Why it cannot be used; empty when it can."""
    if not shutil.which(name):
        return f"{name} is not installed"
    tried = subprocess.run(_TRIALS[name], capture_output=True, text=True, timeout=60, check=False)
    return f"{name} does not work here: {tried.stderr.strip()}" if tried.returncode else ""
