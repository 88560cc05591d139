"""How much a hit costs: requests/s and CPU per request of the gateway, next to nginx as a reverse proxy.

`gateway` asks nobody who they are; `signed` verifies every request's signature. `one` and `three` are endpoints of as
many containers in sequence behind `gateway`: what each further hop adds to the gateway's CPU is said below them. Then
5 MB bodies, there and back, and by how much 30 of them at once raise the gateway's memory.

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
from dataclasses import dataclass
from pathlib import Path

from botocore.auth import SigV4Auth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials

from hostler import settings
from hostler.wire import link
from hostler.wire.frames import Frames
from hostler.wire.server import Request, serve

LARGE = 5_000_000  # bytes
AT_ONCE = 30
BODY = "0.12345," * 12 + "1.00"
SIGNED = {"Content-Type": "text/csv", "Accept": "*/*"}
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
  access_log off; client_max_body_size 6m; client_body_buffer_size 128k;
  client_body_temp_path {run}/body; proxy_temp_path {run}/proxy;
  fastcgi_temp_path {run}/f; uwsgi_temp_path {run}/u; scgi_temp_path {run}/s;
  keepalive_requests 1000000000;
  upstream container {{ server unix:{run}/i1; keepalive 256; keepalive_requests 1000000000; }}
  server {{
    listen 127.0.0.1:{port} backlog=4096;
    location / {{
      proxy_pass http://container/models/m/invoke; proxy_http_version 1.1; proxy_set_header Connection "";
      proxy_request_buffering off; proxy_buffers 32 32k; proxy_max_temp_file_size 0;
    }}
  }}
}}
"""


def container(path: str) -> None:
    """The upstream: answers at once, so that what is measured is the way to it; a large body with itself."""
    import uvloop

    def handler(request: Request) -> None:
        request.answer(200, request.body if len(request.body) > LARGE // 2 else b"[0.123456789]")

    async def run() -> None:
        await serve(handler, path=path)
        await asyncio.Event().wait()

    uvloop.run(run())


async def control(run: Path, container: Path) -> asyncio.AbstractServer:
    """Control's end of the link: a multi-model endpoint with one resident target, and two of containers in sequence."""
    address = f"unix:{container}"
    variant = link.Variant("AllTraffic", 1.0, (link.Container("primary", True),), (link.Place("i1", (address,)),))
    route = link.Route("us-east-1/my-endpoint", (variant,))
    chains = [
        link.Route(
            f"us-east-1/{name}",
            (
                link.Variant(
                    "AllTraffic", 1.0, (link.Container("c", False),) * count, (link.Place("i1", (address,) * count),)
                ),
            ),
        )
        for name, count in (("one", 1), ("three", 3))
    ]
    resident = link.SetResident(route.key, variant.name, "Houston_TX.tar.gz", "i1", 1, address, "m")

    async def linked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames: Frames[link.Up] = Frames(reader, writer, link.Up)
        frames.send(link.Snapshot("e", 0, (route, *chains), (resident,)))
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


@dataclass(frozen=True)
class Contender:
    port: int
    pid: int
    endpoint: str = "my-endpoint"

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.port}/endpoints/{self.endpoint}/invocations"

    def headers(self, body: str) -> dict[str, str]:
        """As boto3 sends them. The signature is good for five minutes."""
        target = {"X-Amzn-SageMaker-Target-Model": "Houston_TX.tar.gz"} if self.endpoint == "my-endpoint" else {}
        signed = AWSRequest("POST", self.url, {**SIGNED, **target}, body)
        SigV4Auth(Credentials(KEY, KEY), "sagemaker", "us-east-1").add_auth(signed)
        return {**UNSIGNED, **dict(signed.headers.items())}


def request(contender: Contender, size: int) -> str:
    """A call as a script for wrk. With `size`, in bytes, the body is that long."""
    body = "1" * size or BODY
    headers = contender.headers(body)
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    text = f'string.rep("1", {size})' if size else json.dumps(BODY)
    return "\n".join(['wrk.method = "POST"', f"wrk.body = {text}", *lines, ""])


def wrk(contender: Contender, connections: int, seconds: int, script: Path, size: int) -> tuple[int, float]:
    """Requests answered, and the median latency in ms."""
    url = contender.url
    script.write_text(request(contender, size))
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
    contenders, links = {}, []
    with contextlib.ExitStack() as stack:
        stack.enter_context(started(sys.executable, __file__, "--container", str(run / "i1"), core=1))
        for name, config in gateways.items():
            folder = run / name
            folder.mkdir()
            (folder / "settings.json").write_text(json.dumps(settings.dump(config)))
            links.append(await control(folder, run / "i1"))
            listening = stack.enter_context(socket.create_server(("127.0.0.1", 0), backlog=4096))
            port = listening.getsockname()[1]
            fds = (lifeline, listening.fileno())
            module = (sys.executable, "-m", "hostler.gateway.main", "--run", str(folder), "--name", name)
            command = (*module, "--lifeline", str(lifeline), "--listen", str(listening.fileno()))
            contenders[name] = Contender(port, stack.enter_context(started(*command, fds=fds, core=0)))
        if shutil.which("nginx"):
            port = free_port()
            user = "user root;" if os.getuid() == 0 else ""
            (run / "nginx.conf").write_text(NGINX.format(user=user, run=run, port=port))
            pid = stack.enter_context(started("nginx", "-e", f"{run}/nginx.log", "-c", f"{run}/nginx.conf", core=0))
            contenders["nginx"] = Contender(port, pid)
        await asyncio.sleep(1.5)
        await asyncio.to_thread(report, options, run / "post.lua", contenders)
        for linked in links:
            linked.close()
    os.close(held)
    os.close(lifeline)


def report(options: argparse.Namespace, script: Path, contenders: dict[str, Contender]) -> None:
    gateway = contenders["gateway"]
    for connections in map(int, options.connections.split(",")):
        rounds(options, script, contenders, connections)
    chains = {name: Contender(gateway.port, gateway.pid, name) for name in ("one", "three")}
    one, three = rounds(options, script, chains, 16)
    hops = [(long[2] - short[2]) / 2 / short[2] for short, long in zip(one, three, strict=True)]
    print(f"each further hop of a pipeline: {statistics.median(hops):+.0%} of the gateway's CPU")
    rounds(options, script, contenders, 4, LARGE)
    for name in ("gateway", "signed"):
        print(f"{AT_ONCE} bodies of 5 MB at once, {name}: {raised(contenders[name]):+.0f} MB")


Figures = list[tuple[float, float, float]]  # for each round: requests/s, median ms, CPU us


def rounds(
    options: argparse.Namespace, script: Path, contenders: dict[str, Contender], connections: int, size: int = 0
) -> list[Figures]:
    """Measure the contenders in turn, and print what came out; in their order."""
    print(
        f"\n{'5 MB' if size else '':14}{'req/s':>9}{'p50 ms':>9}{'CPU us':>9}{'req/s / nginx':>15}{'CPU / nginx':>13}"
    )
    figures: dict[str, Figures] = {name: [] for name in contenders}
    for one in contenders.values():
        wrk(one, connections, 1, script, size)  # warm-up
    for _ in range(options.rounds):
        for name, one in contenders.items():
            before, since = cpu(one.pid), time.perf_counter()
            requests, median = wrk(one, connections, options.seconds, script, size)
            took = time.perf_counter() - since
            figures[name].append((requests / took, median, (cpu(one.pid) - before) / requests * 1e6))
    for name, rows in figures.items():
        rate, median, cost = (statistics.median(column) for column in zip(*rows, strict=True))
        line = f"{name:8} c={connections:<4}{rate:>9.0f}{median:>9.2f}{cost:>9.1f}"
        if "nginx" in figures:
            pairs = list(zip(rows, figures["nginx"], strict=True))
            line += f"{statistics.median(ours[0] / theirs[0] for ours, theirs in pairs):>15.2f}"
            line += f"{statistics.median(ours[2] / theirs[2] for ours, theirs in pairs):>13.2f}"
        print(line, flush=True)
    return [*figures.values()]


def raised(contender: Contender) -> float:
    """MB by which large bodies, all at once, raise the most that the process has in memory."""
    Path(f"/proc/{contender.pid}/clear_refs").write_text("5")  # the peak begins anew
    before = memory(contender.pid, "VmRSS")
    asyncio.run(at_once(contender))
    return memory(contender.pid, "VmHWM") - before


async def at_once(contender: Contender) -> None:
    body = "1" * LARGE
    head = "".join(f"{name}: {value}\r\n" for name, value in contender.headers(body).items())
    path = f"/endpoints/{contender.endpoint}/invocations"
    host = f"Host: 127.0.0.1:{contender.port}\r\nContent-Length: {LARGE}\r\nConnection: close\r\n"
    text = f"POST {path} HTTP/1.1\r\n{host}{head}\r\n{body}".encode()

    async def call() -> None:
        reader, writer = await asyncio.open_connection("127.0.0.1", contender.port)
        writer.write(text)
        answer = await reader.read()
        assert answer.startswith(b"HTTP/1.1 200 "), answer[:1000]
        assert answer.endswith(b"\r\n\r\n" + body.encode())
        writer.close()

    await asyncio.gather(*(call() for _ in range(AT_ONCE)))


def memory(pid: int, which: str) -> float:
    """MB, as the system counts them."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{which}:"))) / 1000


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
