"""The ports of a server's processes: what they refuse, whose place they take, and who has none."""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import signal
import socket
from collections.abc import Iterator
from pathlib import Path

import containers_of_ours
import pytest
from containers_of_ours import Container, Gate, running, script, until

from free_ports import free_port

WHO = """
import os
def model_fn(folder): return os.path.basename(os.path.dirname(folder))
def predict_fn(data, model): return [model, os.getpid()]
"""
LISTENS = """
import os, socket
first, last = map(int, os.environ["SAGEMAKER_SAFE_PORT_RANGE"].split("-"))
taken = [socket.create_server(("", port)) for port in (first, last, last - 1)]
def model_fn(folder): return os.getpid()
def predict_fn(data, model): return model
"""


@pytest.fixture(autouse=True)
def at_ports() -> Iterator[None]:
    containers_of_ours.at_ports = True
    yield
    containers_of_ours.at_ports = False


@pytest.fixture
def server(at_ports: None, tmp_path: Path) -> Iterator[Container]:
    with running(tmp_path, SAGEMAKER_MULTI_MODEL="true") as container:
        yield container.wait()


def loaded(server: Container, name: str, text: str = WHO) -> int:
    """Load a script. Returns the port of its process."""
    script(server.model(name), text)
    [port] = server.own(server.loaded(name))
    return int(port)


def refused(server: Container, method: str, path: str, port: int) -> bool:
    answer = server.ask(method, path, b"1", to=port, content_type="text/csv")
    if answer.status == 404:
        assert answer.json["type"] == "ResourceNotFoundException"
    return answer.status == 404


def test_a_process_takes_calls_of_its_own_target_alone(server: Container) -> None:
    port, other = loaded(server, "a b"), loaded(server, "c")
    assert port != other
    assert server.ask("POST", "/models/a%20b/invoke", b"1", to=port, content_type="text/csv").json[0] == "a b"
    assert server.ask("GET", "/ping", to=port).status == 200
    for method, path in (
        *(("POST", path) for path in ("/models/c/invoke", "/invocations", "/models", "/hostler/port/25000", "/")),
        *((method, "/models/a%20b/invoke") for method in ("GET", "PUT", "DELETE")),
        *(("DELETE", "/models/a%20b"), ("GET", "/models")),
    ):
        assert refused(server, method, path, port), (method, path)


def test_a_port_of_an_unloaded_target_refuses_and_is_not_the_next_ones(server: Container) -> None:
    ports = []
    for _ in range(3):
        ports.append(loaded(server, "a"))
        assert server.ask("DELETE", "/models/a").status == 200
        assert server.refuses(ports[-1])
    assert ports == [*server.safe_ports[:-4:-1]]


def test_a_target_whose_process_has_ended_is_loaded_to_another_port(server: Container) -> None:
    port = loaded(server, "a")
    _, pid = server.ask("POST", "/models/a/invoke", b"1", to=port, content_type="text/csv").json
    os.kill(pid, signal.SIGKILL)
    until(lambda: not server.ask("GET", "/models").json["models"])
    assert server.own(server.loaded("a")) == [port - 1]


def test_ports_that_programs_of_the_container_have_are_left_to_them(server: Container) -> None:
    port = loaded(server, "listens", LISTENS)
    assert port == server.safe_ports[-3]
    assert server.ask("POST", "/models/listens/invoke", b"1", to=port, content_type="text/csv").status == 200
    assert loaded(server, "a") == port - 1


def test_targets_beyond_the_last_port_are_called_through_the_server(tmp_path: Path) -> None:
    with two_ports(tmp_path) as server:
        told = []
        for name in ("a", "b", "c"):
            script(server.model(name), WHO)
            told.append(server.own(server.loaded(name)))
        assert [len(own) for own in told] == [1, 1, 0]
        assert server.invoke("c", b"1").json[0] == "c"
        assert server.ask("DELETE", "/models/a").status == 200
        script(server.model("d"), WHO)
        assert server.own(server.loaded("d")) == told[0]


@contextlib.contextmanager
def two_ports(folder: Path) -> Iterator[Container]:
    """A server with two ports for its processes."""
    first = free_port()
    while (last := free_port()) != first + 1:
        first = last
    with running(folder, SAGEMAKER_MULTI_MODEL="true", SAGEMAKER_SAFE_PORT_RANGE=f"{first}-{last}") as server:
        yield server.wait()


def test_a_server_whose_ports_nobody_reaches_opens_none(tmp_path: Path) -> None:
    with running(tmp_path, SAGEMAKER_MULTI_MODEL="true", HOSTLER_PORTS="") as server:
        server.wait()
        script(server.model("a"), WHO)
        assert not server.own(server.loaded("a"))
        assert server.invoke("a", b"1").json[0] == "a"
        assert all(server.refuses(port) for port in server.safe_ports)


@pytest.mark.parametrize("workers", ["1", "2"])
def test_an_only_model_is_called_at_its_ports_and_answers_no_target_there(tmp_path: Path, workers: str) -> None:
    folder = tmp_path / "model"
    folder.mkdir()
    script(folder, WHO)
    with running(tmp_path, SAGEMAKER_MODEL_SERVER_WORKERS=workers) as server:
        ports = server.own(server.wait().ask("GET", "/ping").json)
        assert len(ports) == int(workers)
        pids = set()
        for port in ports:
            answer = server.ask("POST", "/invocations", b"1", to=port, content_type="text/csv")
            pids.add(json.dumps(answer.json))
            assert refused(server, "POST", "/models/model/invoke", int(port))
        assert len(pids) == int(workers)


def test_calls_in_flight_at_a_port_end_before_its_server_does(tmp_path: Path) -> None:
    gate = Gate(tmp_path, "call")
    text = f"def model_fn(d): return 0\ndef predict_fn(d, m):\n    {gate.code}\n    return 1"
    with running(tmp_path, SAGEMAKER_MULTI_MODEL="true") as server:
        port = loaded(server.wait(), "slow", text)
        with contextlib.closing(server.connect(port)) as connection:
            connection.request("POST", "/models/slow/invoke", b"1", {"Content-Type": "text/csv"})
            until(gate.reached)
            server.process.send_signal(signal.SIGTERM)
            until(lambda: server.refuses("s"))
            gate.open()
            assert connection.getresponse().read() == b"1"
        assert server.process.wait(120) == 0


@pytest.mark.skipif(not socket.has_dualstack_ipv6(), reason="this machine has no IPv6")
def test_a_port_is_one_of_ipv6_too(server: Container) -> None:
    port = loaded(server, "a")
    with contextlib.closing(http.client.HTTPConnection("::1", port, timeout=60)) as connection:
        assert containers_of_ours.ask(connection, "GET", "/ping").status == 200
