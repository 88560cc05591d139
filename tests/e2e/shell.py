"""A user's shell, for programs that know hostler only by AWS_ENDPOINT_URL."""

from __future__ import annotations

import json
import os
import struct
import subprocess
import sys
from pathlib import Path
from typing import Any

from running import REPOSITORY, Hostler

from hostler.cli import demo

AWS = Path(sys.executable).parent / "aws"
BODY = ",".join(f"{value:g}" for value in demo.HOUSE)
CITIES = ("Houston_TX", "Chicago_IL")
XGBOOST_IMAGE = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"


def single(number: float | str) -> float:
    """Return the number at the precision of XGBoost's predictions."""
    return float(struct.unpack("f", struct.pack("f", float(number)))[0])


class Shell:
    """A user's shell after `eval "$(hostler env)"`, or with `options` of it; before that it had `more` variables."""

    def __init__(self, hostler: Hostler, folder: Path, *options: str, **more: str) -> None:
        self.folder = folder
        environment = {"PATH": os.environ["PATH"], "HOME": str(folder), "PYTHONPATH": str(REPOSITORY / "src"), **more}
        self.printed = hostler.variables(environment, *options)
        self.environment = {**environment, **self.printed}

    def undone(self) -> dict[str, Any]:
        """Return what `hostler env --unset` makes of each variable; None: not set."""
        undone: dict[str, Any] = json.loads(self.run(sys.executable, "-m", "hostler.cli", "env", "--unset", "--json"))
        return undone

    def run(self, *words: str | Path, timeout: float = 120) -> str:
        """Run a command, which must exit with 0, and return its output."""
        done = subprocess.run(
            words, cwd=self.folder, env=self.environment, capture_output=True, text=True, timeout=timeout, check=False
        )
        assert done.returncode == 0, f"{words}\n{done.stdout}\n{done.stderr}"
        return done.stdout

    def python(self, program: str, timeout: float = 120) -> Any:
        """Run a program and return the JSON that it prints in its last line."""
        return json.loads(self.run(sys.executable, "-c", program, timeout=timeout).splitlines()[-1])
