"""What every test of the wire may use."""

from __future__ import annotations

import pytest


def pytest_itemcollected(item: pytest.Item) -> None:
    """As hostler's processes do, tests run on uvloop; those with `either_loop` also on asyncio's loop."""
    if "either_loop" not in getattr(item, "fixturenames", ()):
        item.add_marker("uvloop")


@pytest.fixture(params=["asyncio", pytest.param("uvloop", marks=pytest.mark.uvloop)])
def either_loop(request: pytest.FixtureRequest) -> str:
    return str(request.param)
