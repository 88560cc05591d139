"""What the tests of the model servers share."""

from __future__ import annotations

import os
import sys
from collections.abc import Iterator

import pytest

_OF_SCRIPTS = ("inference", "net", "mms", "ts", "sagemaker_")  # what modules begin with that scripts here import


@pytest.fixture
def as_in_a_process_of_its_own() -> Iterator[None]:
    """Undo what a script's load changes in its process: path, modules, folder, environment."""
    path, modules, folder, variables = list(sys.path), set(sys.modules), os.getcwd(), dict(os.environ)
    yield
    sys.path[:] = path
    os.chdir(folder)
    os.environ.clear()
    os.environ.update(variables)
    for name in set(sys.modules) - modules:
        if name.startswith(_OF_SCRIPTS):
            del sys.modules[name]
