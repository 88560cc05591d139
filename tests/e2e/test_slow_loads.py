"""A slow load is its own affair: a resident target is called a thousand times meanwhile, and no ping is missed."""

from __future__ import annotations

import asyncio
import pickle
import time
from pathlib import Path
from typing import Any

import pytest
import targets
from callers import Answer, Caller
from running import hostler_up

pytestmark = pytest.mark.alone

CALLS = 1000

SPINNING = """
import time

def model_fn(model_dir):
    end = time.monotonic() + 20
    while time.monotonic() < end:
        pass
    return "spun"

def transform_fn(model, data, content_type, accept):
    return '"spun"', "application/json"
"""


def test_while_a_model_fn_spins_20_seconds_a_resident_target_is_called_1000_times(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        hostler.put("slow/7.tar.gz", targets.xgboost_target(7))
        hostler.put("slow/8.tar.gz", targets.xgboost_target(8))
        hostler.put("slow/spinning.tar.gz", targets.script_target(SPINNING))
        hostler.create_endpoint("slow")
        hostler.invoke("slow", "7.tar.gz")

        slow, before, longest = asyncio.run(_meanwhile(hostler.url, "spinning.tar.gz"))

        assert (slow.status, slow.body) == (200, b'"spun"')
        assert slow.timing("load") > 19.5
        assert before >= CALLS, f"{before} calls were answered while the other target loaded"
        assert longest < slow.timing("load") / 2  # none has waited for that load
        assert hostler.metric("hostler_pings_total") > 0
        assert hostler.metric("hostler_pings_missed_total") == 0


def test_while_a_pickle_of_300_mb_loads_a_resident_target_is_called_1000_times(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        hostler.put("slow/7.tar.gz", targets.xgboost_target(7))
        hostler.put("slow/8.tar.gz", targets.xgboost_target(8))
        hostler.put("slow/big.tar.gz", targets.archive({"model.pkl": _big_pickle()}, level=0))
        hostler.create_endpoint("slow")
        hostler.invoke("slow", "7.tar.gz")

        slow, before, longest = asyncio.run(_meanwhile(hostler.url, "big.tar.gz"))

        assert (slow.status, targets.number(slow.body)) == (200, 42)
        assert before >= CALLS, f"{before} calls were answered while the other target loaded"
        assert longest < slow.timing("load") / 2
        assert hostler.metric("hostler_pings_missed_total") == 0


def _big_pickle() -> bytes:
    """An estimator that predicts 42 and drags 300 MB of small objects along: its load holds the interpreter."""
    import numpy
    from sklearn.dummy import DummyRegressor

    estimator: Any = DummyRegressor(strategy="constant", constant=42.0).fit(numpy.zeros((1, 2)), [42.0])
    estimator.baggage_ = [b"%0145d" % number for number in range(2_000_000)]
    return pickle.dumps(estimator, protocol=5)


async def _meanwhile(url: str, target: str) -> tuple[Answer, int, float]:
    """Call `target` for the first time; and, one after another, the resident one until that is answered.

    Returns the first one's answer, how many of the others were answered before it, and the longest of them (seconds).
    """
    async with Caller(url) as first, Caller(url) as second:
        slow = asyncio.create_task(first.invoke("slow", target))
        cold = await second.invoke("slow", "8.tar.gz")  # nor does another load wait for this one
        assert (cold.status, targets.number(cold.body), slow.done()) == (200, 8, False)
        answered, longest = 0, 0.0
        while not slow.done():
            begun = time.monotonic()
            answer = await second.invoke("slow", "7.tar.gz")
            longest = max(longest, time.monotonic() - begun)
            assert (answer.status, targets.number(answer.body)) == (200, 7)
            answered += not slow.done()
        return await slow, answered, longest
