"""Whose program is at the other end?"""

from __future__ import annotations

import os
import socket

from hostler.proxy.callers import find, user_of

TABLE = """  sl  local_address rem_address   st tx_queue rx_queue tr tm->when retrnsmt   uid  timeout inode
   0: 0100007F:11D7 00000000:0000 0A 00000000:00000000 00:00000000 00000000  1000        0 111 1 0 100 0 0 10 0
   1: 0100007F:11D7 0100007F:D431 01 00000000:00000000 00:00000000 00000000  1000        0 222 1 0 20 4 30 10 -1
   2: 0100007F:D431 0100007F:11D7 01 00000000:00000000 00:00000000 00000000  1001        0 333 1 0 20 4 30 10 -1
   3: 0000000000000000FFFF00000100007F:D432 0000000000000000FFFF00000100007F:11D7 01 0:0 00:0 0 1002 0 444 1
"""


def test_the_clients_end_tells_the_user_and_not_the_servers() -> None:
    server = ("127.0.0.1", 0x11D7)
    assert find(TABLE.splitlines(), ("127.0.0.1", 0xD431), server) == 1001
    assert find(TABLE.splitlines(), ("127.0.0.1", 0xD432), server) == 1002
    assert find(TABLE.splitlines(), ("127.0.0.1", 0xD433), server) is None


def test_a_real_connection_of_ours_is_ours() -> None:
    with socket.create_server(("127.0.0.1", 0)) as server:
        for family, host in ((socket.AF_INET, "127.0.0.1"), (socket.AF_INET6, "::ffff:127.0.0.1")):
            with socket.socket(family) as client:
                client.connect((host, server.getsockname()[1]))
                with server.accept()[0] as accepted:
                    assert user_of(accepted.getpeername(), accepted.getsockname()) == os.geteuid()
