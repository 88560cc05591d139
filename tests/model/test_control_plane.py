"""The whole control plane against a small model of AWS's rules: walks of random steps.

`python tests/model/test_control_plane.py SEED [STEPS]` repeats a walk, and finds the few steps that make it go wrong.
"""

from __future__ import annotations

import gc
import logging
import sys
from collections.abc import Iterator

import pytest
from walk import Wrong, shrunk, walk

STEPS = 1000

# asyncio's own: a connection that it accepts in the turn in which its listening socket closes is left to be collected
pytestmark = pytest.mark.filterwarnings("ignore::pytest.PytestUnraisableExceptionWarning", "ignore::ResourceWarning")


@pytest.fixture(autouse=True)
def _collected() -> Iterator[None]:
    """Collect the garbage here, and not in the midst of the next test."""
    yield
    gc.collect()


@pytest.mark.parametrize("seed", range(4))
def test_no_walk_through_calls_deaths_and_restarts_shows_what_aws_could_not_or_leaves_anything_over(seed: int) -> None:
    walk(seed, range(STEPS))


@pytest.mark.slow
@pytest.mark.parametrize("seed", range(4, 54))
def test_fifty_thousand_more_steps_show_nothing_else(seed: int) -> None:
    walk(seed, range(STEPS))


if __name__ == "__main__":
    logging.disable()
    seed, steps = int(sys.argv[1]), list(range(int([*sys.argv, STEPS][2])))
    try:
        walk(seed, steps)
    except Wrong as error:
        print(error)
        if "--whole" not in sys.argv:
            steps = shrunk(seed, steps)
            print(f"\n{len(steps)} steps are enough:")
            try:
                walk(seed, steps)
            except Wrong as again:
                print(again)
