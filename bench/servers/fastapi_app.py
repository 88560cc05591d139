"""FastAPI and an LRU by hand, with SageMaker's path and header, as a competent engineer would write them."""

from __future__ import annotations

import os

import aiohttp
from fastapi import FastAPI, Request, Response
from lru import LoadedModels, predict

app = FastAPI()
loaded_models = LoadedModels()
STAGES = os.environ.get("BENCH_STAGES", "").split()
_session: aiohttp.ClientSession | None = None


@app.get("/ping")
async def ping() -> Response:
    return Response()


# Predicts on the loop: a thread would cost more than the prediction.
@app.post("/endpoints/targets/invocations")
async def invoke(request: Request) -> Response:
    name = request.headers["x-amzn-sagemaker-target-model"].removesuffix(".tar.gz")
    row = (await request.body()).decode()
    return Response(str(predict(loaded_models.get(name), row)), media_type="text/csv")


@app.post("/endpoints/echo/invocations")
async def echo(request: Request) -> Response:
    return Response(await request.body(), media_type="text/plain")


@app.post("/endpoints/pipeline/invocations")
async def pipeline(request: Request) -> Response:
    global _session
    _session = _session or aiohttp.ClientSession(connector=aiohttp.TCPConnector(limit=0))
    body = await request.body()
    for stage in STAGES:
        async with _session.post(stage, data=body) as answer:
            body = await answer.read()
    return Response(body, media_type="text/plain")
