"""Mapped commands that behave as in a container of their own: the reason comes within seconds, and its help helps."""

from __future__ import annotations

import concurrent.futures
import os
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from botocore.exceptions import ClientError
from running import REPOSITORY, Hostler, hostler_up

from hostler.host import namespaces

PROGRAM = REPOSITORY / "tests" / "containers" / "at_home.py"


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory, require: Callable[..., None]) -> Iterator[Hostler]:
    require("bwrap")
    folder = tmp_path_factory.mktemp("commands")
    config = folder / "hostler.toml"
    command = f'["{sys.executable}", "{PROGRAM}"]'
    config.write_text(
        f'[images]\n"plain" = {command}\n"existing" = {{command = {command}, tmpfs = ["/var/log"]}}\n'
        f'"missing" = {{command = {command}, tmpfs = ["/var/log/of-a-test"]}}\n'
    )
    with hostler_up(folder / "up", config=config, hold=0) as running:
        yield running


@pytest.mark.parametrize(
    ("habit", "cause"),
    [
        ("exits", "The container exited with code 1 before it answered a ping."),
        ("stays", " seconds, GET /ping was not"),
    ],
)
def test_a_command_whose_write_is_refused_is_told_the_folder(hostler: Hostler, habit: str, cause: str) -> None:
    reason = _host(hostler, f"refused-{habit}", "plain", habit)
    assert cause in reason
    assert "It could not write in /var/log: a command sees this machine's files read-only." in reason
    assert '{command = "...", tmpfs = ["/var/log"]}' in reason


@pytest.mark.parametrize("image", ["existing", "missing"])
def test_a_folder_of_its_own_is_empty_and_the_machines_stays_as_it_was(hostler: Hostler, image: str) -> None:
    before = sorted(os.listdir("/var/log"))
    assert not _host(hostler, f"helped-{image}", image, "stays")
    assert _invoke(hostler, f"helped-{image}", b"hello") == b"hello"
    assert sorted(os.listdir("/var/log")) == before


def test_an_isolated_command_listens_on_8080_and_answers_every_kind_of_call(hostler: Hostler) -> None:
    if refused := namespaces.trial().isolation:
        pytest.skip(f"this machine allows no network namespaces: {refused}")
    for number in (1, 2):  # each has a port 8080
        assert not _host(hostler, f"isolated-{number}", "plain", "8080", EnableNetworkIsolation=True)
        assert _invoke(hostler, f"isolated-{number}", b"hello") == b"hello"
    large = os.urandom(3 * 2**20)
    assert _invoke(hostler, "isolated-1", large) == large
    assert _invoke(hostler, "isolated-1", b"slowly") == b"one two three"
    streamed = hostler.runtime.invoke_endpoint_with_response_stream(EndpointName="isolated-1", Body=b"slowly")
    assert b"".join(event["PayloadPart"]["Bytes"] for event in streamed["Body"]) == b"one two three"
    with pytest.raises(ClientError) as hung_up:
        _invoke(hostler, "isolated-1", b"hang up")
    assert hung_up.value.response["Error"]["Code"] == "ModelError"
    bodies = [str(number).encode() * 1000 for number in range(200)]
    with concurrent.futures.ThreadPoolExecutor(8) as callers:
        assert [*callers.map(lambda body: _invoke(hostler, "isolated-1", body), bodies)] == bodies
    described = hostler.sm.describe_model(ModelName="isolated-1")
    assert described["EnableNetworkIsolation"] is True


def _invoke(hostler: Hostler, name: str, body: bytes) -> bytes:
    content: bytes = hostler.runtime.invoke_endpoint(EndpointName=name, Body=body)["Body"].read()
    return content


def _host(hostler: Hostler, name: str, image: str, habit: str, **more: Any) -> str:
    """Host the command; return the FailureReason, empty if it is InService."""
    container = {"Image": image, "Environment": {"HABIT": habit}}
    hostler.deploy(name, container, **more)
    return hostler.settled(name, 120)
