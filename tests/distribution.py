"""Builds hostler's sdist, and the wheel of what is in it, as `python -m build` does, without a package index."""

from __future__ import annotations

import shutil
import subprocess
import sys
from pathlib import Path
from typing import NamedTuple

from hostler import __version__

ROOT = Path(__file__).resolve().parents[1]
NAME = f"hostler-{__version__}"
_BUILD = """
import os, sys, tarfile
from setuptools import build_meta
out, name = sys.argv[1:]
del sys.argv[1:]  # setuptools reads them
with tarfile.open(os.path.join(out, build_meta.build_sdist(out))) as sdist:
    sdist.extractall(out, filter="data")
os.chdir(os.path.join(out, name))
build_meta.build_wheel(out)
"""


class Built(NamedTuple):
    sdist: Path
    wheel: Path


def build(folder: Path) -> Built:
    """Build both in a folder of its own; the work tree is left as it is."""
    tree, out = folder / "tree", folder / "dist"
    out.mkdir()
    shutil.copytree(ROOT / "src", tree / "src", ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
    for name in ("pyproject.toml", "README.md", "LICENSE"):
        shutil.copy(ROOT / name, tree)
    command = [sys.executable, "-c", _BUILD, str(out), NAME]
    made = subprocess.run(command, cwd=tree, capture_output=True, text=True, timeout=300, check=False)
    assert made.returncode == 0, made.stdout + made.stderr
    return Built(out / f"{NAME}.tar.gz", out / f"{NAME}-py3-none-any.whl")
