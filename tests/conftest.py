"""What every test may use."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import importlib.util
import inspect
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Coroutine, Iterator
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
_PACKAGES = ("torch",)


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """`require("java", "torch")` skips the test, with the reason, where one of them does not work.

    Where HOSTLER_TEST_REQUIRE (a list with commas) has the name, it is there to be tested: then the test fails instead.
    """
    return _require


def _require(*names: str) -> None:
    for name in names:
        if reason := _missing(name):
            if name in os.environ.get("HOSTLER_TEST_REQUIRE", "").split(","):
                pytest.fail(reason)
            pytest.skip(reason)


@functools.cache
def _missing(name: str) -> str:
    """Why it cannot be used; empty when it can."""
    if name in _PACKAGES:
        return "" if importlib.util.find_spec(name) else f"{name} is not installed"
    if not shutil.which(name):
        return f"{name} is not installed"
    tried = subprocess.run(_TRIALS[name], capture_output=True, text=True, timeout=60, check=False)
    return f"{name} does not work here: {tried.stderr.strip()}" if tried.returncode else ""


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Skip, or fail, a test whose marker `require` names what does not work here, before its fixtures need that."""
    for marker in item.iter_markers("require"):
        _require(*marker.args)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """`make test` looks for tests that run alone in tests/e2e, and nowhere else."""
    for item in items:
        if item.get_closest_marker("alone") and item.path.parent.name != "e2e":
            raise pytest.UsageError(f"{item.nodeid} has the marker `alone`, but is not in tests/e2e")


def pytest_sessionstart() -> None:
    """A file that imports such a package skips itself whole; where the package is there to be tested, nothing runs."""
    for name in _PACKAGES:
        if name in os.environ.get("HOSTLER_TEST_REQUIRE", "").split(",") and _missing(name):
            raise pytest.UsageError(_missing(name))


# --- the folders of a run ---------------------------------------------------------------------------------------------

_PREFIX = "hostler-tests-"
_ROOM = 4 * 2**30  # bytes; a run needs less than half of it
_held = pytest.StashKey[tuple[Path, int]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Give the run a folder of its own in memory: what is fsynced there takes no time.

    A run holds a lock on its folder, so that another one removes only folders whose run was killed. Where there is too
    little memory, or --basetemp says another place, pytest's own choice stays. xdist's workers get theirs from the run.
    """
    memory = Path("/dev/shm")
    if config.option.basetemp or not memory.is_dir() or shutil.disk_usage(memory).free < _ROOM:
        return
    for old in memory.glob(f"{_PREFIX}*"):
        if (lock := _lock(old)) is not None:
            shutil.rmtree(old, ignore_errors=True)
            os.close(lock)
    lock = None
    while lock is None:  # another run may remove it before it is locked
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=memory))
        lock = _lock(folder)
    config.stash[_held] = folder, lock
    config.option.basetemp = str(folder / "t")


def pytest_unconfigure(config: pytest.Config) -> None:
    if held := config.stash.get(_held, None):
        folder, lock = held
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock a folder that exists: its descriptor. None where another process has it, or it has gone."""
    try:
        descriptor = os.open(folder, os.O_RDONLY)
    except OSError:
        return None
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        os.close(descriptor)
        return None
    if os.fstat(descriptor).st_nlink == 0:
        os.close(descriptor)
        return None
    return descriptor


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """An empty folder on a real disk, for tests of what is durable. It is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir="/var/tmp") as folder:
        yield Path(folder)


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
