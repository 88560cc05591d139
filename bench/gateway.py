"""The cost of a hit: requests/s and CPU per request of the gateway, beside nginx as a reverse proxy.

`gateway` verifies no signatures; `signed` verifies every request's. `one` and `three` are endpoints of as many
containers in sequence behind `gateway`: they show the gateway's CPU for each further hop. Then 5 MB bodies, there and
back, and the memory that 30 of them at once add to the gateway. Last come the goals for the measured connections.
`bench/run.py --publish` includes the newest run's figures.

    python bench/gateway.py [--rounds 3] [--seconds 2] [--connections 1,16,64]

Needs wrk; without nginx the gateway is measured alone. All forward to the same container on a unix socket;
each is pinned to core 0, wrk and the container to core 1. Rounds interleave them, and ratios are taken within a
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

import arguments
import measurement
import report
import verdicts
from hostler import settings
from hostler.wire import gateway_messages
from hostler.wire.frames import Frames
from hostler.wire.http_request import Request
from hostler.wire.http_server import serve

LARGE = 5_000_000  # bytes
AT_ONCE = 30
LARGE_CONNECTIONS = 4
GOALS = {  # at 64 connections, to nginx: requests/s at least, CPU of a request at most
    "gateway": (0.55, 2.2),
    "signed": (0.45, 2.8),
}
GOALS_AT = 64  # connections
HOP, HOP_AT = 25, 16  # at most, percent of a single call's CPU; connections, or the nearest number chosen
RAISED = 40  # at most, MB
LARGE_RATE = 0.65  # at least, of nginx's
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
    """Run the upstream. It answers at once, so that the way to it is measured; a large body with itself."""
    import uvloop

    def handler(request: Request) -> None:
        request.answer(200, request.body if len(request.body) > LARGE // 2 else b"[0.123456789]")

    async def run() -> None:
        await serve(handler, path=path)
        await asyncio.Event().wait()

    uvloop.run(run())


async def control(run: Path, container: Path) -> asyncio.AbstractServer:
    """Serve control's side of the link: a multi-model endpoint with a resident target, and two pipelines."""
    address = f"unix:{container}"
    variant = gateway_messages.Variant(
        "AllTraffic",
        1.0,
        (gateway_messages.Container("primary", True),),
        (gateway_messages.Pool(1, 1.0, (gateway_messages.InstanceAddress("i1", (address,)),)),),
    )
    route = gateway_messages.Route("us-east-1/my-endpoint", (variant,))
    chains = [
        gateway_messages.Route(
            f"us-east-1/{name}",
            (
                gateway_messages.Variant(
                    "AllTraffic",
                    1.0,
                    (gateway_messages.Container("c", False),) * count,
                    (gateway_messages.Pool(1, 1.0, (gateway_messages.InstanceAddress("i1", (address,) * count),)),),
                ),
            ),
        )
        for name, count in (("one", 1), ("three", 3))
    ]
    resident = gateway_messages.SetResident(route.key, variant.name, 1, "Houston_TX.tar.gz", "i1", 1, address, "m")

    async def linked(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames: Frames[gateway_messages.Up] = Frames(reader, writer, gateway_messages.Up)
        frames.send(gateway_messages.Snapshot("e", 0, (route, *chains), (resident,)))
        with contextlib.suppress(asyncio.CancelledError):
            while await frames.receive() is not None:
                pass

    return await asyncio.start_unix_server(linked, str(run / "link.sock"))


def cpu(pid: int) -> float:
    """Return the CPU time of a process and its children, in seconds."""
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
        """Return the headers that boto3 sends. The signature is valid for five minutes."""
        target = {"X-Amzn-SageMaker-Target-Model": "Houston_TX.tar.gz"} if self.endpoint == "my-endpoint" else {}
        signed = AWSRequest("POST", self.url, {**SIGNED, **target}, body)
        SigV4Auth(Credentials(KEY, KEY), "sagemaker", "us-east-1").add_auth(signed)
        return {**UNSIGNED, **dict(signed.headers.items())}


def request(contender: Contender, size: int) -> str:
    """Return a call as a script for wrk. `size`: bytes of the body; 0: BODY."""
    body = "1" * size or BODY
    headers = contender.headers(body)
    lines = [f"wrk.headers[{json.dumps(name)}] = {json.dumps(value)}" for name, value in headers.items()]
    text = f'string.rep("1", {size})' if size else json.dumps(BODY)
    return "\n".join(['wrk.method = "POST"', f"wrk.body = {text}", *lines, ""])


def wrk(contender: Contender, connections: int, seconds: int, script: Path, size: int) -> tuple[int, float]:
    """Run wrk; return the number of answered requests and the median latency in ms."""
    url = contender.url
    script.write_text(request(contender, size))
    command = ["wrk", "-t1", f"-c{connections}", f"-d{seconds}s", "--latency", "-s", str(script), url]
    out = subprocess.run([*_pinned(1), *command], capture_output=True, text=True, check=True).stdout
    if "Non-2xx" in out or "Socket errors" in out:
        sys.exit(out)
    requests = next(int(line.split()[0]) for line in out.splitlines() if "requests in" in line)
    if not requests:
        sys.exit(f"no request was answered in {seconds} s: --seconds has to be more")
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
    lifeline, lifeline_of_gateways = os.pipe()
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
        await asyncio.to_thread(measure_all, options, run / "post.lua", contenders)
        for link in links:
            link.close()
    os.close(lifeline_of_gateways)
    os.close(lifeline)


Figures = dict[str, list[tuple[float, float, float]]]  # by contender, for each round: requests/s, median ms, CPU µs
RATE, COST = 0, 2


def measure_all(options: argparse.Namespace, script: Path, contenders: dict[str, Contender]) -> None:
    """Measure and print; write the figures for the documents."""
    tables: dict[str, measurement.Rows] = {}
    goals = [verdicts.HEAD]

    def measured(title: str, chosen: dict[str, Contender], connections: int, size: int = 0) -> Figures:
        title += f", {connections} connection{'s' * (connections > 1)}"
        figures = rounds(options, script, chosen, connections, size)
        tables[title] = rows(figures)
        print(report.aligned(title, tables[title]), flush=True)
        return figures

    for connections in options.connections:
        figures = measured("small bodies", contenders, connections)
        if connections == GOALS_AT and "nginx" in contenders:
            for name, (rate, cost) in GOALS.items():
                rates, costs = (ratio(figures, name, column) for column in (RATE, COST))
                ours = f"{name}, {connections} connections"
                goals.append(verdicts.row(f"{ours}: req/s, to nginx's", rates, rate, at_most=False))
                goals.append(verdicts.row(f"{ours}: CPU of a request, to nginx's", costs, cost, at_most=True))
    gateway = contenders["gateway"]
    chains = {name: Contender(gateway.port, gateway.pid, name) for name in ("one", "three")}
    figures = measured(
        "containers in sequence", chains, min(options.connections, key=lambda count: abs(count - HOP_AT))
    )
    hops = [(long[COST] - short[COST]) / 2 / short[COST] for short, long in zip(*figures.values(), strict=True)]
    hop = "each further hop of a pipeline: % of a single call's CPU"
    goals.append(verdicts.row(hop, 100 * statistics.median(hops), HOP, at_most=True))
    figures = measured("5 MB bodies", contenders, LARGE_CONNECTIONS, LARGE)
    if "nginx" in contenders:
        value = ratio(figures, "gateway", RATE)
        goals.append(verdicts.row("gateway, 5 MB bodies: req/s, to nginx's", value, LARGE_RATE, at_most=False))
    added = {name: added_memory(contenders[name]) for name in GOALS}
    bodies = f"{AT_ONCE} bodies of 5 MB at once"
    tables[bodies] = [["", "MB more"], *([name, f"{value:.0f}"] for name, value in added.items())]
    print(report.aligned(bodies, tables[bodies]))
    goals.append(verdicts.row(f"gateway, {bodies}: MB more", added["gateway"], RAISED, at_most=True))
    print(report.aligned("goals, as far as this run tells of them", goals))
    numbers = ",".join(map(str, options.connections))
    command = f"bench/gateway.py --rounds {options.rounds} --seconds {options.seconds} --connections {numbers}"
    result = measurement.Measurement("The gateway alone", command, options.about, goals, tables)
    print(f"\nwritten: {result.write('gateway', options.cache / 'results')}")


def rounds(
    options: argparse.Namespace, script: Path, contenders: dict[str, Contender], connections: int, size: int = 0
) -> Figures:
    """Measure the contenders in turn, round by round."""
    figures: Figures = {name: [] for name in contenders}
    for contender in contenders.values():
        wrk(contender, connections, 1, script, size)  # warm-up
    for _ in range(options.rounds):
        for name, contender in contenders.items():
            before, since = cpu(contender.pid), time.perf_counter()
            requests, median = wrk(contender, connections, options.seconds, script, size)
            took = time.perf_counter() - since
            figures[name].append((requests / took, median, (cpu(contender.pid) - before) / requests * 1e6))
    return figures


def rows(figures: Figures) -> measurement.Rows:
    """Return medians over the rounds as rows of text."""
    compared = "nginx" in figures
    rows = [["", "req/s", "p50 ms", "CPU µs", *["req/s / nginx", "CPU / nginx"] * compared]]
    for name, of_rounds in figures.items():
        rate, median, cost = (statistics.median(column) for column in zip(*of_rounds, strict=True))
        rows.append([name, f"{rate:,.0f}", f"{median:.2f}", f"{cost:,.1f}"])
        if compared:
            rows[-1] += [f"{ratio(figures, name, column):.2f}" for column in (RATE, COST)]
    return rows


def ratio(figures: Figures, name: str, column: int) -> float:
    """Return the ratio to nginx's figure: the median of the ratios within a round."""
    pairs = zip(figures[name], figures["nginx"], strict=True)
    return statistics.median(ours[column] / theirs[column] for ours, theirs in pairs)


def added_memory(contender: Contender) -> float:
    """Return the MB that AT_ONCE large bodies add to the process's peak memory."""
    Path(f"/proc/{contender.pid}/clear_refs").write_text("5")  # resets the peak
    before = memory(contender.pid, "VmRSS")
    asyncio.run(send_at_once(contender))
    return memory(contender.pid, "VmHWM") - before


async def send_at_once(contender: Contender) -> None:
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


def memory(pid: int, field: str) -> float:
    """Return a field of a process's status, in MB."""
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return int(next(line.split()[1] for line in lines if line.startswith(f"{field}:"))) / 1000


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--rounds", type=arguments.positive, default=3, help="of each number of connections")
    parser.add_argument("--seconds", type=arguments.positive, default=2, help="under load, each time")
    parser.add_argument(
        "--connections",
        type=arguments.positive_list,
        default="1,16,64",
        help=f"of small bodies; pipelines: the number nearest to {HOP_AT}; 5 MB bodies: always {LARGE_CONNECTIONS}",
    )
    parser.add_argument("--cache", type=Path, default=arguments.CACHE, help="folder for the figures, in `results`")
    parser.add_argument("--container", help=argparse.SUPPRESS)
    options = parser.parse_args()
    options.cache = options.cache.expanduser().absolute()
    if options.container:
        container(options.container)
    if not shutil.which("wrk"):
        sys.exit("wrk is needed to measure; it is in most systems' packages.")
    options.about = measurement.about()
    run = Path(tempfile.mkdtemp(prefix="hb", dir="/tmp"))
    try:
        asyncio.run(measure(options, run))
    finally:
        shutil.rmtree(run)


if __name__ == "__main__":
    main()
