"""What the tests of failures share: an endpoint that they load, and how many calls that is.

Each of their files has a fixture `hostler`, in a cluster of the tests' own.
"""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cluster_cell import Cell
from witness import WARM, Endpoint, endpoint

LONG = pytest.param(10_000, marks=pytest.mark.slow, id="10,000 calls")


@pytest.fixture(scope="module")
def many(hostler: Cell) -> Iterator[Endpoint]:
    """An endpoint with two instances, in which the targets of WARM are resident."""
    assert hostler.cluster
    with endpoint(hostler, "many", WARM, hostler.cluster.host) as many:
        yield many
        hostler.delete("many")


@pytest.fixture(params=[100, LONG])
def calls(request: pytest.FixtureRequest) -> int:
    """How many calls are made before a failure, during it and afterwards, at least."""
    return int(request.param)
