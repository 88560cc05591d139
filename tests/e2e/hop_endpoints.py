"""Images with their models inside, mapped under [images] to the small real servers of `tests/containers`."""

from __future__ import annotations

import json
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from callers import Answer, Caller
from running import REPOSITORY, ROLE, Hostler

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
STREAMS = f"{REGISTRY}/streams:1"


def image(hop: str) -> str:
    """The image whose container is `tests/containers/hop.py` under this name."""
    return f"{REGISTRY}/{hop}:mytag"


def mapped(folder: Path, *hops: str) -> Path:
    """A hostler.toml that maps the images of these names, and STREAMS."""
    servers = REPOSITORY / "tests" / "containers"
    commands = {f"{REGISTRY}/{name}": [sys.executable, f"{servers}/hop.py", name] for name in hops}
    commands[STREAMS] = [sys.executable, f"{servers}/streams.py"]
    config = folder / "mapped.toml"
    config.write_text("[images]\n" + "".join(f'"{name}" = {json.dumps(words)}\n' for name, words in commands.items()))
    return config


def hops(*names: str) -> list[dict[str, Any]]:
    """Definitions of containers whose hostnames are the names of their images."""
    return [{"Image": image(name), "ContainerHostname": name} for name in names]


def variant(model: str, name: str = "AllTraffic", count: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "VariantName": name, "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": count, **more,
    }  # fmt: skip


def model(hostler: Hostler, name: str, containers: Sequence[dict[str, Any]], mode: str = "Serial") -> None:
    how = {"InferenceExecutionConfig": {"Mode": mode}} if len(containers) > 1 or mode == "Direct" else {}
    hostler.sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=containers, **how)


def endpoint(hostler: Hostler, name: str, *variants: dict[str, Any], wait: float = 60) -> None:
    """An endpoint of these variants; returns when it is InService."""
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    hostler.wait_in_service(name, wait)


def deploy(
    hostler: Hostler, name: str, containers: Sequence[dict[str, Any]], mode: str = "Serial", *, count: int = 1
) -> None:
    """A model of these containers, behind an endpoint of the same name."""
    model(hostler, name, containers, mode)
    endpoint(hostler, name, variant(name, count=count))


async def ask(caller: Caller, endpoint: str, body: bytes, **headers: str) -> Answer:
    """One InvokeEndpoint."""
    return await caller.call("POST", f"/endpoints/{endpoint}/invocations", {"Content-Type": "text/csv"} | headers, body)


def way(body: bytes) -> tuple[bytes, list[dict[str, Any]]]:
    """What was sent (one line), and what each hop on its way saw of it."""
    sent, *seen = body.split(b"\n")
    return sent, [json.loads(line) for line in seen]


def names(body: bytes) -> list[str]:
    return [hop["name"] for hop in way(body)[1]]


def wish(**hops: dict[str, Any]) -> bytes:
    """A body that tells hops what to do with it (see `tests/containers/hop.py`)."""
    return json.dumps(hops).encode()


def said(hostler: Hostler, words: str) -> bool:
    """Whether some container's log has a line of these words."""
    logs = hostler.data.rglob("logs/**/*")
    return any(words in log.read_text().splitlines() for log in logs if log.is_file())


def processes(hostler: Hostler, hop: str) -> list[psutil.Process]:
    """The processes of the hops of this name."""
    return [one for one in hostler.named("hop.py") if (words := one.cmdline())[0] == sys.executable and hop in words]
