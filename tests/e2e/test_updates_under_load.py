"""Every kind of change of an endpoint under load: no call fails, and every answer is correct.

An answer is correct if it has the body that was sent, comes from the container of the variant that its header names,
and that variant was deployed, with that image and those targets, at a moment between the request and the answer.
"""

from __future__ import annotations

import asyncio
import itertools
import math
import random
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import targets
from callers import Caller, UnansweredError
from hop_endpoints import call_endpoint, create_endpoint, create_model, deploy, hops, mapped_config, trace, variant
from running import BUCKET, Hostler, hostler_up

import docker_rig

pytestmark = pytest.mark.alone

TARGETS = 6
# variant with a weight -> names of its containers, and prefix of its targets
Deployment = dict[str, tuple[list[str], str]]


@dataclass
class Deployed:
    """A deployment of an endpoint, and the monotonic seconds between which it may have answered."""

    deployment: Deployment
    begun: float
    ended: float = math.inf


@dataclass
class Watched:
    """An endpoint with callers that never pause. `overlap`: calls answered during each change, at least."""

    hostler: Hostler
    name: str
    deployment: Deployment
    overlap: int
    answered: int = 0
    failures: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._history = [Deployed(self.deployment, time.monotonic())]
        self._answered = asyncio.Condition()

    async def change(self, deployment: Deployment | None, change: Callable[..., Any], **request: Any) -> None:
        """Change the endpoint to this deployment; None: the change must fail. `overlap` calls or more overlap it."""
        before = self.answered
        if deployment is not None:
            self._history.append(Deployed(deployment, time.monotonic()))
        await asyncio.to_thread(change, EndpointName=self.name, **request)
        await asyncio.to_thread(self.hostler.wait_in_service, self.name, 120)
        description = await asyncio.to_thread(self.hostler.sm.describe_endpoint, EndpointName=self.name)
        assert ("FailureReason" in description) == (deployment is None)
        if deployment is not None:
            self._history[-2].ended = time.monotonic()
        async with self._answered:
            await self._answered.wait_for(lambda: self.answered >= before + self.overlap)
        self.changes.append(f"{change.__name__}: {self.answered - before} calls")

    async def until(self, answered: int) -> None:
        async with self._answered:
            await self._answered.wait_for(lambda: self.answered >= answered)

    async def call_repeatedly(self, number: int) -> None:
        is_multi_model = bool(next(iter(self.deployment.values()))[1])
        async with Caller(self.hostler.url) as caller:
            for count in itertools.count():
                body, sent = b"caller %d, call %d" % (number, count), time.monotonic()
                target = random.randrange(TARGETS) if is_multi_model else None
                headers = {"X-Amzn-SageMaker-Target-Model": f"{target}.tar.gz"} if is_multi_model else {}
                try:
                    answer = await call_endpoint(caller, self.name, body, **headers)
                except (UnansweredError, OSError) as error:
                    self.failures.append(f"{self.name}: {error}")
                    continue
                if answer.status != 200 or not self._is_correct(body, sent, target, answer.headers, answer.body):
                    self.failures.append(f"{self.name}: {answer}")
                self.answered += 1
                if self.answered % 10 == 0:
                    async with self._answered:
                        self._answered.notify_all()

    def _is_correct(self, body: bytes, sent: float, target: int | None, headers: dict[str, str], answer: bytes) -> bool:
        echoed, seen = trace(answer)
        chosen = headers["x-amzn-invoked-production-variant"]
        for deployed in self._history:
            if deployed.ended >= sent and chosen in deployed.deployment:
                names, prefix = deployed.deployment[chosen]
                models = [None if target is None else f"{prefix}-{target}"]
                if [hop["name"] for hop in seen] == names and [hop["model"] for hop in seen[-1:]] == models:
                    return echoed == body
        return False


def configure(hostler: Hostler, name: str, *variants: dict[str, Any]) -> dict[str, str]:
    """Create a config; return it as UpdateEndpoint's argument."""
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    return {"EndpointConfigName": name}


def desired(**variants: dict[str, float]) -> dict[str, Any]:
    return {"DesiredWeightsAndCapacities": [{"VariantName": name, **desired} for name, desired in variants.items()]}


def multi_model(container: dict[str, Any], prefix: str) -> list[dict[str, Any]]:
    """Return the definition of a multi-model container over `prefix`."""
    return [container | {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/{prefix}/"}]


def docker_hops(*names: str) -> list[dict[str, Any]]:
    """Return definitions of containers that Docker runs, as `hops` does."""
    tag = docker_rig.image("hop")
    return [{"Image": tag, "ContainerHostname": name, "Environment": {"NAME": name}} for name in names]


async def everything(hostler: Hostler, overlap: int, most: int, weights: int, least: int) -> list[Watched]:
    """`most`: instances at the height of scaling; `weights`: changes of weights; `least`: calls in total."""
    shares = Watched(hostler, "shares", {"v": (["one"], ""), "w": (["two"], "")}, overlap)
    multi_model = Watched(hostler, "multi-model", {"AllTraffic": (["one"], "a")}, overlap)
    update, scale = hostler.sm.update_endpoint, hostler.sm.update_endpoint_weights_and_capacities

    async def change_shares() -> None:
        for count in (most, 1):
            await shares.change(shares.deployment, scale, **desired(v={"DesiredInstanceCount": count}))
        for number in range(weights):
            weight = number % 3
            deployment = {name: shares.deployment[name] for name in ("v", "w") if name == "v" or weight}
            await shares.change(deployment, scale, **desired(v={"DesiredWeight": 1}, w={"DesiredWeight": weight}))
        config = configure(hostler, "pipeline", variant("both", "v"), variant("two", "w"))
        await shares.change({"v": (["one", "two"], ""), "w": (["two"], "")}, update, **config)
        await shares.change(None, update, **configure(hostler, "broken", variant("broken", "v"), variant("two", "w")))
        config = configure(hostler, "turned", variant("two", "v", 2), variant("one", "w"))
        await shares.change({"v": (["two"], ""), "w": (["one"], "")}, update, **config)
        await shares.change({"v": (["two"], ""), "w": (["one"], "")}, update, **config)

    async def change_multi_model() -> None:
        await multi_model.change({"AllTraffic": (["one"], "b")}, update, **configure(hostler, "b", variant("one-b")))
        await multi_model.change(
            {"AllTraffic": (["two"], "b")}, update, **configure(hostler, "c", variant("two-b", count=2))
        )

    async with asyncio.TaskGroup() as group:
        calling = [
            group.create_task(endpoint.call_repeatedly(number))
            for endpoint in (shares, multi_model)
            for number in range(6)
        ]
        await asyncio.gather(shares.until(overlap), multi_model.until(overlap))
        await asyncio.gather(change_shares(), change_multi_model())
        while shares.answered + multi_model.answered < least:
            await shares.until(shares.answered + 10)
        for task in calling:
            task.cancel()
    return [shares, multi_model]


def run(
    folder: Path, overlap: int, most: int, weights: int, least: int, seconds: float,
    define: Callable[..., list[dict[str, Any]]] = hops, **settings: Any,
) -> None:  # fmt: skip
    """`define`: returns the definitions of containers with these names."""
    config = mapped_config(folder, "one", "two")
    with hostler_up(folder / "up", config=config, startup_timeout=20, **settings) as hostler:
        for prefix, number in itertools.product("ab", range(TARGETS)):
            name = f"{prefix}-{number}".encode()
            hostler.put(f"{prefix}/{number}.tar.gz", targets.archive({"name": name}))
        create_model(hostler, "one", define("one"))
        create_model(hostler, "two", define("two"))
        create_model(hostler, "both", define("one", "two"))
        create_model(hostler, "broken", [{"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/never-mapped:1"}])
        create_model(hostler, "one-b", multi_model(*define("one"), "b"))
        create_model(hostler, "two-b", multi_model(*define("two"), "b"))
        create_endpoint(hostler, "shares", variant("one", "v"), variant("two", "w"))
        deploy(hostler, "multi-model", multi_model(*define("one"), "a"))
        watched = asyncio.run(asyncio.wait_for(everything(hostler, overlap, most, weights, least), seconds))
        for endpoint in watched:
            print(f"{endpoint.name}: {endpoint.answered} calls", *endpoint.changes, sep="\n  ")
            assert endpoint.failures == []


def test_no_call_fails_while_an_endpoint_is_updated_scaled_and_weighted(tmp_path: Path):
    run(tmp_path, overlap=100, most=3, weights=3, least=1000, seconds=300)


@pytest.mark.slow
def test_none_of_100_000_calls_fails_while_an_endpoint_is_updated_scaled_and_weighted(tmp_path: Path):
    run(tmp_path, overlap=1000, most=4, weights=10, least=100_000, seconds=900)


@pytest.mark.docker
@pytest.mark.slow
def test_none_of_20_000_calls_fails_while_an_endpoint_in_docker_is_updated_scaled_and_weighted(tmp_path: Path):
    settings = {"engine": "auto", "docker_host": docker_rig.address()}
    run(tmp_path, overlap=500, most=4, weights=3, least=20_000, seconds=900, define=docker_hops, **settings)
