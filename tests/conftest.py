"""What every test may use."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
import os
import shutil
import subprocess
import sys
from collections.abc import Callable, Coroutine
from pathlib import Path
from typing import Any

import pytest
import uvloop
from hypothesis import HealthCheck, settings

# How long an example takes says how busy the machine is, not whether the code is right.
settings.register_profile("hostler", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hostler")

sys.path.append(str(Path(__file__).parent / "model"))  # `simulated`, the loop in which waiting takes no time

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


# --- tests that are `async def` ---------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test in a loop of its own: asyncio's, or that of its marker `uvloop` or `simulated`.

    A fixture that is an async context manager is entered in that loop, and left when the test has ended.
    The simulated loop's seed is the marker's argument, else the test's fixture or parameter `seed`, else
    HOSTLER_TEST_SEED, else 0.
    """
    arguments = {name: pyfuncitem.funcargs[name] for name in pyfuncitem._fixtureinfo.argnames}
    run: Callable[[Coroutine[Any, Any, None]], None] = asyncio.run
    if pyfuncitem.get_closest_marker("uvloop"):
        run = uvloop.run
    if marker := pyfuncitem.get_closest_marker("simulated"):
        import simulated

        seed = [*marker.args, *marker.kwargs.values(), arguments.get("seed", os.environ.get("HOSTLER_TEST_SEED", "0"))][
            0
        ]
        run = functools.partial(simulated.run, seed=seed)
    if property_of := getattr(pyfuncitem.obj, "hypothesis", None):
        if inspect.iscoroutinefunction(test := property_of.inner_test):
            property_of.inner_test = lambda *given, **drawn: run(test(*given, **drawn))
        return None
    if not inspect.iscoroutinefunction(pyfuncitem.obj):
        return None
    run(_with_fixtures(pyfuncitem.obj, arguments))
    return True


async def _with_fixtures(test: Callable[..., Coroutine[Any, Any, None]], arguments: dict[str, Any]) -> None:
    async with contextlib.AsyncExitStack() as stack:
        for name, value in arguments.items():
            if isinstance(value, contextlib.AbstractAsyncContextManager):
                arguments[name] = await stack.enter_async_context(value)
        await test(**arguments)
