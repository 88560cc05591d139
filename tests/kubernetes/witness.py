"""A model whose work is seen: how often it did that of each call, whoever gave the answer.

Each call has a body of its own. The model's script says it in a datagram to the test, before it answers; so a call that
was made twice, on whatever instance, is known.
"""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import socket
import subprocess
import sys
import threading
from collections import Counter
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

import callers
import msgspec
import signed_callers
import targets
from cluster_cell import Cell, Outcomes
from signed_callers import Calls

XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
BUCKET = "models"
CALLERS = 4
WARM = [f"warm{number}" for number in range(6)]  # targets that are resident
SCRIPT = """
import os, socket

witness = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
host, port = os.environ["WITNESS"].split()

def model_fn(folder):
    with open(folder + "/name") as file:
        return file.read()

def transform_fn(name, body, content_type, accept):
    body = body.decode() if isinstance(body, bytes) else body
    witness.sendto(body.encode(), (host, int(port)))
    return name + ":" + body, "text/csv"
"""


class Callers(Outcomes):
    """Callers of these targets, in a process of their own: those of boto3 are slower than the servers."""

    def __init__(self, calls: Calls) -> None:
        super().__init__()
        self._calls = calls
        self._reader = threading.Thread(target=self._read)

    def __enter__(self) -> Callers:
        words = [sys.executable, signed_callers.__file__]
        environment = {**os.environ, "PYTHONPATH": str(Path(callers.__file__).parent)}
        self._process = subprocess.Popen(words, env=environment, stdin=subprocess.PIPE, stdout=subprocess.PIPE)
        self._reader.start()
        assert self._process.stdin
        self._process.stdin.write(msgspec.json.encode(self._calls) + b"\n")
        self._process.stdin.flush()
        return self

    def __exit__(self, *exc: object) -> None:
        assert self._process.stdin
        self._process.stdin.close()
        self._reader.join()
        with self._process:
            assert self._process.wait() == 0 or exc[0]

    def _read(self) -> None:
        assert self._process.stdout
        for line in self._process.stdout:
            self.outcomes = Counter(json.loads(line))


class Endpoint:
    """A multi-model endpoint of such models. `seen`: how often the work of each body was done."""

    def __init__(self, hostler: Cell, name: str, sock: socket.socket, count: int) -> None:
        self.name, self.count = name, count
        self.seen: Counter[bytes] = Counter()
        self._hostler, self._sock = hostler, sock
        self._numbers = itertools.count()

    @property
    def twice(self) -> list[bytes]:
        return [body for body, times in self.seen.items() if times > 1]

    @property
    def definition(self) -> dict[str, Any]:
        """The container's."""
        host, port = self._sock.getsockname()
        data = f"s3://{BUCKET}/{self.name}/"
        witness = {"WITNESS": f"{host} {port}"}
        return {"Image": XGBOOST, "ModelDataUrl": data, "Mode": "MultiModel", "Environment": witness}

    def put(self, target: str, script: str = SCRIPT, **more: bytes) -> None:
        """Upload a model that answers with its name and the call's body. `more`: files beside its own."""
        files = {"code/inference.py": script.encode(), "name": target.encode(), **more}
        self._hostler.s3.put_object(Bucket=BUCKET, Key=f"{self.name}/{target}.tar.gz", Body=targets.archive(files))

    def request(self, target: str) -> tuple[dict[str, Any], bytes]:
        """Return a call with a body of its own, and its right answer."""
        body = str(next(self._numbers))
        call = {"EndpointName": self.name, "TargetModel": f"{target}.tar.gz", "ContentType": "text/csv", "Body": body}
        return call, f"{target}:{body}".encode()

    def load(self, targets: Sequence[str], pause: float = 0) -> Callers:
        """Return callers that begin when they are entered. `pause`: seconds after each call."""
        key, secret = (self._hostler.variables[f"AWS_{each}"] for each in ("ACCESS_KEY_ID", "SECRET_ACCESS_KEY"))
        place = (self._hostler.url, key, secret, self._hostler.variables["AWS_REGION"], self.name)
        return Callers(Calls(*place, [*targets], CALLERS, f"{next(self._numbers)}", pause))

    def invoke(self, target: str) -> bool:
        """Return whether the answer to one call is right. Raises ClientError."""
        call, expected = self.request(target)
        return bool(self._hostler.runtime.invoke_endpoint(**call)["Body"].read() == expected)

    def update(self, name: str) -> None:
        """Begin an update to new instances, by an endpoint configuration of that name."""
        self._hostler.configure(name, [self.definition], count=self.count)
        self._hostler.sm.update_endpoint(EndpointName=self.name, EndpointConfigName=name)

    def listen(self) -> None:
        with contextlib.suppress(OSError):
            while body := self._sock.recv(1000):
                self.seen[body] += 1


@contextlib.contextmanager
def endpoint(hostler: Cell, name: str, targets: Sequence[str], host: str, count: int = 2) -> Iterator[Endpoint]:
    """Create an endpoint with these targets. `host`: this machine's address, as pods reach it."""
    with socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as sock:
        sock.bind((host, 0))
        made = Endpoint(hostler, name, sock, count)
        listener = threading.Thread(target=made.listen)
        listener.start()
        try:
            for target in targets:
                made.put(target)
            hostler.deploy(name, [made.definition], count=count)
            hostler.wait_in_service(name)
            yield made
        finally:
            with contextlib.suppress(OSError):
                sock.sendto(b"", sock.getsockname())
            listener.join()


@contextlib.contextmanager
def under_load(hostler: Cell, many: Endpoint, calls: int) -> Iterator[Outcomes]:
    """Call resident targets before, during and after what is in this context."""
    for target in WARM * 3:  # on both
        assert many.invoke(target)
    with many.load(WARM, pause=0 if calls >= 1000 else 0.01) as load:  # a few calls are to leave the machine to others
        load.more(calls)
        yield load
        load.more(calls)
    print(f"{sum(load.outcomes.values())} calls: {dict(load.outcomes)}, {len(many.twice)} made twice")
    assert not many.twice
    assert not [outcome for outcome in load.outcomes if outcome.startswith("wrong")], load.outcomes


def lost(load: Outcomes) -> int:
    return sum(load.outcomes.values()) - load.right


def ready(hostler: Cell, namespace: str = "") -> dict[str, str]:
    """Return the pods that are ready and stay, each with its node."""
    return {
        pod["metadata"]["name"]: pod["spec"]["nodeName"]
        for pod in hostler.pods(namespace)
        if "deletionTimestamp" not in pod["metadata"]
        and any(each["type"] == "Ready" and each["status"] == "True" for each in pod["status"].get("conditions", ()))
    }


def identities(hostler: Cell) -> set[str]:
    return {pod["metadata"]["uid"] for pod in hostler.pods()}
