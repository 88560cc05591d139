"""Which sockets and ports of a server's processes become addresses: the container chose them."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from hostler.engines.sockets import own_addresses


def test_only_sockets_in_the_servers_own_folder_become_addresses() -> None:
    with (
        tempfile.TemporaryDirectory() as name,
        socket.socket(socket.AF_UNIX) as one,
        socket.socket(socket.AF_UNIX) as outside,
    ):
        folder = Path(name, "c")
        folder.mkdir()
        one.bind(str(folder / "one"))
        outside.bind(str(Path(name, "outside")))
        os.symlink(folder / "one", folder / "link")
        (folder / "file").touch()
        names = ["one", "none", "link", "file", "../outside", "", "\0"]
        assert own_addresses(f"unix:{folder}/s", names, [80]) == (f"unix:{folder}/one",)
        assert own_addresses("tcp:127.0.0.1:80", names, []) == ()


def test_ports_of_the_containers_own_address_become_addresses() -> None:
    ports = [25_999, 0, -1, 65_536, 25_998]
    assert own_addresses("tcp:10.0.0.7:8080", ["s"], ports) == ("tcp:10.0.0.7:25999", "tcp:10.0.0.7:25998")
    assert own_addresses("tcp:fd00::7:8080", [], [25_999]) == ("tcp:fd00::7:25999",)


def test_ports_of_this_machines_own_loopback_do_not() -> None:
    assert own_addresses("tcp:127.0.0.1:32768", [], [22, 25_999]) == ()
