"""Calls that never return, with the limits of AWS: the test waits until they are up, and does nothing meanwhile."""

from __future__ import annotations

import asyncio
import json
import time
from collections.abc import Iterator

import pytest
import targets
from callers import Answer, Caller
from hop_endpoints import deploy
from running import ANY_IMAGE, BUCKET, Hostler, hostler_up

pytestmark = [pytest.mark.slow, pytest.mark.longest]

LATER = 30.0  # seconds after a call that hangs at which others are sent: their own time is up as much later

SCRIPT = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if data == "hang":
        time.sleep(1e5)
    return data, "text/csv"
"""
STREAM = """
import time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    def parts():
        yield "first"
        if data == "hang":
            time.sleep(1e5)
        yield "second"
    return parts(), "text/plain"
"""


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler]:
    """A multi-model endpoint with a script, and an endpoint of a script that streams."""
    with hostler_up(tmp_path_factory.mktemp("longest")) as hostler:
        hostler.put("scripts/script.tar.gz", targets.script_target(SCRIPT))
        hostler.create_endpoint("scripts")
        hostler.put("one/stream.tar.gz", targets.script_target(STREAM))
        deploy(hostler, "streams", [{"Image": ANY_IMAGE, "ModelDataUrl": f"s3://{BUCKET}/one/stream.tar.gz"}])
        yield hostler


async def ask(hostler: Hostler, body: bytes) -> Answer:
    async with Caller(hostler.url) as caller:
        return await caller.invoke("scripts", "script.tar.gz", body)


async def stream(hostler: Hostler, body: bytes) -> Answer:
    async with Caller(hostler.url) as caller:
        path = "/endpoints/streams/invocations-response-stream"
        return await caller.call("POST", path, {"Content-Type": "text/csv"}, body)


def test_a_call_that_hangs_ends_after_a_minute(hostler: Hostler) -> None:
    async def story() -> None:
        begun = time.monotonic()
        hanging = asyncio.create_task(ask(hostler, b"hang"))
        await asyncio.sleep(LATER)
        behind = [asyncio.create_task(ask(hostler, b"behind")) for _ in range(2)]
        answer = await hanging
        assert time.monotonic() - begun > 59
        assert (answer.status, "time" in json.loads(answer.body)["OriginalMessage"]) == (424, True)
        assert (await ask(hostler, b"again")).status == 200
        assert [(await each).status for each in behind] == [200, 200]

    asyncio.run(story())


def test_a_stream_that_stops_in_the_middle_ends_when_all_its_time_is_up(hostler: Hostler) -> None:
    async def story() -> None:
        answer = await stream(hostler, b"hang")
        assert answer.status == 200
        assert b"ModelInvocationTimeExceeded" in answer.body
        assert (await stream(hostler, b"x")).status == 200

    asyncio.run(story())
