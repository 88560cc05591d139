"""A hostler in a network whose every host is this program's own, and containers in it that try to get out.

Run as `python small_internet.py FOLDER` within new namespaces of the network and of mounts; prints JSON.
All addresses are of documentation's ranges, but for the metadata address. No `ip` is needed: they are aliases of `lo`.
"""

from __future__ import annotations

import fcntl
import json
import shutil
import socket
import struct
import sys
import threading
from collections.abc import Callable
from pathlib import Path
from typing import Any

from running import BUCKET, REPOSITORY, Hostler, eventually, hostler_up
from targets import archive

SCRIPT = REPOSITORY / "tests" / "containers" / "ways_out.py"
SKLEARN = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"
MAPPED = "123456789012.dkr.ecr.us-east-1.amazonaws.com/ways-out:1"
MACHINE, INTERNET, RESOLVER, METADATA = "198.51.100.5", "203.0.113.7", "192.0.2.53", "169.254.169.254"
NAME = "internet.example"
ABSTRACT = "a-daemon-of-the-machine"
_SIOCSIFADDR, _SIOCSIFFLAGS, _UP = 0x8916, 0x8914, 1


def make_network() -> None:
    """Start the loopback, give it the addresses, and serve on each; bind a resolv.conf that names the resolver."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _UP))
        for number, address in enumerate((MACHINE, INTERNET, RESOLVER, METADATA)):
            alias = f"lo:{number}".encode()
            packed = struct.pack("16sHH4s8x", alias, socket.AF_INET, 0, socket.inet_aton(address))
            fcntl.ioctl(any_socket, _SIOCSIFADDR, packed)
    for address in (MACHINE, INTERNET, METADATA):
        _in_thread(_accept, socket.create_server((address, 80)))
    daemon = socket.socket(socket.AF_UNIX)
    daemon.bind("\0" + ABSTRACT)
    daemon.listen()
    _in_thread(_accept, daemon)
    resolver = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
    resolver.bind((RESOLVER, 53))
    _in_thread(_resolve, resolver)


def _in_thread(serve: Callable[[socket.socket], None], server: socket.socket) -> None:
    threading.Thread(target=serve, args=(server,), daemon=True).start()


def _accept(server: socket.socket) -> None:
    while True:
        server.accept()[0].close()


def _resolve(server: socket.socket) -> None:
    """Answer every question for an A record with the internet's address (RFC 1035), others with no record."""
    while True:
        query, client = server.recvfrom(512)
        question = query[12 : query.index(b"\0", 12) + 5] if len(query) > 12 else b""
        is_a = question[-4:-2] == b"\0\1"
        head = query[:2] + b"\x81\x80\0\1" + (b"\0\1" if is_a else b"\0\0") + b"\0\0\0\0"
        record = b"\xc0\x0c\0\1\0\1\0\0\0\x3c\0\4" + socket.inet_aton(INTERNET)
        server.sendto(head + question + (record if is_a else b""), client)


def host(hostler: Hostler, name: str, image: str, *, isolated: bool, workers: int = 1) -> None:
    hostler.put(f"{name}.tar.gz", archive({"code/inference.py": SCRIPT.read_bytes()}))
    environment = {"SAGEMAKER_MODEL_SERVER_WORKERS": str(workers)}
    data = f"s3://{BUCKET}/{name}.tar.gz"
    container = {"Image": image, "ModelDataUrl": data, "Environment": environment}
    hostler.deploy(name, container, EnableNetworkIsolation=isolated)
    hostler.wait_in_service(name)


def invoke(hostler: Hostler, name: str, ways: dict[str, list[Any]], **more: str) -> dict[str, str]:
    answer = hostler.runtime.invoke_endpoint(
        EndpointName=name, ContentType="application/json", Body=json.dumps(ways).encode(), **more
    )
    found: dict[str, str] = json.loads(answer["Body"].read())
    return found


def listening(process: Any) -> list[int]:
    return [c.laddr.port for c in process.net_connections("tcp") if c.status == "LISTEN"]


def main(folder: Path) -> dict[str, Any]:
    """Return what each container reached, by its name.

    1. Make the network, and start a hostler in it.
    2. Host containers that are not isolated: a script and, where there is bubblewrap, a command. They are the others.
    3. Host the same isolated, with one worker and with two, and as a target of many.
    4. Have each try every way.
    """
    make_network()  # 1.
    wrapped = shutil.which("bwrap") is not None
    config = folder / "hostler.toml"
    config.write_text(f'[images]\n"{MAPPED}" = ["{sys.executable}", "{SCRIPT}"]\n')
    found: dict[str, Any] = {}
    with hostler_up(folder / "up", config=config) as hostler:
        images = {"script": SKLEARN, **({"command": MAPPED} if wrapped else {})}
        for kind, image in images.items():  # 2.
            host(hostler, f"open-{kind}", image, isolated=False)
        run = Path((hostler.data / "run").read_text())
        [socket_of_other] = [str(path) for path in run.glob("c/*/s")]
        ways = {
            "loopback of the machine": ["tcp", "127.0.0.1", int(hostler.url.rpartition(":")[2])],
            "address of the machine": ["tcp", MACHINE, 80],
            "internet": ["tcp", INTERNET, 80],
            "DNS": ["name", NAME],
            "resolver": ["udp", RESOLVER, 53],
            "metadata": ["tcp", METADATA, 80],
            "socket of a daemon": ["abstract", ABSTRACT],
        }
        if wrapped:
            [command] = hostler.named("ways_out.py")[-1:]
            ways["another container"] = ["tcp", "127.0.0.1", eventually(lambda: listening(command), 60, "port")[0]]
        for kind, image in images.items():  # 3.
            host(hostler, f"isolated-{kind}", image, isolated=True)
        host(hostler, "isolated-workers", SKLEARN, isolated=True, workers=2)
        for kind in images:  # 4.
            found[f"open-{kind}"] = invoke(hostler, f"open-{kind}", ways)
        own_kind = {"socket of another container": ["unix", socket_of_other], "host": ["unix", str(run / "host.sock")]}
        found["open-script"] |= invoke(hostler, "open-script", own_kind)
        for name in (*(f"isolated-{kind}" for kind in images), "isolated-workers"):
            found[name] = invoke(hostler, name, ways | own_kind)
        if wrapped:  # a second call, after the first: the relay keeps connections
            found["again"] = [invoke(hostler, "isolated-command", {}) for _ in range(20)]
    return found


if __name__ == "__main__":
    print(json.dumps(main(Path(sys.argv[1]))))
