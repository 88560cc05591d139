"""The proxy's port."""

from __future__ import annotations

import socket

import pytest

from free_ports import free_port
from hostler.host import proxy
from hostler.settings import Settings


def test_the_port_is_the_one_after_the_other_unless_a_setting_names_it() -> None:
    port = free_port()
    for settings in (
        Settings(port=port - 1),
        Settings(port=9, aws_hosts_port=port),
        Settings(port=0, aws_hosts_port=port),
    ):
        sock = proxy.listen(settings, port - 1 if settings.port != 9 else 9, 0)
        assert sock
        with sock:
            assert sock.getsockname() == ("127.0.0.1", port)


@pytest.mark.parametrize("settings", [Settings(port=0), Settings(port=65_535), Settings(port=9, aws_hosts_port=0)])
def test_beside_any_free_port_it_is_any_free_port(settings: Settings) -> None:
    sock = proxy.listen(settings, settings.port or 4566, 0)
    assert sock
    with sock:
        assert sock.getsockname()[1] not in (0, 4567)


def test_a_port_that_is_taken_is_one_warning_and_no_error(caplog: pytest.LogCaptureFixture) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        assert proxy.listen(Settings(aws_hosts_port=port), 9, 0) is None
    [record] = caplog.records
    assert record.getMessage().startswith(f"port {port} on 127.0.0.1 is taken: there is no proxy")
