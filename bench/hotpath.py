"""The cost of a hit in the gateway in Python alone: no sockets, no kernel, no other process.

    python bench/hotpath.py [--rounds 300]    microseconds of CPU for each request
    python bench/hotpath.py --bytecodes       number of bytecodes that each function of the hot path runs

The least of many rounds is the least disturbed one; compare two trees by running them in turn. The number of bytecodes
is the same on every machine, so it shows small differences that times do not.
"""

from __future__ import annotations

import argparse
import gc
import hashlib
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from random import Random
from types import FrameType
from typing import Any

import httptools
import uvloop

import arguments
from hostler.gateway import errors
from hostler.gateway.main import Gateway
from hostler.settings import Settings
from hostler.wire import gateway_messages, http_client, http_request, http_server
from hostler.wire.http_reader import ConnectionLimits

TARGETS = 10
REQUESTS = 64  # different requests, because callers do not repeat theirs
BODY = b"0.12345," * 12 + b"1.00"
ANSWER = b"HTTP/1.1 200 OK\r\nContent-Type: application/json\r\nContent-Length: 13\r\n\r\n[0.123456789]"


def request(number: int) -> bytes:
    """Return the bytes of a call as boto3 sends it."""
    token = hashlib.sha256(b"%d" % number).hexdigest()
    credential = "AKIDEXAMPLE/20261122/us-east-1/sagemaker/aws4_request"
    signed = "content-type;host;x-amz-date;x-amzn-sagemaker-target-model"
    lines = [
        "POST /endpoints/my-endpoint/invocations HTTP/1.1",
        "Host: 127.0.0.1:8080",
        f"X-Amz-Date: 20261122T0607{number % 60:02d}Z",
        "User-Agent: Boto3/1.44.5 md/Botocore#1.44.5 ua/2.1 os/linux md/arch#x86_64 lang/python#3.11.7",
        "Content-Type: text/csv",
        "Accept: */*",
        f"X-Amzn-SageMaker-Target-Model: t{number % TARGETS}.tar.gz",
        f"amz-sdk-invocation-id: {token[:8]}-{token[8:12]}-{token[12:16]}-{token[16:20]}-{token[20:32]}",
        "amz-sdk-request: attempt=1",
        f"Authorization: AWS4-HMAC-SHA256 Credential={credential}, SignedHeaders={signed}, Signature={token}",
        f"Content-Length: {len(BODY)}",
    ]
    return "\r\n".join([*lines, "", ""]).encode() + BODY


class NullTransport:
    """A transport that accepts all data and sends none."""

    def write(self, data: bytes) -> None:
        self.written = data

    def get_extra_info(self, name: str) -> None:
        return None

    def is_closing(self) -> bool:
        return False


class NullCallbacks:
    """The callbacks of a parser; they do nothing."""

    def on_url(self, url: bytes) -> None: ...
    def on_header(self, name: bytes, value: bytes) -> None: ...
    def on_headers_complete(self) -> None: ...
    def on_body(self, part: bytes) -> None: ...
    def on_message_complete(self) -> None: ...


class HotPath:
    """A hit's path through the real parts of a gateway, with one connection on each side."""

    def __init__(self, folder: Path) -> None:
        self.requests = [request(number) for number in range(REQUESTS)]
        self.gateway = gateway = Gateway(folder, "g", Settings(data=folder), Random(1))
        variant = gateway_messages.Variant(
            "v",
            1.0,
            (gateway_messages.Container("primary", True),),
            (gateway_messages.Pool(1, 1.0, (gateway_messages.InstanceAddress("i1", ("unix:/c",)),)),),
        )
        route = gateway_messages.Route("us-east-1/my-endpoint", (variant,))
        residents = [
            gateway_messages.SetResident(route.key, "v", 1, f"t{number}.tar.gz", "i1", 1, "unix:/c", f"m{number}")
            for number in range(TARGETS)
        ]
        gateway.context.routes.snapshot(gateway_messages.Snapshot("e", 0, (route,), tuple(residents)))
        self.caller = self._connection(gateway.handle, ConnectionLimits(body=None, buffer=http_client.BUFFER))
        self.direct = self._connection(lambda request: request.answer(200, b"[0.123456789]"), ConnectionLimits())
        self.container = http_client._Connection(gateway.context.connections, "unix:/c")
        self.container.connection_made(NullTransport())  # type: ignore[arg-type]
        gateway.context.connections.keep(self.container)
        self.parsers = httptools.HttpRequestParser(NullCallbacks()), httptools.HttpResponseParser(NullCallbacks())

    def _connection(
        self, handler: Callable[[http_request.Request], None], limits: ConnectionLimits
    ) -> http_server._Connection:
        connection = http_server._Connection(http_server.Server(handler, limits, errors.of_any_api))
        connection.connection_made(NullTransport())  # type: ignore[arg-type]
        return connection

    def parse(self, raw: bytes) -> None:
        self.parsers[0].feed_data(raw)
        self.parsers[1].feed_data(ANSWER)

    def serve(self, raw: bytes) -> None:
        self.direct.data_received(raw)

    def hit(self, raw: bytes) -> None:
        self.caller.data_received(raw)
        self.container.data_received(ANSWER)

    def flush(self) -> None:
        """Count the outcomes so far, and make their lines and rows: their share of a hit's cost."""
        self.gateway.outcomes.flush()

    def discard_pending(self) -> None:
        """Discard hits and what is to be written, because the loop does not run here."""
        self.gateway.link._take_hits()
        recorder = self.gateway.recorder
        recorder._encoded.clear()
        recorder._sheets.clear()
        recorder._waiting = 0
        assert self.gateway.context.in_flight == 0


def times(path: HotPath, rounds: int) -> None:
    steps = {"parsers alone": path.parse, "server alone": path.serve, "gateway, a hit": path.hit}
    least = dict.fromkeys(steps, float("inf"))
    gc.collect()
    gc.freeze()
    for _ in range(rounds):
        for name, step in steps.items():
            since = time.process_time()
            for raw in path.requests:
                step(raw)
            path.flush()
            least[name] = min(least[name], (time.process_time() - since) / REQUESTS * 1e6)
        path.discard_pending()
    for name, cost in least.items():
        print(f"{name:16}{cost:8.1f} us")


def bytecodes(path: HotPath) -> None:
    counted: Counter[str] = Counter()

    def traced(frame: FrameType, event: str, _: Any) -> Any:
        if event == "call":
            frame.f_trace_opcodes, frame.f_trace_lines = True, False
        elif event == "opcode":
            counted[frame.f_code.co_qualname] += 1
        return traced

    path.hit(path.requests[0])
    sys.settrace(traced)
    path.hit(path.requests[1])
    sys.settrace(None)
    for name, count in counted.most_common():
        print(f"{count:6}  {name}")
    print(f"{counted.total():6}  in all")


async def measure(options: argparse.Namespace) -> None:
    with tempfile.TemporaryDirectory() as folder:
        path = HotPath(Path(folder))
        for raw in path.requests:
            path.hit(raw)
        if options.bytecodes:
            bytecodes(path)
        else:
            times(path, options.rounds)
        path.discard_pending()


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--rounds", type=arguments.positive, default=300, help="the least time counts")
    parser.add_argument("--bytecodes", action="store_true", help="count them, instead of timing")
    uvloop.run(measure(parser.parse_args()))


if __name__ == "__main__":
    main()
