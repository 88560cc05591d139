"""The pytest plugin: `hostler_server`, a hostler of the session, and `hostler`, the same for one test.

pytest imports it in every run of an environment that has hostler, so it imports nothing else before a fixture asks, and
hostler's own packages never: they may be another environment's.
"""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from typing import TYPE_CHECKING

import pytest

if TYPE_CHECKING:
    from hostler.testing.hosting import Hostler


def pytest_addoption(parser: pytest.Parser) -> None:
    parser.addini(
        "hostler_command", "command of the hostler that tests get, such as /opt/hostler/bin/hostler up", "args"
    )
    parser.addini(
        "hostler_settings", "settings of the hostler that tests get: lines such as instance_memory = 1GiB", "linelist"
    )


def pytest_configure(config: pytest.Config) -> None:
    config.addinivalue_line(
        "markers", "hostler_fault(effect, **members): a fault on purpose, during a test with `hostler`"
    )


def pytest_runtest_setup(item: pytest.Item) -> None:
    """Fail a test whose marker would have no effect."""
    marked = any(marker.name == "hostler_fault" for marker in item.own_markers)
    if marked and "hostler" not in getattr(item, "fixturenames", ()):
        pytest.fail("a test with the marker hostler_fault needs the fixture hostler", pytrace=False)


@pytest.fixture(scope="session")
def hostler_server(pytestconfig: pytest.Config) -> Iterator[Hostler]:
    """A hostler of this session, on a free port, which keeps nothing; under xdist each worker has its own.

    For fixtures of a wider scope than a test: what they make stays until they delete it, or the session ends.
    """
    from hostler.testing.hosting import running

    lines = (line.partition("=") for line in pytestconfig.getini("hostler_settings"))
    settings = {name.strip(): value.strip() for name, _, value in lines}
    command, folder = pytestconfig.getini("hostler_command"), pytestconfig.rootpath
    with running(command=command, settings=settings, folder=folder) as server:
        yield server


@pytest.fixture
def hostler(request: pytest.FixtureRequest, hostler_server: Hostler) -> Iterator[Hostler]:
    """The session's hostler during one test: AWS's clients in this process call it, and what the test makes is deleted.

    A bucket that was there before the test keeps its objects.
    """
    before = hostler_server.contents()
    try:
        with contextlib.ExitStack() as stack:
            for marker in request.node.iter_markers("hostler_fault"):
                stack.enter_context(hostler_server.fault(*marker.args, **marker.kwargs))
            stack.enter_context(hostler_server.environment())
            yield hostler_server
    finally:
        hostler_server.reset(keep=before)


@pytest.fixture
def hostler_aws_hosts(hostler: Hostler) -> Iterator[Hostler]:
    """`hostler`, to which AWS's own host names lead, too: the SageMaker SDK calls some, whatever the variables say."""
    with hostler.environment(aws_hosts=True):
        yield hostler
