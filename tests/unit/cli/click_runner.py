"""Runs the commands in this process, with stdout and stderr apart."""

from __future__ import annotations

import inspect
from typing import Any

from click.testing import CliRunner

# Before click 8.2 a runner keeps stdout and stderr apart only if it is asked to.
_APART: dict[str, Any] = {"mix_stderr": False} if "mix_stderr" in inspect.signature(CliRunner).parameters else {}
RUNNER = CliRunner(**_APART)
