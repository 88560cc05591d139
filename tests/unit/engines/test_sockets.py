"""Which further sockets of a server become addresses: the container chose their names."""

from __future__ import annotations

import os
import socket
import tempfile
from pathlib import Path

from hostler.engines.sockets import own_sockets


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
        assert own_sockets(f"unix:{folder}/s", names) == (f"unix:{folder}/one",)
        assert own_sockets("tcp:127.0.0.1:80", names) == ()
