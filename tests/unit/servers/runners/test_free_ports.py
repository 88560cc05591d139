"""Which port a process gets: the last of the range first, one that was released as late as possible."""

from __future__ import annotations

import pytest

from hostler.servers import environment
from hostler.servers.runners.ports import FreePorts

TOLD = {"HOSTLER_PORTS": "true", "SAGEMAKER_SAFE_PORT_RANGE": "25000-25002"}


def test_ports_are_taken_from_the_end_and_a_released_one_comes_last() -> None:
    ports = FreePorts(range(25_000, 25_003))
    assert ports.take() == 25_002
    ports.release(25_002)
    assert [ports.take() for _ in range(4)] == [25_001, 25_000, 25_002, 0]


def test_a_replacement_gets_the_port_of_the_one_before_unless_another_has_it() -> None:
    ports = FreePorts(range(25_000, 25_003))
    port = ports.take()
    ports.release(port)
    assert ports.take(port) == port
    assert ports.take(port) == 25_001


def test_a_server_has_ports_only_where_the_platform_reaches_them() -> None:
    assert environment.read(TOLD).ports == range(25_000, 25_003)
    for missing in (TOLD | {"HOSTLER_SOCKET": "/s"}, TOLD | {"HOSTLER_PORTS": ""}, {}):
        assert environment.read(missing).ports == range(0)


@pytest.mark.parametrize("text", ["", "25000", "25000-", "-25000", "25001-25000", "0-9", "1-65536", "a-b", "1-2-3"])
def test_a_range_that_is_none_is_named(text: str) -> None:
    with pytest.raises(ValueError, match="SAGEMAKER_SAFE_PORT_RANGE is not a range of ports: "):
        environment.read(TOLD | {"SAGEMAKER_SAFE_PORT_RANGE": text})
