"""Folders in which programs of users have written."""

from __future__ import annotations

import shutil
import subprocess
from pathlib import Path


def remove(folder: Path) -> None:
    """Remove a folder and what it holds, however deep; what cannot be removed stays. Blocks."""
    try:
        shutil.rmtree(folder, ignore_errors=True)
    except RecursionError:  # before Python 3.13 it calls itself for each level
        subprocess.run(["rm", "-rf", "--", str(folder)], stderr=subprocess.DEVNULL, check=False)
