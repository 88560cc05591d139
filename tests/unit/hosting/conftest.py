"""What hosting's tests are given."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

import pytest
from ground import Ground


@pytest.fixture
def ground(tmp_path: Path) -> Iterator[Ground]:
    """A data folder of the test's own."""
    ground = Ground(tmp_path)
    yield ground
    ground.close()
