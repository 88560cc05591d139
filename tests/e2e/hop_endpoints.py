"""Endpoints of hops: images mapped under [images] to the small real servers of `tests/containers`."""

from __future__ import annotations

import asyncio
import json
import random
import sys
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import psutil
from callers import Answer, Caller
from running import REPOSITORY, ROLE, Hostler

from hostler import contract

REGISTRY = "123456789012.dkr.ecr.us-east-1.amazonaws.com"
STREAMS = f"{REGISTRY}/streams:1"


def image(hop: str) -> str:
    """Return the image whose container is `tests/containers/hop.py` with this name."""
    return f"{REGISTRY}/{hop}:mytag"


def mapped_config(folder: Path, *hops: str) -> Path:
    """Write a hostler.toml that maps the images of these hops, and STREAMS; return its path."""
    servers = REPOSITORY / "tests" / "containers"
    commands = {f"{REGISTRY}/{name}": [sys.executable, f"{servers}/hop.py", name] for name in hops}
    commands[STREAMS] = [sys.executable, f"{servers}/streams.py"]
    config = folder / "mapped.toml"
    config.write_text(
        "[images]\n" + "".join(f'"{name}" = {json.dumps(command)}\n' for name, command in commands.items())
    )
    return config


def hops(*names: str) -> list[dict[str, Any]]:
    """Return definitions of containers; each hostname is the name of the image."""
    return [{"Image": image(name), "ContainerHostname": name} for name in names]


def variant(model: str, name: str = "AllTraffic", count: int = 1, **more: Any) -> dict[str, Any]:
    return {
        "VariantName": name, "ModelName": model, "InstanceType": "ml.m5.large", "InitialInstanceCount": count, **more,
    }  # fmt: skip


def create_model(hostler: Hostler, name: str, containers: Sequence[dict[str, Any]], mode: str = "Serial") -> None:
    execution = {"InferenceExecutionConfig": {"Mode": mode}} if len(containers) > 1 or mode == "Direct" else {}
    hostler.sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=containers, **execution)


def create_endpoint(hostler: Hostler, name: str, *variants: dict[str, Any], wait: float = 180) -> None:
    """Create an endpoint of these variants and wait until it is InService."""
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
    hostler.wait_in_service(name, wait)


def deploy(
    hostler: Hostler, name: str, containers: Sequence[dict[str, Any]], mode: str = "Serial", *, count: int = 1
) -> None:
    """Create a model of these containers, and an endpoint of the same name."""
    create_model(hostler, name, containers, mode)
    create_endpoint(hostler, name, variant(name, count=count))


async def call_endpoint(caller: Caller, endpoint: str, body: bytes, **headers: str) -> Answer:
    """Send one InvokeEndpoint with CSV, unless the headers have another type."""
    return await caller.call("POST", f"/endpoints/{endpoint}/invocations", {"Content-Type": "text/csv"} | headers, body)


def trace(body: bytes) -> tuple[bytes, list[dict[str, Any]]]:
    """Return the body that was sent (one line), and the request as each hop saw it, in order."""
    sent, *seen = body.split(b"\n")
    return sent, [json.loads(line) for line in seen]


def hop_names(body: bytes) -> list[str]:
    return [hop["name"] for hop in trace(body)[1]]


def call_each(hostler: Hostler, endpoint: str, names: Sequence[str]) -> None:
    """Have a hundred callers call each container of a Direct endpoint, in an order of their own; check each answer."""

    async def call_all(number: int) -> None:
        async with Caller(hostler.url) as caller:
            for name in random.Random(number).sample(names, len(names)):
                body = f"{number} to {name}".encode()
                answer = await call_endpoint(caller, endpoint, body, **{contract.H_TARGET_CONTAINER: name})
                assert (answer.status, trace(answer.body)[0], hop_names(answer.body)) == (200, body, [name])

    async def all_callers() -> None:
        await asyncio.gather(*map(call_all, range(100)))

    asyncio.run(asyncio.wait_for(all_callers(), 600))


def instructions(**hops: dict[str, Any]) -> bytes:
    """Return a body with instructions for hops (see `tests/containers/hop.py`)."""
    return json.dumps(hops).encode()


def is_logged(hostler: Hostler, line: str) -> bool:
    """Return whether a container's log has this line."""
    return any(line in log.splitlines() for log in hostler.logs())


def hop_processes(hostler: Hostler, hop: str) -> list[psutil.Process]:
    """Return the processes of the hops with this name."""
    return [
        process
        for process in hostler.named("hop.py")
        if (command := process.cmdline())[0] == sys.executable and hop in command
    ]
