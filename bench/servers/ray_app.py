"""Targets, an echo, or three stages in a row, by Ray Serve: `python ray_app.py PORT FOLDER`."""

from __future__ import annotations

import os
import signal
import sys
from typing import Any

import ray
from lru import ROOM, load, predict
from ray import serve
from starlette.requests import Request
from starlette.responses import Response

DEPLOYED = {"num_replicas": 1, "max_ongoing_requests": 100, "ray_actor_options": {"num_cpus": 0.1}}


@serve.deployment(**DEPLOYED)
class Targets:
    @serve.multiplexed(max_num_models_per_replica=ROOM or 1)
    async def _booster(self, name: str) -> Any:
        return load(name)

    async def __call__(self, request: Request) -> Response:
        booster = await self._booster(serve.get_multiplexed_model_id())
        return Response(str(predict(booster, (await request.body()).decode())))


@serve.deployment(**DEPLOYED)
class Echo:
    async def __call__(self, request: Request) -> Response:
        return Response(await request.body())


@serve.deployment(**DEPLOYED)
class Stage:
    async def echo(self, body: bytes) -> bytes:
        return body + b"."


@serve.deployment(**DEPLOYED)
class Pipeline:
    def __init__(self, *stages: Any) -> None:
        self._stages = stages

    async def __call__(self, request: Request) -> Response:
        body = await request.body()
        for stage in self._stages:
            body = await stage.echo.remote(body)
        return Response(body)


def main() -> None:
    port, folder = int(sys.argv[1]), sys.argv[2]
    ray.init(num_cpus=2, include_dashboard=False, _temp_dir=folder, log_to_driver=False, _node_ip_address="127.0.0.1")
    signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))  # ray ends its processes when this one ends
    serve.start(http_options={"host": "127.0.0.1", "port": port}, logging_config={"enable_access_log": False})
    stages = [Stage.options(name=f"stage{number}").bind() for number in range(3)]
    applications = {"targets": Targets.bind, "echo": Echo.bind, "pipeline": lambda: Pipeline.bind(*stages)}
    serve.run(applications[os.environ["BENCH_KIND"]]())
    signal.pause()


if __name__ == "__main__":
    main()
