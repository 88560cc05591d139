"""Everything that changes an endpoint while callers never stop: none fails, none is answered wrong.

An answer is right when it holds what was sent, comes from the container of the variant that its header names, and that
variant was deployed, with that image and those targets, at some moment between the question and the answer.
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
from hop_endpoints import ask, deploy, endpoint, hops, mapped, model, variant, way
from running import BUCKET, Hostler, hostler_up

pytestmark = pytest.mark.alone

TARGETS = 6
Deployment = dict[str, tuple[list[str], str]]  # variant that may be drawn -> names of its containers, and its targets'


@dataclass
class Deployed:
    """What an endpoint was asked to be, and when it may have answered as that: monotonic seconds."""

    what: Deployment
    begun: float
    ended: float = math.inf


@dataclass
class Watched:
    """An endpoint with callers that never stop. `overlap`: how many more are answered before a change is over."""

    hostler: Hostler
    name: str
    what: Deployment
    overlap: int
    answered: int = 0
    wrong: list[str] = field(default_factory=list)
    changes: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self._history = [Deployed(self.what, time.monotonic())]
        self._more = asyncio.Condition()

    async def change(self, what: Deployment | None, change: Callable[..., Any], **how: Any) -> None:
        """Make one change, to `what` it says; None: it is one that must fail. It overlaps so many calls."""
        before = self.answered
        if what is not None:
            self._history.append(Deployed(what, time.monotonic()))
        await asyncio.to_thread(change, EndpointName=self.name, **how)
        await asyncio.to_thread(self.hostler.wait_in_service, self.name, 60)
        told = await asyncio.to_thread(self.hostler.sm.describe_endpoint, EndpointName=self.name)
        assert ("FailureReason" in told) == (what is None)
        if what is not None:
            self._history[-2].ended = time.monotonic()
        async with self._more:
            await self._more.wait_for(lambda: self.answered >= before + self.overlap)
        self.changes.append(f"{change.__name__}: {self.answered - before} calls")

    async def until(self, answered: int) -> None:
        async with self._more:
            await self._more.wait_for(lambda: self.answered >= answered)

    async def call_on(self, number: int) -> None:
        many = bool(next(iter(self.what.values()))[1])
        async with Caller(self.hostler.url) as caller:
            for count in itertools.count():
                body, sent = b"caller %d, call %d" % (number, count), time.monotonic()
                target = random.randrange(TARGETS) if many else None
                headers = {"X-Amzn-SageMaker-Target-Model": f"{target}.tar.gz"} if many else {}
                try:
                    answer = await ask(caller, self.name, body, **headers)
                except (UnansweredError, OSError) as error:
                    self.wrong.append(f"{self.name}: {error}")
                    continue
                if answer.status != 200 or not self._is_right(body, sent, target, answer.headers, answer.body):
                    self.wrong.append(f"{self.name}: {answer}")
                self.answered += 1
                if self.answered % 10 == 0:
                    async with self._more:
                        self._more.notify_all()

    def _is_right(self, body: bytes, sent: float, target: int | None, headers: dict[str, str], answer: bytes) -> bool:
        echoed, seen = way(answer)
        chosen = headers["x-amzn-invoked-production-variant"]
        for deployed in self._history:
            if deployed.ended >= sent and chosen in deployed.what:
                names, prefix = deployed.what[chosen]
                models = [None if target is None else f"{prefix}-{target}"]
                if [hop["name"] for hop in seen] == names and [hop["model"] for hop in seen[-1:]] == models:
                    return echoed == body
        return False


def configure(hostler: Hostler, name: str, *variants: dict[str, Any]) -> dict[str, str]:
    """UpdateEndpoint's argument for a config that is made by the way."""
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)
    return {"EndpointConfigName": name}


def desired(**variants: dict[str, float]) -> dict[str, Any]:
    return {"DesiredWeightsAndCapacities": [{"VariantName": name, **wanted} for name, wanted in variants.items()]}


def many(image: str, prefix: str) -> list[dict[str, Any]]:
    """A multi-model container over `prefix`."""
    [container] = hops(image)
    return [container | {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/{prefix}/"}]


async def everything(hostler: Hostler, overlap: int, most: int, weights: int, least: int) -> list[Watched]:
    """`most`: instances at the height of scaling; `weights`: changes of weights; `least`: calls in all."""
    shares = Watched(hostler, "shares", {"v": (["one"], ""), "w": (["two"], "")}, overlap)
    shelf = Watched(hostler, "shelf", {"AllTraffic": (["one"], "a")}, overlap)
    update, scale = hostler.sm.update_endpoint, hostler.sm.update_endpoint_weights_and_capacities

    async def change_shares() -> None:
        for count in (most, 1):
            await shares.change(shares.what, scale, **desired(v={"DesiredInstanceCount": count}))
        for number in range(weights):
            weight = number % 3
            what = {name: shares.what[name] for name in ("v", "w") if name == "v" or weight}
            await shares.change(what, scale, **desired(v={"DesiredWeight": 1}, w={"DesiredWeight": weight}))
        config = configure(hostler, "pipeline", variant("both", "v"), variant("two", "w"))
        await shares.change({"v": (["one", "two"], ""), "w": (["two"], "")}, update, **config)
        await shares.change(None, update, **configure(hostler, "broken", variant("broken", "v"), variant("two", "w")))
        config = configure(hostler, "turned", variant("two", "v", 2), variant("one", "w"))
        await shares.change({"v": (["two"], ""), "w": (["one"], "")}, update, **config)
        await shares.change({"v": (["two"], ""), "w": (["one"], "")}, update, **config)

    async def change_shelf() -> None:
        await shelf.change({"AllTraffic": (["one"], "b")}, update, **configure(hostler, "b", variant("one-b")))
        await shelf.change({"AllTraffic": (["two"], "b")}, update, **configure(hostler, "c", variant("two-b", count=2)))

    async with asyncio.TaskGroup() as group:
        calling = [group.create_task(one.call_on(number)) for one in (shares, shelf) for number in range(6)]
        await asyncio.gather(shares.until(overlap), shelf.until(overlap))
        await asyncio.gather(change_shares(), change_shelf())
        while shares.answered + shelf.answered < least:
            await shares.until(shares.answered + 10)
        for task in calling:
            task.cancel()
    return [shares, shelf]


def run(folder: Path, overlap: int, most: int, weights: int, least: int, patience: float) -> None:
    with hostler_up(folder / "up", config=mapped(folder, "one", "two"), startup_timeout=20) as hostler:
        for prefix, number in itertools.product("ab", range(TARGETS)):
            name = f"{prefix}-{number}".encode()
            hostler.put(f"{prefix}/{number}.tar.gz", targets.archive({"name": name}))
        model(hostler, "one", hops("one"))
        model(hostler, "two", hops("two"))
        model(hostler, "both", hops("one", "two"))
        model(hostler, "broken", [{"Image": "123456789012.dkr.ecr.us-east-1.amazonaws.com/never-mapped:1"}])
        model(hostler, "one-b", many("one", "b"))
        model(hostler, "two-b", many("two", "b"))
        endpoint(hostler, "shares", variant("one", "v"), variant("two", "w"))
        deploy(hostler, "shelf", many("one", "a"))
        watched = asyncio.run(asyncio.wait_for(everything(hostler, overlap, most, weights, least), patience))
        for one in watched:
            print(f"{one.name}: {one.answered} calls", *one.changes, sep="\n  ")
            assert one.wrong == []


def test_whatever_changes_an_endpoint_no_caller_notices(tmp_path: Path):
    run(tmp_path, overlap=100, most=3, weights=3, least=1000, patience=120)


@pytest.mark.slow
def test_100_000_calls_through_updates_scaling_weights_and_a_failed_update_fail_nowhere(tmp_path: Path):
    run(tmp_path, overlap=1000, most=4, weights=10, least=100_000, patience=900)
