"""Programs that know nothing of hostler, and a hostler, in a network whose edge this program holds and counts at.

Run as `python network_edge.py FOLDER PROGRAM...`, in new namespaces of the network and of mounts if packets are to be
counted; prints JSON. The only way out of that network is a tun device: each packet that leaves the machine is read here
(Linux, Documentation/networking/tuntap.rst). The addresses are of documentation's ranges.
"""

from __future__ import annotations

import contextlib
import ctypes
import fcntl
import io
import json
import os
import shutil
import socket
import struct
import subprocess
import sys
import threading
from pathlib import Path
from typing import Any

import joblib
import numpy
from running import REPOSITORY, Hostler, eventually, hostler_up
from shell import CITIES, Shell
from sklearn.linear_model import LinearRegression
from targets import archive, script_target

from hostler.cli import demo

PROGRAMS = Path(__file__).parent / "programs"
NODE_MODULES = REPOSITORY / ".venv" / "javascript" / "node_modules"
INSIDE = "HOSTLER_TEST_EDGE"  # set in the new namespaces
RESOLVER, MACHINE, INTERNET = "192.0.2.53", "198.51.100.5", "203.0.113.7"
STREAM = b"""
import json

def model_fn(model_dir):
    print("loading nothing")

def transform_fn(model, data, content_type, accept):
    return (b"part %d;" % number for number in range(json.loads(data))), "text/plain"
"""
_IPV4 = b"\0\0\0\0"
_TUN = Path("/dev/net/tun")


class Edge:
    """Everything that leaves the network, as `DNS name` or `protocol address`."""

    def __init__(self) -> None:
        self._left: list[str] = []
        _up(b"lo")
        self._device = os.open(_TUN, os.O_RDWR)
        flags = 0x0001 | 0x1000  # IFF_TUN, without a header before each packet
        fcntl.ioctl(self._device, 0x400454CA, struct.pack("16sH22x", b"edge", flags))  # TUNSETIFF
        with contextlib.suppress(OSError):  # then its own solicitations of routers are counted, and left out below
            Path("/proc/sys/net/ipv6/conf/edge/disable_ipv6").write_text("1")
        _up(b"edge", MACHINE)
        _route_everything(b"edge")
        threading.Thread(target=self._read, daemon=True).start()

    def left(self) -> list[str]:
        """Return all that has left until now. Raises AssertionError if the kernel counted other packets."""
        eventually(lambda: len(self._left) == self._counted(), 60, "every packet is read", lambda: str(self._left))
        return [packet for packet in self._left if packet]

    def _counted(self) -> int:
        [line] = [line for line in Path("/proc/net/dev").read_text().splitlines() if line.strip().startswith("edge:")]
        return int(line.split(":")[1].split()[9])  # packets sent

    def _read(self) -> None:
        while True:
            packet = os.read(self._device, 65536)
            self._left.append(_described(packet))


def _described(packet: bytes) -> str:
    """Describe an IP packet; the kernel's own ICMPv6 is the empty text."""
    if packet[0] >> 4 == 6:
        return "" if packet[6] in (0, 58) else f"IPv6 {socket.inet_ntop(socket.AF_INET6, packet[24:40])}"
    header, protocol = (packet[0] & 15) * 4, packet[9]
    address = socket.inet_ntoa(packet[16:20])
    if protocol == 17 and struct.unpack_from("!H", packet, header + 2)[0] == 53:
        question, name = packet[header + 20 :], []  # UDP's header has 8 octets, DNS's 12 (RFC 1035 §4.1)
        while question and question[0]:
            name.append(question[1 : question[0] + 1].decode(errors="replace"))
            question = question[question[0] + 1 :]
        return f"DNS {'.'.join(name)}"
    return f"{ {6: 'TCP', 17: 'UDP', 1: 'ICMP'}.get(protocol, protocol) } {address}"


def _up(device: bytes, address: str = "") -> None:
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        if address:
            packed = struct.pack("16sHH4s8x", device, socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(any_socket, 0x8916, packed)  # SIOCSIFADDR
        fcntl.ioctl(any_socket, 0x8914, struct.pack("16sh14x", device, 1))  # SIOCSIFFLAGS, IFF_UP


def _route_everything(device: bytes) -> None:
    """Make the device the default route: a `struct rtentry` whose destination, gateway and mask are 0.0.0.0."""
    any_address = struct.pack("HH4s8x", socket.AF_INET, 0, _IPV4)
    name = ctypes.create_string_buffer(device)
    middle = struct.pack("@HhLPhP", 1, 0, 0, 0, 0, ctypes.addressof(name))  # RTF_UP; the device is the last of these
    entry = struct.pack("@L", 0) + any_address * 3 + middle + bytes(32)
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, 0x890B, entry)  # SIOCADDRT


def prepare(folder: Path) -> dict[str, float]:
    """Put into the folder what the programs have in theirs; return the price that each city's model predicts."""
    folder.mkdir()
    prices = {city: demo.train(city, folder)[1] for city in CITIES}
    rows, saved = numpy.array([[0.0, 0.0], [1.0, 0.0], [0.0, 1.0]]), io.BytesIO()
    joblib.dump(LinearRegression().fit(rows, rows @ [2.0, 3.0] + 1), saved)
    (folder / "sklearn.tar.gz").write_bytes(archive({"model.joblib": saved.getvalue()}))
    (folder / "streams.tar.gz").write_bytes(script_target(STREAM.decode()))
    for program in PROGRAMS.iterdir():
        if program.is_file():
            shutil.copy(program, folder)
    (folder / "node_modules").symlink_to(NODE_MODULES)
    return prices


def commands(program: str) -> list[str]:
    return {".py": [sys.executable], ".sh": ["sh"], ".mjs": ["node"]}[Path(program).suffix] + [program]


def run(program: str, folder: Path, variables: dict[str, str]) -> dict[str, Any]:
    """Run a program from an empty shell that has hostler's variables, and the commands of this interpreter."""
    path = os.pathsep.join([str(Path(sys.executable).parent), "/usr/local/bin:/usr/bin:/bin"])
    done = subprocess.run(
        commands(program), cwd=folder, env={"PATH": path, "HOME": str(folder), **variables},
        capture_output=True, text=True, timeout=240, check=False,
    )  # fmt: skip
    return {"code": done.returncode, "output": done.stdout[-20000:], "errors": done.stderr[-4000:]}


def deliberately(variables: dict[str, str]) -> None:
    """Send packets that are to be counted: a connection, and a client's call to AWS without the proxy."""
    with contextlib.suppress(OSError), socket.socket() as sock:
        sock.settimeout(0.2)
        sock.connect((INTERNET, 443))
    program = (
        "import boto3, botocore.config as c\n"
        "boto3.client('sts', endpoint_url='https://sts.us-east-1.amazonaws.com',"
        " config=c.Config(retries={'total_max_attempts': 1})).get_caller_identity()"
    )
    subprocess.run([sys.executable, "-c", program], env=variables, capture_output=True, timeout=60, check=False)


def main(folder: Path, programs: list[str]) -> dict[str, Any]:
    """Return the output of each program, and what left the network meanwhile, and what left it deliberately."""
    prices = prepare(folder / "work")
    ended: dict[str, Any] = {"prices": prices}
    edge = Edge() if os.environ.get(INSIDE) else None
    with hostler_up(folder / "up", aws_hosts_port=0) as hostler:
        plain, hosts = (shell_variables(hostler, folder, *options) for options in ((), ("--aws-hosts",)))
        for program in programs:
            ended[program] = run(program, folder / "work", hosts)
        if "aws.mjs" in programs:
            ended["aws.mjs, plain"] = run("aws.mjs", folder / "work", plain)
        if edge:
            ended["left"] = edge.left()
            deliberately(plain)
            ended["deliberately"] = edge.left()[len(ended["left"]) :]
    return ended


def shell_variables(hostler: Hostler, folder: Path, *options: str) -> dict[str, str]:
    """Return the variables that `hostler env` prints, without that which hostler's own commands use."""
    variables = Shell(hostler, folder, *options).printed
    return {name: value for name, value in variables.items() if not name.startswith("HOSTLER_")}


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]), sys.argv[2:])))
