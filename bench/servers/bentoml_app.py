"""Targets, an echo, and three stages in a row, by BentoML."""

from __future__ import annotations

import os

import bentoml
from lru import LoadedModels, predict

ALONE = {
    "workers": int(os.environ["BENCH_WORKERS"]),
    "traffic": {"timeout": 60},
    "metrics": {"enabled": False},
    "logging": {"access": {"enabled": False}},
    # By default every hundredth call to another service closes the connections of those that are on their way.
    "runner_connection": {"max_requests": 1_000_000_000, "max_age": 86_400.0},
}


@bentoml.service(**ALONE)
class Targets:
    def __init__(self) -> None:
        self._models = LoadedModels()

    @bentoml.api
    async def predict(self, model: str, row: str) -> float:
        return predict(self._models.get(model), row)


@bentoml.service(**ALONE)
class Echo:
    @bentoml.api
    async def echo(self, body: str) -> str:
        return body


class Stage:
    @bentoml.api
    async def echo(self, body: str) -> str:
        return body + "."


First, Second, Third = (bentoml.service(type(name, (Stage,), {}), **ALONE) for name in ("First", "Second", "Third"))


@bentoml.service(**ALONE)
class Pipeline:
    first, second, third = bentoml.depends(First), bentoml.depends(Second), bentoml.depends(Third)

    @bentoml.api
    async def echo(self, body: str) -> str:
        for stage in (self.first, self.second, self.third):
            body = await stage.to_async.echo(body=body)
        return body
