"""What every test of the gateway may use."""

from __future__ import annotations

from contextlib import AbstractAsyncContextManager

import pytest
from rig import Rig, running


def pytest_itemcollected(item: pytest.Item) -> None:
    item.add_marker("uvloop")


@pytest.fixture
def rig() -> AbstractAsyncContextManager[Rig]:
    """A rig with the default settings. A test that needs others says `async with running(...) as rig`."""
    return running()
