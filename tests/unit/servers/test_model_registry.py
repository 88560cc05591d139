"""Loads and unloads inside the server's process: what they are said to take, and when what has left is freed."""

from __future__ import annotations

import asyncio
import os
import shutil
import statistics
import threading
import weakref
from pathlib import Path

import numpy as np
import pytest
import xgboost

from hostler.servers import environment
from hostler.servers.frameworks.predictor import Predictor
from hostler.servers.model_registry import ModelRegistry
from hostler.servers.runners.inline import TRIM_AT_ONCE, Heap, InlineLoader, InlineRunner
from hostler.servers.runners.runner import LoadFailed

ENVIRONMENT = environment.read({"SAGEMAKER_MULTI_MODEL": "true"})
PATIENCE = 60.0  # seconds, past which a test hangs
NEVER = 3600.0  # seconds until memory is given back by itself, in a test that sees to the rest


@pytest.fixture(scope="module")
def model(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A small artifact: a hundred trees."""
    random = np.random.default_rng(1)
    rows = random.random((400, 6), dtype=np.float32)
    told = {"max_depth": 5, "max_bin": 16, "min_child_weight": 0, "nthread": 1}
    booster = xgboost.train(told, xgboost.DMatrix(rows, rows @ random.random(6)), 100)
    folder = tmp_path_factory.mktemp("model")
    (folder / "xgboost-model").write_bytes(booster.save_raw("ubj"))
    return folder


def watched(registry: ModelRegistry, name: str) -> weakref.ref[Predictor]:
    runner = registry.models[name].runner
    assert isinstance(runner, InlineRunner)
    assert runner.predictor is not None
    return weakref.ref(runner.predictor)


def copy(model: Path, folder: Path) -> Path:
    """The same model, as an artifact of its own."""
    shutil.copytree(model, folder)
    return folder


async def test_targets_that_are_loaded_and_unloaded_report_the_same_memory(model: Path, tmp_path: Path) -> None:
    registry = ModelRegistry(InlineLoader(ENVIRONMENT, trim_delay=NEVER))
    await registry.load("first", "/first", copy(model, tmp_path / "first"))  # its width's probes are made
    told = []
    for number in range(40):
        if number >= 10:
            await registry.unload(str(number - 10))
        held = await registry.load(str(number), f"/{number}", copy(model, tmp_path / str(number)))
        told.append(held.runner.memory)
    filling, turning = statistics.median(told[:10]), statistics.median(told[10:])
    assert turning == pytest.approx(filling, rel=0.05)
    size = (model / "xgboost-model").stat().st_size
    # Garbage of other tests that is collected during one of the loads makes that one seem small.
    assert size <= min(told) < statistics.median(told) < max(told) < 2 * size


async def test_a_model_that_is_loaded_again_reports_the_same_memory(model: Path, tmp_path: Path) -> None:
    registry = ModelRegistry(InlineLoader(ENVIRONMENT, trim_delay=NEVER))
    folder = copy(model, tmp_path / "m")
    first = (await registry.load("m", "/m", folder)).runner.memory
    await registry.unload("m")
    assert (await registry.load("m", "/m", folder)).runner.memory == first
    file = folder / "xgboost-model"
    file.write_bytes(xgboost.Booster(model_file=bytearray(file.read_bytes()))[:10].save_raw("ubj"))
    await registry.unload("m")
    assert (await registry.load("m", "/m", folder)).runner.memory < first / 2


async def test_an_unloaded_model_is_freed_before_the_next_load(model: Path, tmp_path: Path) -> None:
    registry = ModelRegistry(InlineLoader(ENVIRONMENT, trim_delay=NEVER))
    await registry.load("leaves", "/m", model)
    seen = watched(registry, "leaves")
    await registry.unload("leaves")
    await registry.load("comes", "/m", model)
    assert seen() is None


async def test_without_another_load_an_unloaded_model_is_freed_after_the_delay(model: Path, tmp_path: Path) -> None:
    registry = ModelRegistry(InlineLoader(ENVIRONMENT, trim_delay=0.0))
    for _ in range(3):
        await registry.load("leaves", "/m", model)
        seen = watched(registry, "leaves")
        await registry.unload("leaves")
        async with asyncio.timeout(PATIENCE):
            while seen() is not None:  # noqa: ASYNC110 - nothing tells
                await asyncio.sleep(0)


async def test_a_large_model_is_freed_before_its_unload_is_answered(model: Path, tmp_path: Path) -> None:
    registry = ModelRegistry(InlineLoader(ENVIRONMENT, trim_delay=NEVER))
    each = (await registry.load("m", "/m", model)).runner.memory
    names = [f"m{number}" for number in range(TRIM_AT_ONCE // each + 1)]
    for name in names:
        await registry.load(name, "/m", model)
    seen = [watched(registry, name) for name in names]
    for name in names:
        assert seen[0]() is not None
        await registry.unload(name)
    assert [one() for one in seen] == [None] * len(names)


async def test_a_load_that_fails_leaves_the_next_one_as_it_would_be(model: Path, tmp_path: Path) -> None:
    registry = ModelRegistry(InlineLoader(ENVIRONMENT, trim_delay=NEVER))
    torn = copy(model, tmp_path / "torn")
    (torn / "xgboost-model").write_bytes((model / "xgboost-model").read_bytes()[:1000])
    for _ in range(2):
        with pytest.raises(LoadFailed, match="does not end as an XGBoost model does"):
            await registry.load("m", "/m", torn)
    await registry.load("m", "/m", model)
    assert list(registry.models) == ["m"]


def test_the_heap_is_changed_by_many_at_once_and_measured_by_one_alone() -> None:
    heap, log = Heap(), list[str]()
    both, end = threading.Barrier(3), threading.Event()

    def change() -> None:
        with heap.changed():
            both.wait(PATIENCE)
            end.wait(PATIENCE)
            log.append("changed")

    def measure() -> None:
        with heap.measured():
            log.append("measuring")
            log.append("measured")

    def change_late() -> None:
        with heap.changed():
            log.append("late")

    threads = [threading.Thread(target=each) for each in (change, change, measure, change_late)]
    for thread in threads[:2]:
        thread.start()
    both.wait(PATIENCE)
    threads[2].start()
    while not heap.measuring:  # it waits
        os.sched_yield()
    threads[3].start()
    end.set()
    for thread in threads:
        thread.join(PATIENCE)
    assert log == ["changed", "changed", "measuring", "measured", "late"]


async def test_sixteen_concurrent_loads_of_measured_artifacts_report_their_memory(model: Path, tmp_path: Path) -> None:
    registry = ModelRegistry(InlineLoader(ENVIRONMENT, trim_delay=NEVER))
    names = [str(number) for number in range(16)]
    folders = {name: copy(model, tmp_path / name) for name in names}

    async def load_all() -> dict[str, int]:
        held = await asyncio.gather(*(registry.load(name, f"/{name}", folders[name]) for name in names))
        return {name: one.runner.memory for name, one in zip(names, held, strict=True)}

    first = await load_all()
    for _ in range(3):
        await asyncio.gather(*(registry.unload(name) for name in names))
        assert await load_all() == first
