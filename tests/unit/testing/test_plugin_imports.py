"""What a test suite imports of hostler is the standard library and pytest: its own boto3 may be any, or none."""

from __future__ import annotations

import subprocess
import sys

import pytest

GUARD = """
import importlib.abc, sys
class Guard(importlib.abc.MetaPathFinder):
    def find_spec(self, name, path=None, target=None):
        top = name.partition(".")[0]
        if top not in sys.stdlib_module_names | {ALLOWED}:
            raise ImportError(f"{name} is imported")
sys.meta_path.insert(0, Guard())
"""


def run(program: str, allowed: set[str]) -> str:
    guard = GUARD.replace("ALLOWED", repr(allowed)[1:-1])
    done = subprocess.run(
        [sys.executable, "-c", guard + program], capture_output=True, text=True, timeout=60, check=False
    )
    assert done.returncode == 0, done.stderr
    return done.stdout


def test_the_surface_without_pytest_imports_the_standard_library_alone() -> None:
    program = "import hostler.testing\nfor name in hostler.testing.__all__: getattr(hostler.testing, name)"
    run(program, {"hostler"})


def test_the_plugin_imports_pytest_and_nothing_else_before_a_fixture_asks() -> None:
    program = "import sys, pytest\nbefore = set(sys.modules)\nimport hostler.testing.pytest_plugin\n"
    output = run(
        program + "print(*sorted(set(sys.modules) - before))",
        {"hostler", "pytest", "_pytest", "pluggy", "iniconfig", "packaging", "pygments", "py"},
    )
    assert output.split() == ["hostler", "hostler.testing", "hostler.testing.pytest_plugin"]


def test_there_is_no_other_name() -> None:
    import hostler.testing

    with pytest.raises(AttributeError, match="no attribute 'run'"):
        _ = hostler.testing.run  # type: ignore[attr-defined]
