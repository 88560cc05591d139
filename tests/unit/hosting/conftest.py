"""What hosting's tests are given."""

from __future__ import annotations

from pathlib import Path

import pytest
from ground import Ground


@pytest.fixture
def ground(tmp_path: Path) -> Ground:
    """A data folder of the test's own; all that runs there ends with the test."""
    return Ground(tmp_path)
