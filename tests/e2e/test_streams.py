"""InvokeEndpointWithResponseStream, through boto3: parts of an answer reach the caller as the container gives them."""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import targets
from botocore.exceptions import ClientError, EventStreamError
from hop_endpoints import STREAMS, deploy, hops, image, mapped
from running import BUCKET, Hostler, eventually, hostler_up

TIMEOUT = 3  # seconds, of invocations
JSON = {"ContentType": "application/json", "Accept": "text/event-stream"}

# Its gates are files in the folder FOLDER, and so is what it says when it is left alone. An empty part is not sent.
SCRIPT = """
import json, os, time

def model_fn(model_dir):
    return os.environ["FOLDER"]

def transform_fn(model, data, content_type, accept):
    asked = json.loads(data)
    if "tell" in asked:
        return "there", "text/plain"
    return parts(model, asked), "text/event-stream"

def parts(model, asked):
    try:
        for number in range(asked["parts"]):
            while number and "gate" in asked and not os.path.exists(os.path.join(model, asked["gate"])):
                time.sleep(0.01)
                yield b""
            yield b"part %d\\n" % number
        if asked.get("fail") == "break":
            raise RuntimeError("broken as asked")
    except GeneratorExit:
        open(os.path.join(model, "left alone"), "w").close()
        raise
"""


@pytest.fixture(scope="module")
def folder(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("streams")


@pytest.fixture(scope="module")
def hostler(folder: Path) -> Iterator[Hostler]:
    """With the endpoint `foreign`, whose container streams; and `script`, whose script does."""
    with hostler_up(folder / "up", config=mapped(folder, "hop"), invoke_timeout=TIMEOUT) as running:
        deploy(running, "foreign", [{"Image": STREAMS}])
        running.put("streams/script.tar.gz", targets.script_target(SCRIPT))
        url = f"s3://{BUCKET}/streams/script.tar.gz"
        scripted = {"Image": image("pytorch-inference"), "ModelDataUrl": url, "Environment": {"FOLDER": str(folder)}}
        deploy(running, "script", [scripted])
        yield running


@contextlib.contextmanager
def stream(hostler: Hostler, endpoint: str, hostname: str = "", **asked: Any) -> Iterator[dict[str, Any]]:
    """boto3's answer, whose Body is an iterator of events."""
    answer = hostler.runtime.invoke_endpoint_with_response_stream(
        EndpointName=endpoint, Body=json.dumps(asked), **JSON,
        **({"TargetContainerHostname": hostname} if hostname else {}),
    )  # fmt: skip
    with contextlib.closing(answer["Body"]) as events:
        yield answer | {"Body": iter(events)}


def say(hostler: Hostler, endpoint: str, **asked: Any) -> bytes:
    """The whole answer to an ordinary call."""
    answer = hostler.runtime.invoke_endpoint(EndpointName=endpoint, Body=json.dumps(asked), **JSON)
    content: bytes = answer["Body"].read()
    return content


def joined(events: Iterator[Any]) -> bytes:
    return b"".join(event["PayloadPart"]["Bytes"] for event in events)


def test_the_first_part_is_there_before_the_container_has_finished(hostler: Hostler):
    with stream(hostler, "foreign", parts=5, gate="first") as answer:
        assert answer["ContentType"] == "text/event-stream; charset=utf-8"
        assert answer["InvokedProductionVariant"] == "AllTraffic"
        assert answer["CustomAttributes"] == "parts=5"
        assert next(answer["Body"]) == {"PayloadPart": {"Bytes": b"part 0\n"}}
        say(hostler, "foreign", open="first")
        assert joined(answer["Body"]) == b"part 1\npart 2\npart 3\npart 4\n"


def test_a_script_that_is_a_generator_streams(hostler: Hostler, folder: Path):
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


def test_what_goes_wrong_before_the_first_part_is_an_ordinary_error(hostler: Hostler):
    with pytest.raises(ClientError) as failed:
        hostler.runtime.invoke_endpoint_with_response_stream(EndpointName="foreign", Body=b"", ContentType="text/csv")
    told = failed.value.response
    assert (told["Error"]["Code"], told["OriginalStatusCode"]) == ("ModelError", 415)
    assert told["OriginalMessage"] == "only JSON is understood"


def test_no_first_part_in_time_is_an_ordinary_error(hostler: Hostler):
    with pytest.raises(ClientError) as failed, stream(hostler, "foreign", parts=0, fail="hang"):
        pass
    told = failed.value.response
    assert (told["Error"]["Code"], told["OriginalStatusCode"]) == ("ModelError", 0)
    assert "Your invocation timed out while waiting for a response" in told["Message"]


def test_a_caller_who_leaves_is_missed_within_a_second(hostler: Hostler):
    ends = json.loads(say(hostler, "foreign", tell=True))
    with stream(hostler, "foreign", parts=2, gate="never") as answer:
        next(answer["Body"])
    eventually(
        lambda: json.loads(say(hostler, "foreign", tell=True)) == [*ends, "left alone"], 1, "the container knows of it"
    )


def test_a_script_whose_caller_leaves_is_free_within_a_second(hostler: Hostler, folder: Path):
    with stream(hostler, "script", parts=2, gate="never") as answer:
        next(answer["Body"])
    eventually((folder / "left alone").exists, 1, "the script is closed")
    assert say(hostler, "script", tell=True) == b"there"


def test_a_pipeline_streams_what_its_last_container_gives(hostler: Hostler):
    deploy(hostler, "pipeline", [*hops("hop"), {"Image": STREAMS, "ContainerHostname": "streams"}])
    with stream(hostler, "pipeline", hop=handing_on(parts=3, gate="piped")) as answer:
        assert next(answer["Body"]) == {"PayloadPart": {"Bytes": b"part 0\n"}}
        say(hostler, "pipeline", hop=handing_on(open="piped"))
        assert joined(answer["Body"]) == b"part 1\npart 2\n"
    hostler.sm.delete_endpoint(EndpointName="pipeline")


def handing_on(**asked: Any) -> dict[str, Any]:
    """What makes a hop answer with a request for the next container."""
    return {"status": 200, "type": "application/json", "say": json.dumps(asked)}


def test_a_direct_endpoint_streams_from_the_container_that_is_named(hostler: Hostler):
    deploy(hostler, "direct", [*hops("hop"), {"Image": STREAMS, "ContainerHostname": "streams"}], "Direct")
    with stream(hostler, "direct", "streams", parts=3) as answer:
        assert joined(answer["Body"]) == b"part 0\npart 1\npart 2\n"
    hostler.sm.delete_endpoint(EndpointName="direct")
