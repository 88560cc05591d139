"""The contenders' virtual environments: made if missing, or if their lines in environments.toml have changed.

They lie below the cache folder, never in the project's own environment.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path

TABLE = Path(__file__).with_name("environments.toml")
INSTALL_WITHIN = 1200  # seconds
_refused: dict[str, str] = {}  # environment -> the reason why it could not be installed; it is not tried again


class CannotInstall(Exception):
    """An environment could not be installed. The text is the reason, in one line."""


def python(name: str, cache: Path) -> Path:
    """Return the interpreter of this environment; install it first if needed. Raises CannotInstall."""
    requirements = _requirements(name)
    digest = hashlib.sha256(json.dumps([requirements, sys.version]).encode()).hexdigest()
    folder = cache / "environments" / name
    interpreter, stamp = folder / "bin" / "python", folder / "installed"
    with alone(cache / "environments.lock"):
        if not stamp.exists() or stamp.read_text() != digest:
            if name in _refused:
                raise CannotInstall(_refused[name])
            try:
                _install(requirements, folder)
            except CannotInstall as error:
                _refused[name] = str(error)
                raise
            stamp.write_text(digest)
    return interpreter


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """Exclude other runs by a lock file."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def pinned(name: str) -> list[str]:
    """Return the packages of this environment, with versions."""
    requirements = _requirements(name)
    return [*requirements["packages"], *requirements.get("alone", [])]


def _requirements(name: str) -> dict[str, list[str]]:
    requirements: dict[str, list[str]] = tomllib.loads(TABLE.read_text())[name]
    return requirements


def _install(requirements: dict[str, list[str]], folder: Path) -> None:
    print(f"installing {folder.name} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _run([*pip, *requirements["packages"]])
    if "alone" in requirements:
        _run([*pip, "--no-deps", *requirements["alone"]])


def _run(command: list[str]) -> None:
    try:
        process = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN)
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"not installed within {INSTALL_WITHIN} s") from None
    if process.returncode:
        lines = [line for line in process.stderr.splitlines() if line.strip()] or ["pip gave no reason"]
        raise CannotInstall(next((line for line in lines if line.startswith("ERROR")), lines[-1])[:200])
