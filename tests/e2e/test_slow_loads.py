"""A slow load delays nothing else: a resident target answers a thousand calls meanwhile, and no ping is missed."""

from __future__ import annotations

import asyncio
import pickle
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest
import targets
from callers import Answer, Caller
from running import hostler_up

pytestmark = pytest.mark.alone

CALLS = 1000

Calls = list[tuple[float, float]]  # monotonic: when each was sent, and answered

# Keeps a processor busy for 20 seconds, and then until the file GO_ON exists.
SPINNING = """
import os, time

def model_fn(model_dir):
    end = time.monotonic() + 20
    while time.monotonic() < end or not os.path.exists("GO_ON"):
        pass
    return "spun"

def transform_fn(model, data, content_type, accept):
    return '"spun"', "application/json"
"""


def test_while_a_model_fn_spins_20_seconds_a_resident_target_is_called_1000_times(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        hostler.put("slow/7.tar.gz", targets.xgboost_target(7))
        hostler.put("slow/8.tar.gz", targets.xgboost_target(8))
        go_on = tmp_path / "go-on"
        hostler.put("slow/spinning.tar.gz", targets.script_target(SPINNING.replace("GO_ON", str(go_on))))
        hostler.create_endpoint("slow")
        hostler.invoke("slow", "7.tar.gz")

        slow, calls = asyncio.run(_call_while_loading(hostler.url, "spinning.tar.gz", go_on.touch))

        assert (slow.status, slow.body) == (200, b'"spun"')
        assert slow.timing("load") > 19.5
        longest = max(ended - begun for begun, ended in calls)
        assert longest < slow.timing("load") / 2  # none has waited for that load
        assert hostler.metric("hostler_pings_total") > 0
        assert hostler.metric("hostler_pings_missed_total") == 0


def test_while_a_pickle_of_300_mb_loads_a_resident_target_is_called_1000_times(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        hostler.put("slow/7.tar.gz", targets.xgboost_target(7))
        hostler.put("slow/8.tar.gz", targets.xgboost_target(8))
        go_on = tmp_path / "go-on"
        hostler.put("slow/big.tar.gz", targets.archive({"model.pkl": _big_pickle(tmp_path, go_on)}, level=0))
        hostler.create_endpoint("slow")
        hostler.invoke("slow", "7.tar.gz")

        slow, calls = asyncio.run(_call_while_loading(hostler.url, "big.tar.gz", go_on.touch))

        assert (slow.status, targets.number(slow.body)) == (200, 42)
        begun, ended = (float((tmp_path / name).read_text()) for name in ("begun", "ended"))
        within = [call for call in calls if begun < call[0] and call[1] < ended]
        assert len(within) > 1  # they have not waited for that load
        assert hostler.metric("hostler_pings_missed_total") == 0


class _Run:
    """A statement that is executed when this object is unpickled."""

    def __init__(self, statement: str) -> None:
        self.statement = statement

    def __reduce__(self) -> tuple[Any, ...]:
        return exec, (f"import os, time; {self.statement}",)


def _big_pickle(folder: Path, go_on: Path) -> bytes:
    """Return an estimator that predicts 42 and has 300 MB of small objects: its load holds the interpreter.

    The files `begun` and `ended` in the folder have the monotonic times of that; then the load waits for `go_on`.
    """
    import numpy
    from sklearn.dummy import DummyRegressor

    estimator: Any = DummyRegressor(strategy="constant", constant=42.0).fit(numpy.zeros((1, 2)), [42.0])
    time_to = "open('{}', 'w').write(str(time.monotonic()))"
    estimator.first_ = _Run(time_to.format(folder / "begun"))
    estimator.objects_ = [b"%0145d" % number for number in range(2_000_000)]
    estimator.last_ = _Run(time_to.format(folder / "ended"))
    estimator.wait_ = _Run(f"\nwhile not os.path.exists('{go_on}'): time.sleep(0.01)")
    return pickle.dumps(estimator, protocol=5)


async def _call_while_loading(url: str, target: str, go_on: Callable[[], None]) -> tuple[Answer, Calls]:
    """Call `target` for the first time, and the resident one CALLS times, one after another, until `target` is loaded.

    `go_on` ends what its load waits for. Return the answer of `target`, and the other calls.
    """
    async with Caller(url) as first, Caller(url) as second:
        slow = asyncio.create_task(first.invoke("slow", target))
        cold = await second.invoke("slow", "8.tar.gz")  # nor does another load wait for this one
        assert (cold.status, targets.number(cold.body), slow.done()) == (200, 8, False)
        calls: Calls = []
        while not slow.done():
            begun = time.monotonic()
            answer = await second.invoke("slow", "7.tar.gz")
            calls.append((begun, time.monotonic()))
            assert (answer.status, targets.number(answer.body)) == (200, 7)
            if len(calls) == CALLS:
                assert not slow.done()
                go_on()
        return await slow, calls
