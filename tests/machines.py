"""Machines as network namespaces: servers of this process listen there, and a packet filter cuts them off."""

from __future__ import annotations

import contextlib
import ctypes
import os
import socket
import subprocess
import threading
from collections.abc import Iterator

_NEWNET = 0x40000000  # CLONE_NEWNET, of setns


class Machine:
    """A machine with an address of its own, to which this one has a link."""

    def __init__(self, name: str, address: str) -> None:
        self.address = address
        self._name = name

    def listen(self, port: int = 0) -> socket.socket:
        """Return a socket that listens there. A socket stays in the namespace where it was made."""
        made: list[socket.socket] = []

        def make() -> None:
            with open(f"/run/netns/{self._name}") as namespace:
                if ctypes.CDLL(None, use_errno=True).setns(namespace.fileno(), _NEWNET):
                    raise OSError(ctypes.get_errno(), "setns")
            made.append(socket.create_server((self.address, port), backlog=1024))

        thread = threading.Thread(target=make)  # of which nothing but its socket is left
        thread.start()
        thread.join()
        return made[0]

    def cut_off(self) -> None:
        """Drop whatever comes and goes: nobody is told, as when the power fails."""
        for chain in ("INPUT", "OUTPUT"):
            self._filter("-A", chain, "-j", "DROP")

    def come_back(self) -> None:
        self._filter("-F")

    def _filter(self, *words: str) -> None:
        subprocess.run(["ip", "netns", "exec", self._name, "iptables", "-w", *words], check=True, timeout=60)


@contextlib.contextmanager
def machines(count: int) -> Iterator[list[Machine]]:
    """Make machines; `require("iptables")` says whether that is possible."""
    with contextlib.ExitStack() as stack:
        yield [stack.enter_context(_machine(number)) for number in range(count)]


@contextlib.contextmanager
def _machine(number: int) -> Iterator[Machine]:
    own = os.getpid() % 10**6
    name, here, there = f"hostler-machine-{own}-{number}", f"hm{own}h{number}", f"hm{own}n{number}"
    subnet = f"10.{100 + own % 100}.{own // 100 % 250}"
    first = 4 * number
    try:
        for command in (
            f"ip netns add {name}",
            f"ip link add {here} type veth peer name {there} netns {name}",
            f"ip address add {subnet}.{first + 1}/30 dev {here}",
            f"ip link set {here} up",
            f"ip -netns {name} link set lo up",
            f"ip -netns {name} address add {subnet}.{first + 2}/30 dev {there}",
            f"ip -netns {name} link set {there} up",
        ):
            subprocess.run(command.split(), check=True, timeout=30)
        yield Machine(name, f"{subnet}.{first + 2}")
    finally:
        for command in (f"ip link delete {here}", f"ip netns delete {name}"):
            subprocess.run(command.split(), check=False, timeout=30)
