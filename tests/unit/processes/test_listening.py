"""On which ports processes listen."""

from __future__ import annotations

import os
import socket

import pytest

from hostler.processes.listening import listeners, sockets


@pytest.mark.parametrize(
    ("address", "loopback"),
    [("127.0.0.1", True), ("127.0.0.5", True), ("0.0.0.0", False), ("::1", True), ("::", False), ("", False),
     ("::ffff:127.0.0.1", True)],
)  # fmt: skip
def test_a_socket_that_listens_is_found_and_whether_others_reach_it(address: str, loopback: bool) -> None:
    try:
        six = ":" in address
        listener = socket.create_server(
            (address, 0), family=socket.AF_INET6 if six else socket.AF_INET, dualstack_ipv6=six
        )
    except OSError:
        pytest.skip("this machine has no IPv6")
    with listener:
        port, inode = listener.getsockname()[1], os.fstat(listener.fileno()).st_ino
        found = [each for each in listeners(os.getpid()) if each.socket == inode]
        assert [(each.port, each.loopback) for each in found] == [(port, loopback)]
        assert inode in sockets([os.getpid()])
    assert inode not in {each.socket for each in listeners(os.getpid())}


def test_dockers_own_resolver_is_nobodys_listener() -> None:
    with socket.create_server(("127.0.0.11", 0)) as resolver:
        assert resolver.getsockname()[1] not in {each.port for each in listeners(os.getpid())}


def test_a_process_that_has_ended_listens_nowhere() -> None:
    assert listeners(2**22 + 1) == ()
    assert sockets([2**22 + 1]) == set()
