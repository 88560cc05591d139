"""How much a hit costs: requests/s and CPU per request of the gateway, next to nginx as a reverse proxy.

`gateway` asks nobody who they are; `signed` verifies every request's signature.

    python bench/gateway.py [--rounds 3] [--seconds 2] [--connections 1,16,64]

Needs wrk; without nginx the gateway is measured alone. All forward to the same container on a unix socket;
each is pinned to core 0, wrk and the container to core 1. Rounds interleave them, and ratios are taken inside a
round, because machines are noisy: read the ratios.
"""

from __future__ import annotations

import argparse
import asyncio
import contextlib
import json
import os
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from hostler import settings
from hostler.wire import link
from hostler.wire.frames import Frames
from hostler.wire.server import Request, serve

PATH = "/endpoints/my-endpoint/invocations"
BODY = "0.12345," * 12 + "1.00"
SIGNED = {"Content-Type": "text/csv", "Accept": "*/*", "X-Amzn-SageMaker-Target-Model": "Houston_TX.tar.gz"}
UNSIGNED = {
    "User-Agent": "Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux md/arch#x86_64 lang/python#3.11.7",
    "amz-sdk-invocation-id": "0b7a9f4e-6a52-4f0c-8f0e-0a4c58b7e0b5",
    "amz-sdk-request": "attempt=1",
}
KEY = "AKIDEXAMPLE"

NGINX = """
{user} daemon off; worker_processes 1; pid {run}/nginx.pid; error_log {run}/nginx.log warn;
events {{ worker_connections 4096; }}
http {{
  access_log off; client_body_temp_path {run}/body; proxy_temp_path {run}/proxy;
  fastcgi_temp_path {run}/f; uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;
  keepalive_requests 1000000000;
  upstream container {{ server unix:{run}/i1; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://container/models/m/invoke; proxy_http_version 1.1; proxy_set_header Connection "";
    }}
  }}
}}
"""


def container(path: str) -> None:
    """The upstream: answers at once, so that what is measured is the way to it."""
    import uvloop

    def handler(request: Request) -> None:
        request.answer(200, b"[0.123456789]")

    async def run() -> None:
        await serve(handler, path=path)
        await asyncio.Event().wait()

    uvloop.run(run())


async def control(run: Path, container: Path) -> asyncio.AbstractServer:
    """Control's end of the link: one multi-model endpoint with one resident target."""
    address = f"unix:{container}"
    variant = link.Variant("AllTraffic", 1.0, (link.Container("primary", True),), (link.Place("i1", (address,)),))
    route = link.Route("us-east-1/my-endpoint", (variant,))
    resident = link.SetResident(route.key, variant.name, "Houston_TX.tar.gz", "i1", 1, address, "m")

    async def linked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames: Frames[link.Up] = Frames(reader, writer, link.Up)
        frames.send(link.Snapshot("e", 0, (route,), (resident,)))
        with contextlib.suppress(asyncio.CancelledError):
            while await frames.receive() is not None:
                pass

    return await asyncio.start_unix_server(linked, str(run / "link.sock"))


def cpu(pid: int) -> float:
    """Seconds of CPU that a process and its children have used."""
    total = 0
    for task in Path("/proc").glob(f"{pid}/task/*"):
        total += int((task / "schedstat").read_text().split()[0])
        for child in (task / "children").read_text().split():
            total += int(cpu(int(child)) * 1e9)
    return total / 1e9


def request(url: str) -> str:
    """A call as boto3 makes it, as a script for wrk. Its signature is good for five minutes."""
    signed = AWSRequest("POST", url, SIGNED, BODY)
    SigV4Auth(Credentials(KEY, KEY), "sagemaker", "us-east-1").add_auth(signed)
    headers = {**UNSIGNED, **dict(signed.headers.items())}
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    return "\n".join(['wrk.method = "POST"', f"wrk.body = {json.dumps(BODY)}", *lines, ""])


def wrk(port: int, connections: int, seconds: int, script: Path) -> tuple[int, float]:
    """Requests answered, and the median latency in ms."""
    url = f"http://127.0.0.1:{port}{PATH}"
    script.write_text(request(url))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    out = subprocess.run([*_pinned(1), *command], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(out)
    requests = next(int(line.split()[0]) for line in out.splitlines() if "requests in" in line)
    median = next(line.split()[1] for line in out.splitlines() if line.split()[:1] == ["50%"])
    unit = {"us": 1e-3, "ms": 1.0, "s": 1e3}
    number = median.rstrip("mus")
    return requests, float(number) * unit[median[len(number) :]]


def _pinned(core: int) -> list[str]:
    return ["taskset", "-c", str(core)] if shutil.which("taskset") and (os.cpu_count() or 1) > 1 else []


@contextlib.contextmanager
def started(*command: str, fds: tuple[int, ...] = (), core: int) -> Iterator[int]:
    process = subprocess.Popen([*_pinned(core), *command], pass_fds=fds)
    try:
        yield process.pid
    finally:
        process.terminate()
        process.wait()


def free_port() -> int:
    with socket.create_server(("127.0.0.1", 0)) as sock:
        return int(sock.getsockname()[1])


async def measure(options: argparse.Namespace, run: Path) -> None:
    keys = run / "keys.toml"
    keys.write_text(f'{KEY} = "{KEY}"\n')
    keys.chmod(0o600)
    gateways = {
        "gateway": settings.Settings(data=run),
        "signed": settings.Settings(data=run / "signed", signatures="verify", keys_file=str(keys)),
    }
    lifeline, held = os.pipe()
    ports, pids, links = {}, {}, []
    with contextlib.ExitStack() as stack:
        stack.enter_context(started(sys.executable, __file__, "--container", str(run / "i1"), core=1))
        for name, config in gateways.items():
            folder = run / name
            folder.mkdir()
            (folder / "settings.json").write_text(json.dumps(settings.dump(config)))
            links.append(await control(folder, run / "i1"))
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
            ports[name] = listening.getsockname()[1]
            fds = (lifeline, listening.fileno())
            module = (sys.executable, "-m", "hostler.gateway.main", "--run", str(folder), "--name", name)
            command = (*module, "--lifeline", str(lifeline), "--listen", str(listening.fileno()))
            pids[name] = stack.enter_context(started(*command, fds=fds, core=0))
        if shutil.which("nginx"):
            ports["nginx"] = free_port()
            user = "user root;" if os.getuid() == 0 else ""
            (run / "nginx.conf").write_text(NGINX.format(user=user, run=run, port=ports["nginx"]))
            pids["nginx"] = stack.enter_context(
                started("nginx", "-e", f"{run}/nginx.log", "-c", f"{run}/nginx.conf", core=0)
            )
        await asyncio.sleep(1.5)
        await asyncio.to_thread(rounds, options, run / "post.lua", ports, pids)
        for linked in links:
            linked.close()
    os.close(held)
    os.close(lifeline)


def rounds(options: argparse.Namespace, script: Path, ports: dict[str, int], pids: dict[str, int]) -> None:
    print(f"{'':14}{'req/s':>9}{'p50 ms':>9}{'CPU us':>9}{'req/s / nginx':>15}{'CPU / nginx':>13}")
    for connections in map(int, options.connections.split(",")):
        figures: dict[str, list[tuple[float, float, float]]] = {name: [] for name in ports}
        for port in ports.values():
            wrk(port, connections, 1, script)  # warm-up
        for _ in range(options.rounds):
            for name, port in ports.items():
                before, since = cpu(pids[name]), time.perf_counter()
                requests, median = wrk(port, connections, options.seconds, script)
                took = time.perf_counter() - since
                figures[name].append((requests / took, median, (cpu(pids[name]) - before) / requests * 1e6))
        for name, rows in figures.items():
            rate, median, cost = (statistics.median(column) for column in zip(*rows, strict=True))
            line = f"{name:8} c={connections:<4}{rate:>9.0f}{median:>9.2f}{cost:>9.1f}"
            if "nginx" in figures:
                pairs = list(zip(rows, figures["nginx"], strict=True))
                line += f"{statistics.median(ours[0] / theirs[0] for ours, theirs in pairs):>15.2f}"
                line += f"{statistics.median(ours[2] / theirs[2] for ours, theirs in pairs):>13.2f}"
            print(line, flush=True)


def main() -> None:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0] if __doc__ else None)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--seconds", type=int, default=2)
    parser.add_argument("--connections", default="1,16,64")
    parser.add_argument("--container", help=argparse.SUPPRESS)
    options = parser.parse_args()
    if options.container:
        container(options.container)
    if not shutil.which("wrk"):
        sys.exit("wrk is needed to measure; it is in most systems' packages.")
    run = Path(tempfile.mkdtemp(prefix="hb", dir="/tmp"))
    try:
        asyncio.run(measure(options, run))
    finally:
        shutil.rmtree(run)


if __name__ == "__main__":
    main()
