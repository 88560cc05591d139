"""Whoever is not of a cell, and calls its ports."""

from __future__ import annotations

import contextlib
import secrets
import socket
import ssl
import subprocess
from collections.abc import Iterator, Sequence
from typing import Literal

import msgspec

import docker_rig
from hostler.wire.door import VERSION, Knock

_GUARD = 60.0  # seconds
_SILENT = """
import select, socket, sys, time

count, places = int(sys.argv[1]), [each.rsplit(":", 1) for each in sys.argv[2:]]

def dial(place):
    connection = socket.socket()
    connection.setblocking(False)
    connection.connect_ex((place[0], int(place[1])))
    return connection

poll, held = select.poll(), {}

def hold(place):
    connection = dial(place)
    held[connection.fileno()] = connection, place
    poll.register(connection, select.POLLIN)

for _ in range(count):
    for place in places:
        hold(place)
print("they are there", flush=True)
while True:
    for number, _ in poll.poll():  # it is closed: come again
        connection, place = held.pop(number)
        poll.unregister(number)
        connection.close()
        hold(place)
    time.sleep(1)
"""


def answer_to_knock(host: str, role: Literal["gateway", "agent"], name: str, token: str) -> bytes:
    """Knock at the door of links; return the beginning of the answer, empty if it is closed without a word."""
    context = ssl.create_default_context()
    context.check_hostname, context.verify_mode = False, ssl.CERT_NONE
    message = msgspec.msgpack.encode(Knock(role, name, token, VERSION))
    with socket.create_connection((host, 7700), _GUARD) as sock, context.wrap_socket(sock) as door:
        door.sendall(len(message).to_bytes(4, "big") + message)
        return door.recv(100)


@contextlib.contextmanager
def silent_strangers(network: str, places: Sequence[tuple[str, int]], count: int) -> Iterator[None]:
    """Hold so many connections to each of these (host, port) from an address of the network, and say nothing on them.

    Those that are closed are opened again.
    """
    name = f"strangers-{secrets.token_hex(4)}"
    words = [f"{host}:{port}" for host, port in places]
    run = ["docker", "--host", docker_rig.address(), "run", "--rm", "--name", name, "--network", network]
    python = [docker_rig.base(), "python3", "-c", _SILENT, str(count), *words]
    with subprocess.Popen([*run, *python], stdout=subprocess.PIPE, text=True) as strangers:
        try:
            assert strangers.stdout
            assert strangers.stdout.readline() == "they are there\n"
            yield
        finally:
            docker_rig.docker("kill", name)
