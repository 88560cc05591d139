"""InvokeEndpointWithResponseStream, through boto3: parts of an answer reach the caller as the container sends them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
from botocore.exceptions import ClientError, EventStreamError
from hop_endpoints import STREAMS, deploy, hops, image, mapped_config
from running import BUCKET, Hostler, eventually, hostler_up

JSON = {"ContentType": "application/json", "Accept": "text/event-stream"}

# Its gates are files in FOLDER; it creates the file `closed` there if the caller disconnects. Empty parts are not sent.
SCRIPT = """
import json, os, time

def model_fn(model_dir):
    return os.environ["FOLDER"]

def transform_fn(model, data, content_type, accept):
    request = json.loads(data)
    if "echo" in request:
        return request["echo"], "text/plain"
    return parts(model, request), "text/event-stream"

def parts(model, request):
    try:
        for number in range(request["parts"]):
            while number and "gate" in request and not os.path.exists(os.path.join(model, request["gate"])):
                time.sleep(0.01)
                yield b""
            yield b"part %d\\n" % number
        if request.get("fail") == "break":
            raise RuntimeError("broken as requested")
    except GeneratorExit:
        open(os.path.join(model, "closed"), "w").close()
        raise
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="module")
def hostler(hostler: Hostler, folder: Path) -> Hostler:
    """The shared hostler with two endpoints that stream: `foreign`, by its container, and `script`, by its script."""
    deploy(hostler, "foreign", [{"Image": STREAMS}])
    hostler.put("streams/script.tar.gz", targets.script_target(SCRIPT))
    url = f"s3://{BUCKET}/streams/script.tar.gz"
    scripted = {"Image": image("pytorch-inference"), "ModelDataUrl": url, "Environment": {"FOLDER": str(folder)}}
    deploy(hostler, "script", [scripted])
    return hostler


@contextlib.contextmanager
def stream(hostler: Hostler, endpoint: str, hostname: str = "", **request: Any) -> Iterator[dict[str, Any]]:
    """Invoke the endpoint with this JSON request; boto3's answer, whose Body is an iterator of events."""
    answer = hostler.runtime.invoke_endpoint_with_response_stream(
        EndpointName=endpoint, Body=json.dumps(request), **JSON,
        **({"TargetContainerHostname": hostname} if hostname else {}),
    )  # fmt: skip
    with contextlib.closing(answer["Body"]) as events:
        yield answer | {"Body": iter(events)}


def invoke(hostler: Hostler, endpoint: str, **request: Any) -> bytes:
    """Return the answer's body of an ordinary InvokeEndpoint."""
    answer = hostler.runtime.invoke_endpoint(EndpointName=endpoint, Body=json.dumps(request), **JSON)
    content: bytes = answer["Body"].read()
    return content


def joined(events: Iterator[Any]) -> bytes:
    return b"".join(event["PayloadPart"]["Bytes"] for event in events)


def test_the_first_part_arrives_before_the_container_has_finished(hostler: Hostler):
    with stream(hostler, "foreign", parts=5, gate="first") as answer:
        assert answer["ContentType"] == "text/event-stream; charset=utf-8"
        assert answer["InvokedProductionVariant"] == "AllTraffic"
        assert answer["CustomAttributes"] == "parts=5"
        assert next(answer["Body"]) == {"PayloadPart": {"Bytes": b"part 0\n"}}
        invoke(hostler, "foreign", open="first")
        assert joined(answer["Body"]) == b"part 1\npart 2\npart 3\npart 4\n"


@pytest.mark.machine
def test_a_script_that_returns_a_generator_streams(hostler: Hostler, folder: Path):
    with stream(hostler, "script", parts=3, gate="first") as answer:
        assert answer["ContentType"] == "text/event-stream"
        assert next(answer["Body"]) == {"PayloadPart": {"Bytes": b"part 0\n"}}
        (folder / "first").touch()
        assert joined(answer["Body"]) == b"part 1\npart 2\n"


@pytest.mark.parametrize("endpoint", ["foreign", "script"])
def test_a_stream_that_fails_in_its_middle_ends_in_an_exception(hostler: Hostler, endpoint: str):
    with stream(hostler, endpoint, parts=1, fail="break") as answer:
        assert next(answer["Body"]) == {"PayloadPart": {"Bytes": b"part 0\n"}}
        with pytest.raises(EventStreamError) as failed:
            joined(answer["Body"])
    assert failed.value.response["Error"]["Code"] == "ModelStreamError"


def test_an_error_before_the_first_part_is_an_ordinary_error(hostler: Hostler):
    with pytest.raises(ClientError) as failed:
        hostler.runtime.invoke_endpoint_with_response_stream(EndpointName="foreign", Body=b"", ContentType="text/csv")
    error = failed.value.response
    assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 415)
    assert error["OriginalMessage"] == "only JSON is understood"


@pytest.mark.machine
def test_a_first_part_after_the_time_limit_is_an_ordinary_error(tmp_path: Path):
    with hostler_up(tmp_path / "up", config=mapped_config(tmp_path), invoke_timeout=3) as hostler:
        deploy(hostler, "foreign", [{"Image": STREAMS}])
        with pytest.raises(ClientError) as failed, stream(hostler, "foreign", parts=0, fail="hang"):
            pass
    error = failed.value.response
    assert (error["Error"]["Code"], error["OriginalStatusCode"]) == ("ModelError", 0)
    assert "Your invocation timed out while waiting for a response" in error["Message"]


def test_a_caller_who_disconnects_cancels_the_containers_answer(hostler: Hostler):
    ends = json.loads(invoke(hostler, "foreign", list=True))
    with stream(hostler, "foreign", parts=2, gate="never") as answer:
        next(answer["Body"])
    eventually(
        lambda: json.loads(invoke(hostler, "foreign", list=True)) == [*ends, "cancelled"], 60, "its answer is cancelled"
    )


@pytest.mark.machine
def test_a_script_whose_caller_disconnects_is_closed_and_answers_the_next_call(hostler: Hostler, folder: Path):
    with stream(hostler, "script", parts=2, gate="never") as answer:
        next(answer["Body"])
    eventually((folder / "closed").exists, 60, "the script is closed")
    assert invoke(hostler, "script", echo="next") == b"next"


def test_a_pipeline_streams_its_last_containers_answer(hostler: Hostler):
    deploy(hostler, "pipeline", [*hops("hop"), {"Image": STREAMS, "ContainerHostname": "streams"}])
    with stream(hostler, "pipeline", hop=answer_with(parts=3, gate="piped")) as answer:
        assert next(answer["Body"]) == {"PayloadPart": {"Bytes": b"part 0\n"}}
        invoke(hostler, "pipeline", hop=answer_with(open="piped"))
        assert joined(answer["Body"]) == b"part 1\npart 2\n"
    hostler.sm.delete_endpoint(EndpointName="pipeline")


def answer_with(**request: Any) -> dict[str, Any]:
    """Return instructions for a hop to answer with this JSON request for the next container."""
    return {"status": 200, "type": "application/json", "body": json.dumps(request)}


def test_a_direct_endpoint_streams_from_the_container_that_is_named(hostler: Hostler):
    deploy(hostler, "direct", [*hops("hop"), {"Image": STREAMS, "ContainerHostname": "streams"}], "Direct")
    with stream(hostler, "direct", "streams", parts=3) as answer:
        assert joined(answer["Body"]) == b"part 0\npart 1\npart 2\n"
    hostler.sm.delete_endpoint(EndpointName="direct")
