"""The contenders' virtual environments: made when missing or when their line in environments.toml changed.

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
_refused: dict[str, str] = {}  # what could not be installed, and why: it is not tried again


class CannotInstall(Exception):
    """Its text is the reason, in one line."""


def python(name: str, cache: Path) -> Path:
    """The interpreter of this environment. Raises CannotInstall."""
    wanted = _wanted(name)
    digest = hashlib.sha256(json.dumps([wanted, sys.version]).encode()).hexdigest()
    folder = cache / "environments" / name
    interpreter, stamp = folder / "bin" / "python", folder / "installed"
    with alone(cache / "environments.lock"):
        if not stamp.exists() or stamp.read_text() != digest:
            if name in _refused:
                raise CannotInstall(_refused[name])
            try:
                _install(wanted, folder)
            except CannotInstall as error:
                _refused[name] = str(error)
                raise
            stamp.write_text(digest)
    return interpreter


@contextlib.contextmanager
def alone(lock: Path) -> Iterator[None]:
    """While it is open, no other run is here."""
    lock.parent.mkdir(parents=True, exist_ok=True)
    with lock.open("w") as file:
        fcntl.flock(file, fcntl.LOCK_EX)
        yield


def pinned(name: str) -> list[str]:
    """What is installed into this environment, with versions."""
    wanted = _wanted(name)
    return [*wanted["packages"], *wanted.get("alone", [])]


def _wanted(name: str) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = tomllib.loads(TABLE.read_text())[name]
    return wanted


def _install(wanted: dict[str, list[str]], folder: Path) -> None:
    print(f"installing {folder.name} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(folder / "bin" / "python"), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _run([*pip, *wanted["packages"]])
    if "alone" in wanted:
        _run([*pip, "--no-deps", *wanted["alone"]])


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN)
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"not installed within {INSTALL_WITHIN} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word why"]
        raise CannotInstall(next((line for line in said if line.startswith("ERROR")), said[-1])[:200])
