"""Fixtures and hooks for all tests."""

from __future__ import annotations

import asyncio
import contextlib
import fcntl
import functools
import importlib.metadata
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

import docker_rig
import helm_chart

os.environ.setdefault("OMP_NUM_THREADS", "1")  # as in hostler's servers; on a busy machine XGBoost's threads wait long

# The time of an example depends on the machine's load, not on the code.
settings.register_profile("hostler", deadline=None, suppress_health_check=[HealthCheck.too_slow])
settings.load_profile("hostler")

sys.path.append(str(Path(__file__).parent / "model"))  # `simulated`, the event loop in which waiting takes no time
sys.path.append(str(Path(__file__).parent / "kubernetes"))  # `fake_cluster`
sys.path.append(str(Path(__file__).parent / "e2e"))  # `targets`, for those of other folders, too

_TRIALS = {
    "java": ["java", "-version"],
    "bwrap": ["bwrap", "--ro-bind", "/", "/", "--unshare-pid", "true"],
    "iptables": ["unshare", "--net", "iptables", "-A", "INPUT", "-j", "DROP"],  # and network namespaces
    "node": ["node", "--version"],
    "busybox": ["busybox", "httpd", "--help"],
    "docker-registry": ["docker-registry", "--version"],
    "mount": ["unshare", "--mount", "mount", "-t", "tmpfs", "tmpfs", "/mnt"],
    "netns": ["unshare", "--net", "ip", "link", "add", "one", "type", "veth", "peer", "name", "two"],
    # Of this repository, with the version before that tests run beside this one.
    "history": ["git", "-C", str(Path(__file__).parent), "cat-file", "-e", "bed9b739^{commit}"],
}
# As new as the lock's: only then has botocore all members that tests name, and reads scikit-learn the pickles that it
# read when they were made; before NumPy 2 the toolkit's text was bytes.
_NEWEST = {f"newest_{package}": package for package in ("botocore", "numpy", "scikit-learn")}
_JAVASCRIPT = "javascript"  # AWS's SDK for it
_DOCKER = "docker"  # one that answers, and can be given images
_CLUSTER = "cluster"  # a real one, that of KUBECONFIG, for tests/kubernetes instead of our own
_HELM = "helm"  # of make .venv/cluster/.installed
_PACKAGES = ("sagemaker_inference", "catboost", "lightgbm", "torch", "transformers")


@pytest.fixture(scope="session")
def require() -> Callable[..., None]:
    """`require("java", "torch")` skips the test, with the reason, if a program or package does not work here.

    If HOSTLER_TEST_REQUIRE (names with commas between) has the name, the test fails instead.
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
    """Return why it cannot be used; empty if it can."""
    if name == _JAVASCRIPT:
        installed = (Path(__file__).parents[1] / ".venv" / "javascript" / "node_modules").is_dir()
        return "" if installed else "AWS's JavaScript SDK is not installed: make .venv/javascript/.installed"
    if name == _DOCKER:
        return docker_rig.missing()
    if name == _CLUSTER:
        return "" if os.environ.get("KUBECONFIG") else "KUBECONFIG names no cluster"
    if name == _HELM:
        return helm_chart.missing()
    if package := _NEWEST.get(name):
        return _older(package)
    if name in _PACKAGES:
        return "" if importlib.util.find_spec(name) else f"{name} is not installed"
    if not shutil.which(_TRIALS[name][0]):
        return f"{name} is not installed"
    trial = subprocess.run(_TRIALS[name], capture_output=True, text=True, timeout=60, check=False)
    return f"{name} does not work here: {trial.stderr.strip()}" if trial.returncode else ""


def _older(package: str) -> str:
    """Return that the installed version is older than the lock's; empty if it is not."""
    lock = (Path(__file__).parents[1] / "requirements" / "test.txt").read_text()
    locked = next(line.partition("==")[2] for line in lock.splitlines() if line.startswith(f"{package}=="))
    installed = importlib.metadata.version(package)
    return f"{package} {installed} is older than {locked}" if _numbers(installed) < _numbers(locked) else ""


def _numbers(version: str) -> list[int]:
    return [int(number) for number in version.split(".")]


@pytest.hookimpl(wrapper=True)
def pytest_runtest_call(item: pytest.Item) -> Iterator[None]:
    """Skip a test that gives a client of an older botocore a member of AWS's which that botocore does not have."""
    try:
        return (yield)
    except Exception as error:
        if type(error).__name__ == "ParamValidationError":
            _require("newest_botocore")
        raise


@pytest.hookimpl(tryfirst=True)
def pytest_runtest_setup(item: pytest.Item) -> None:
    """Apply a test's markers `require` and `docker` before its fixtures run."""
    if item.get_closest_marker(_DOCKER):
        _require(_DOCKER)
    for marker in item.iter_markers("require"):
        _require(*marker.args)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Begin with the tests that wait longest. Refuse the marker `alone` where `make test` does not look for it."""
    items.sort(key=lambda item: item.get_closest_marker("longest") is None)
    for item in items:
        if item.get_closest_marker("alone") and item.path.parent.name != "e2e":
            raise pytest.UsageError(f"{item.nodeid} has the marker `alone`, but is not in tests/e2e")


def pytest_sessionstart() -> None:
    """Refuse to run without a required package: files that import it would only skip themselves."""
    required = [name for name in os.environ.get("HOSTLER_TEST_REQUIRE", "").split(",") if name]
    for name in required:
        if name not in (known := (*_TRIALS, *_PACKAGES, *_NEWEST, _JAVASCRIPT, _DOCKER, _HELM, _CLUSTER)):
            raise pytest.UsageError(f"HOSTLER_TEST_REQUIRE names {name}; tests can require: {', '.join(known)}")
        if name in _PACKAGES and _missing(name):
            raise pytest.UsageError(_missing(name))


# --- the folders of a run ---------------------------------------------------------------------------------------------

_PREFIX = "hostler-tests-"
_FREE = 4 * 2**30  # bytes that must be free; a run needs less than half of it
_run_folder = pytest.StashKey[tuple[Path, int]]()


@pytest.hookimpl(tryfirst=True)
def pytest_configure(config: pytest.Config) -> None:
    """Create the run's own folder in memory, where fsync takes no time.

    A run locks its folder, so that other runs remove only folders of killed runs. With too little memory, or with
    --basetemp, the folder is pytest's choice. xdist's workers get theirs from the run.
    """
    memory = Path("/dev/shm")
    if config.option.basetemp or not memory.is_dir() or shutil.disk_usage(memory).free < _FREE:
        return
    for old in memory.glob(f"{_PREFIX}*"):
        if (lock := _lock(old)) is not None:
            shutil.rmtree(old, ignore_errors=True)
            os.close(lock)
    lock = None
    while lock is None:  # another run may remove the folder before it is locked
        folder = Path(tempfile.mkdtemp(prefix=_PREFIX, dir=memory))
        lock = _lock(folder)
    config.stash[_run_folder] = folder, lock
    config.option.basetemp = str(folder / "t")


def pytest_unconfigure(config: pytest.Config) -> None:
    if locked := config.stash.get(_run_folder, None):
        folder, lock = locked
        shutil.rmtree(folder, ignore_errors=True)
        os.close(lock)


def _lock(folder: Path) -> int | None:
    """Lock an existing folder and return its descriptor; None if another process has the lock, or it was removed."""
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
def umask_of_hostler() -> Iterator[None]:
    """What hostler makes is closed to other users."""
    before = os.umask(0o077)
    yield
    os.umask(before)


@pytest.fixture
def on_disk() -> Iterator[Path]:
    """An empty folder on a real disk, for tests of durability. It is removed afterwards."""
    with tempfile.TemporaryDirectory(prefix=_PREFIX, dir="/var/tmp") as folder:
        yield Path(folder)


# --- tests that are `async def` ---------------------------------------------------------------------------------------


@pytest.hookimpl(tryfirst=True)
def pytest_pyfunc_call(pyfuncitem: pytest.Function) -> bool | None:
    """Run an `async def` test in its own event loop: asyncio's, or that of its marker `uvloop` or `simulated`.

    A fixture that is an async context manager is entered in that loop, and exited after the test.
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
