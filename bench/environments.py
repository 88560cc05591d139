"""The contenders' virtual environments: made when missing or when their line in environments.toml changed.

They lie below the cache folder, never in the project's own environment.
"""

from __future__ import annotations

import hashlib
import json
import shutil
import subprocess
import sys
import tomllib
from pathlib import Path

TABLE = Path(__file__).with_name("environments.toml")
INSTALL_WITHIN = 1200  # seconds


class CannotInstall(Exception):
    """Its text is the reason, in one line."""


def python(name: str, cache: Path) -> Path:
    """The interpreter of this environment. Raises CannotInstall."""
    wanted = _wanted(name)
    digest = hashlib.sha256(json.dumps([wanted, sys.version]).encode()).hexdigest()
    folder = cache / "environments" / name
    interpreter, stamp = folder / "bin" / "python", folder / "installed"
    if stamp.exists() and stamp.read_text() == digest:
        return interpreter
    print(f"installing {name} into {folder}", file=sys.stderr, flush=True)
    shutil.rmtree(folder, ignore_errors=True)
    _run([sys.executable, "-m", "venv", str(folder)])
    pip = [str(interpreter), "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    _run([*pip, *wanted["packages"]])
    if "alone" in wanted:
        _run([*pip, "--no-deps", *wanted["alone"]])
    stamp.write_text(digest)
    return interpreter


def pinned(name: str) -> list[str]:
    """What is installed into this environment, with versions."""
    wanted = _wanted(name)
    return [*wanted["packages"], *wanted.get("alone", [])]


def _wanted(name: str) -> dict[str, list[str]]:
    wanted: dict[str, list[str]] = tomllib.loads(TABLE.read_text())[name]
    return wanted


def _run(command: list[str]) -> None:
    try:
        done = subprocess.run(command, capture_output=True, text=True, timeout=INSTALL_WITHIN)
    except subprocess.TimeoutExpired:
        raise CannotInstall(f"not installed within {INSTALL_WITHIN} s") from None
    if done.returncode:
        said = [line for line in done.stderr.splitlines() if line.strip()] or ["no word why"]
        raise CannotInstall(next((line for line in said if line.startswith("ERROR")), said[-1])[:200])
