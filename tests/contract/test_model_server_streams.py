"""Answers in pieces: each is there as soon as the script gives it, and nobody waits for one who does not read."""

from __future__ import annotations

import contextlib
import http.client
import signal
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from containers_of_ours import Container, Place, running, script, until

# What a call asks for is what the script does. A gate is a file that the test makes.
STREAMS = """
import os, time

STEPS = 0

def model_fn(model_dir):
    return os.environ["SAGEMAKER_BASE_DIR"]

def wait_for(gate):
    while not os.path.exists(gate):
        time.sleep(0.001)

def pieces(base, what):
    global STEPS
    if what == "gates":
        yield "first"
        wait_for(base + "/one")
        yield b"second"
        wait_for(base + "/two")
        yield memoryview(b"third")
    elif what == "endless":
        try:
            while True:
                time.sleep(0.001)
                yield "x"
        finally:
            open(base + "/closed", "w").close()
    elif what == "breaks":
        yield "first"
        wait_for(base + "/one")
        raise ValueError("broken in the middle")
    elif what == "breaks at once":
        raise ValueError("broken at once")
    elif what == "odd":
        yield 1
    elif what == "large":
        for number in range(300):
            STEPS += 1
            yield bytes([number % 256]) * 65_536

def transform_fn(base, data, content_type, accept):
    if data == "steps":
        return str(STEPS)
    return pieces(base, data), "text/event-stream"
"""

Call = Callable[[str], http.client.HTTPResponse]


@pytest.fixture(params=["a target's own process", "the container", "a single model's container"])
def server(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[tuple[Container, Call]]:
    """A container with the script, and a call of it whose answer has begun when it returns."""
    with contextlib.ExitStack() as stack:
        multi_model = request.param != "a single model's container"
        if not multi_model:
            (tmp_path / "model").mkdir()
            script(tmp_path / "model", STREAMS)
        told = {"SAGEMAKER_MULTI_MODEL": "true"} if multi_model else {}
        container = stack.enter_context(running(tmp_path, HOSTLER_FRAMEWORK="script", **told)).wait()
        place: Place = "s"
        path = "/invocations"
        if multi_model:
            script(container.model("m"), STREAMS)
            path = "/models/m/invoke"
            [own] = container.own(container.loaded("m"))
            place = own if request.param == "a target's own process" else "s"

        def call(what: str) -> http.client.HTTPResponse:
            """The response is the connection's only owner: closing it leaves."""
            connection = container.connect(place)
            connection.request("POST", path, what.encode(), {"Content-Type": "text/csv", "Connection": "close"})
            response = connection.getresponse()
            stack.callback(response.close)
            return response

        yield container, call


def test_each_piece_arrives_before_the_next_is_made(server: tuple[Container, Call]) -> None:
    container, call = server
    response = call("gates")
    assert (response.status, response.headers["Content-Type"]) == (200, "text/event-stream")
    assert response.headers["Transfer-Encoding"] == "chunked"
    assert response.read1() == b"first"
    (container.folder / "one").touch()
    assert response.read1() == b"second"
    (container.folder / "two").touch()
    assert response.read() == b"third"


def test_others_are_answered_between_two_pieces(server: tuple[Container, Call]) -> None:
    _, call = server
    streams = [call("endless") for _ in range(3)]
    for _ in range(20):
        assert call("steps").read() == b"0"
        assert {stream.read1(1) for stream in streams} == {b"x"}


def test_a_disconnected_caller_closes_the_pieces(server: tuple[Container, Call]) -> None:
    container, call = server
    response = call("endless")
    response.read1(1)
    response.close()
    until((container.folder / "closed").exists)
    assert call("steps").status == 200


def test_a_stream_that_breaks_is_cut_and_says_why_in_the_log(server: tuple[Container, Call]) -> None:
    container, call = server
    response = call("breaks")
    assert response.read1() == b"first"
    (container.folder / "one").touch()
    with pytest.raises((http.client.IncompleteRead, ConnectionError)):
        response.read()
    until(lambda: "ValueError: broken in the middle" in container.output())
    assert "code/inference.py" in container.output()
    assert "answers.py" not in container.output(), "of the traceback, what is the user's own"
    assert call("steps").status == 200


@pytest.mark.parametrize(
    ("what", "status", "says"),
    [
        ("breaks at once", 500, "broken at once\nTraceback (most recent call last):\n"),
        ("odd", 500, "a piece of a stream is bytes or str, and this is a int"),
        ("nothing", 200, ""),
    ],
)
def test_until_its_first_piece_a_stream_is_a_call_like_any_other(
    server: tuple[Container, Call], what: str, status: int, says: str
) -> None:
    container, call = server
    response = call(what)
    body = response.read().decode()
    assert (response.status, body[: len(says)]) == (status, says)
    assert says.partition("\n")[0] in container.output()
    assert call("steps").status == 200


def test_a_caller_that_does_not_read_delays_only_itself(server: tuple[Container, Call]) -> None:
    _, call = server
    response = call("large")
    for _ in range(400):
        steps = int(call("steps").read())
    assert steps < 150
    found = response.read()
    assert found == b"".join(bytes([number % 256]) * 65_536 for number in range(300))
    assert int(call("steps").read()) == 300


def test_a_stream_is_finished_when_the_server_gets_sigterm(server: tuple[Container, Call]) -> None:
    container, call = server
    response = call("gates")
    assert response.read1() == b"first"
    container.process.send_signal(signal.SIGTERM)
    until(lambda: container.refuses("s"))
    for gate in ("one", "two"):
        (container.folder / gate).touch()
    assert response.read() == b"secondthird"
    assert container.end() == 0


def test_any_last_function_may_give_the_pieces(tmp_path: Path) -> None:
    with running(tmp_path, SAGEMAKER_MULTI_MODEL="true") as server:
        server.wait()
        model = "def model_fn(d): return 'm'\n"
        for name, text, accept in (
            ("p", "def predict_fn(data, model): return iter(['a', b'b'])", "text/event-stream"),
            ("o", "def predict_fn(data, model): return data\ndef output_fn(p, accept): return map(str, p)", "text/x"),
            ("t", "def transform_fn(m, data, kind, accept):\n    yield m\n    yield data", "application/json"),
        ):
            script(server.model(name), model + text)
            server.loaded(name)
            answer = server.invoke(name, b"[1, 2]", "application/json", accept=accept)
            assert (answer.status, answer.content_type) == (200, accept)
            assert answer.text == {"p": "ab", "o": "12", "t": "m[1, 2]"}[name]
