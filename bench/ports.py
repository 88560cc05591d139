"""What a call costs one of our model servers, at its own port and at that of the model's process.

    python bench/ports.py [--seconds 5] [--rounds 3] [--connections 16]

One server with a script that does nothing, as in a pod: it listens on a port, and so does the script's process. Calls
come over TCP on kept connections, in turns through the server and to the process itself. The figures are the CPU time
of the server and all its processes for each call, in µs, and calls a second; the least of the rounds and the most.
"""

from __future__ import annotations

import asyncio
import json
import os
import sys
import tempfile
import time
from pathlib import Path
from typing import NamedTuple

import arguments
from hostler.host.ports import Ports, ports_environment
from hostler.wire.http_call import call
from hostler.wire.http_client import ConnectionPool
from hostler.wire.http_exchange import CallFailed
from processes import Tree

SCRIPT = """
def model_fn(model_dir): return None
def transform_fn(model, data, content_type, accept): return data, "text/csv"
"""


class Figures(NamedTuple):
    cpu: float  # µs a call
    rate: float  # calls a second


async def measure(tree: Tree, address: str, seconds: float, connections: int) -> Figures:
    """Call the script for so many seconds. Raises AssertionError on a wrong answer."""
    pool = ConnectionPool(connect_timeout=5.0)
    calls = 0
    headers = {"Content-Type": "text/csv"}

    async def repeat(until: float) -> None:
        nonlocal calls
        while time.monotonic() < until:
            reply = await call(
                address, "POST", "/models/m/invoke", headers=headers, body=b"0.1,0.2", timeout=10, pool=pool
            )
            assert (reply.status, reply.body) == (200, b"0.1,0.2"), reply
            calls += 1

    async def all_for(seconds: float) -> None:
        until = time.monotonic() + seconds
        await asyncio.gather(*(repeat(until) for _ in range(connections)))

    await all_for(seconds / 5)  # warm up
    calls, before, began = 0, tree.cpu(), time.monotonic()
    await all_for(seconds)
    took, used = time.monotonic() - began, tree.cpu() - before
    pool.close()
    return Figures(1e6 * used / calls, calls / took)


async def load(port: int) -> int:
    """Load the script. Returns its process's port."""
    body = b'{"model_name": "m", "url": "/opt/ml/models/m/model"}'
    until = time.monotonic() + 30
    while True:
        try:
            reply = await call(f"tcp:127.0.0.1:{port}", "POST", "/models", body=body, timeout=30)
        except CallFailed:
            assert time.monotonic() < until, "the server does not start"
            await asyncio.sleep(0.05)
            continue
        assert reply.status == 200, reply
        return int(json.loads(reply.body)["port"])


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--seconds", type=arguments.positive_float, default=5.0, help="of each measurement")
    parser.add_argument("--rounds", type=arguments.positive, default=3, help="of the two measurements")
    parser.add_argument("--connections", type=arguments.positive, default=16, help="at once")
    given = parser.parse_args()
    port = Ports().take()
    with tempfile.TemporaryDirectory(prefix="hop-") as name:
        code = Path(name, "models/m/model/code")
        code.mkdir(parents=True)
        (code / "inference.py").write_text(SCRIPT)
        environment = {
            **os.environ, "SAGEMAKER_BASE_DIR": name, "SAGEMAKER_MULTI_MODEL": "true", "HOSTLER_PORTS": "true",
            **ports_environment(port),
        }  # fmt: skip
        tree = Tree([sys.executable, "-m", "hostler.servers", "serve"], environment, Path(name), Path(name, "log"))
        try:
            places = {"through the server": port, "to the process": asyncio.run(load(port))}
            found: dict[str, list[Figures]] = {place: [] for place in places}
            for _ in range(given.rounds):
                for place, number in places.items():
                    address = f"tcp:127.0.0.1:{number}"
                    found[place].append(asyncio.run(measure(tree, address, given.seconds, given.connections)))
        finally:
            tree.end()
    for place, figures in found.items():
        cpu, rate = min(each.cpu for each in figures), max(each.rate for each in figures)
        print(f"{place:20} {cpu:7.0f} µs of CPU a call {rate:9.0f} calls a second")


if __name__ == "__main__":
    main()
