"""A model server that answers part by part: uvicorn and Starlette, as users bring their own.

Run as `python streams.py serve`. A request is one of these JSON objects:

    {"parts": n, "gate": name, "fail": how}    n lines, `part 0` and so on. With a gate, all but the first wait until
                                               it is opened. After the last, `break` ends the connection within
                                               the answer, and `hang` sends nothing more.
    {"open": name}                             opens that gate
    {"list": true}                             a JSON list of the ends of all answers so far: `complete` or `cancelled`
"""

from __future__ import annotations

import asyncio
import os
import sys
from collections import defaultdict
from collections.abc import AsyncIterator
from typing import Any

import uvicorn
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import JSONResponse, PlainTextResponse, Response, StreamingResponse
from starlette.routing import Route

GATES: defaultdict[str, asyncio.Event] = defaultdict(asyncio.Event)
ENDS: list[str] = []


async def ping(_: Request) -> Response:
    return PlainTextResponse("")


async def invocations(request: Request) -> Response:
    if request.headers.get("content-type") != "application/json":
        return PlainTextResponse("only JSON is understood", 415)
    options = await request.json()
    if "open" in options:
        GATES[options["open"]].set()
        return PlainTextResponse("")
    if "list" in options:
        return JSONResponse(ENDS)
    attributes = {"X-Amzn-SageMaker-Custom-Attributes": f"parts={options['parts']}"}
    return StreamingResponse(parts(options), headers=attributes, media_type=request.headers.get("accept"))


async def parts(options: dict[str, Any]) -> AsyncIterator[bytes]:
    try:
        for number in range(options["parts"]):
            if number and "gate" in options:
                await GATES[options["gate"]].wait()
            yield b"part %d\n" % number
        if options.get("fail") == "hang":
            await asyncio.sleep(600)
        if options.get("fail") == "break":
            raise RuntimeError("broken as asked")
        ENDS.append("complete")
    except asyncio.CancelledError:
        ENDS.append("cancelled")
        raise


if __name__ == "__main__":
    if sys.argv[1:] != ["serve"]:
        sys.exit(f"expected the one argument 'serve', got {sys.argv[1:]}")
    app = Starlette(routes=[Route("/ping", ping), Route("/invocations", invocations, methods=["POST"])])
    uvicorn.run(app, host="0.0.0.0", port=int(os.environ["SAGEMAKER_BIND_TO_PORT"]), log_level="warning")
