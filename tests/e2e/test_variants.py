"""Which variant and which instance of an endpoint answer, and how both change while callers go on.

Shares are drawn at random, so they are compared within five standard deviations: one run in a million is outside.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest
from background_load import load
from callers import Answer, Caller
from hop_endpoints import ask, endpoint, hops, model, variant, way
from running import Hostler, eventually

from hostler import contract

DEVIATIONS = 5


@pytest.fixture(scope="module")
def hostler(hostler: Hostler) -> Hostler:
    """With the models `one` and `two`."""
    for name in ("one", "two"):
        model(hostler, name, hops(name))
    return hostler


def asked(hostler: Hostler, endpoint: str, times: int, **headers: str) -> list[Answer]:
    """So many answers, all 200, got by 8 callers at once."""

    async def ask_on() -> list[Answer]:
        async with Caller(hostler.url) as caller:
            return [await ask(caller, endpoint, b"", **headers) for _ in range(times // 8)]

    async def everybody() -> list[list[Answer]]:
        return await asyncio.gather(*(ask_on() for _ in range(8)))

    answers = [answer for some in asyncio.run(asyncio.wait_for(everybody(), 60)) for answer in some]
    assert {answer.status for answer in answers} == {200}
    return answers


def chosen(answer: Answer) -> str:
    """The variant that an answer says it is from, once its container has said the same."""
    said = answer.headers["x-amzn-invoked-production-variant"]
    assert way(answer.body)[1][0]["name"] == said
    return said


def instance(answer: Answer) -> str:
    found: str = way(answer.body)[1][0]["self"]
    return found


def assert_share(counted: int, of: int, share: float) -> None:
    deviation = math.sqrt(share * (1 - share) / of)
    assert abs(counted / of - share) < DEVIATIONS * deviation, f"{counted} of {of}, expected a share of {share}"


# --- variants -----------------------------------------------------------------------------------------------------


def test_weights_are_shares_and_move_by_one_call_and_a_target_variant_overrules_them(hostler: Hostler):
    endpoint(
        hostler, "shares", variant("one", "one", InitialVariantWeight=1), variant("two", "two", InitialVariantWeight=3)
    )
    answers = asked(hostler, "shares", 2000)
    assert_share(sum(chosen(answer) == "one" for answer in answers), 2000, 0.25)
    told = hostler.runtime.invoke_endpoint(EndpointName="shares", Body=b"", TargetVariant="one")
    assert told["InvokedProductionVariant"] == "one"
    assert {chosen(a) for a in asked(hostler, "shares", 80, **{contract.H_TARGET_VARIANT: "two"})} == {"two"}

    before = {instance(answer) for answer in answers}
    weigh(hostler, "shares", one=0, two=1)
    assert {chosen(answer) for answer in asked(hostler, "shares", 400)} == {"two"}
    nobody_draws_it = asked(hostler, "shares", 80, **{contract.H_TARGET_VARIANT: "one"})
    assert {chosen(answer) for answer in nobody_draws_it} == {"one"}
    weigh(hostler, "shares", one=1, two=1)
    evenly = asked(hostler, "shares", 2000)
    assert_share(sum(chosen(answer) == "one" for answer in evenly), 2000, 0.5)
    assert {instance(answer) for answer in evenly} == before  # nothing was started anew
    shown = {v["VariantName"]: v for v in hostler.sm.describe_endpoint(EndpointName="shares")["ProductionVariants"]}
    assert [shown[name]["CurrentWeight"] for name in ("one", "two")] == [1, 1]
    hostler.sm.delete_endpoint(EndpointName="shares")


def weigh(hostler: Hostler, endpoint: str, **weights: float) -> None:
    wanted = [{"VariantName": name, "DesiredWeight": weight} for name, weight in weights.items()]
    hostler.sm.update_endpoint_weights_and_capacities(EndpointName=endpoint, DesiredWeightsAndCapacities=wanted)
    hostler.wait_in_service(endpoint)


# --- instances ----------------------------------------------------------------------------------------------------


def test_random_routing_spreads_evenly_over_instances(hostler: Hostler):
    endpoint(hostler, "random", variant("one", count=3))
    counted = Counter(instance(answer) for answer in asked(hostler, "random", 2400))
    assert len(counted) == 3
    for count in counted.values():
        assert_share(count, 2400, 1 / 3)
    hostler.sm.delete_endpoint(EndpointName="random")


def test_least_outstanding_requests_spares_a_slow_instance_and_random_does_not(hostler: Hostler):
    shares = {}
    for strategy, seconds in (("LEAST_OUTSTANDING_REQUESTS", 0.5), ("RANDOM", 0.05)):  # at random, half the calls wait
        endpoint(hostler, "slow", variant("one", count=2, RoutingConfig={"RoutingStrategy": strategy}))
        folder = sorted((hostler.data / "containers").iterdir())[0]
        (folder / "slow").write_text(str(seconds))
        both = {instance(answer) for answer in asked(hostler, "slow", 16)}
        assert len(both) == 2
        counted = Counter(instance(answer) for answer in asked(hostler, "slow", 400))
        shares[strategy] = min(counted.values()) / 400
        hostler.sm.delete_endpoint(EndpointName="slow")
        eventually(lambda: not [*(hostler.data / "containers").iterdir()], 30, "its containers are gone")
        hostler.sm.delete_endpoint_config(EndpointConfigName="slow")
    assert shares["LEAST_OUTSTANDING_REQUESTS"] < 0.2
    assert_share(round(400 * shares["RANDOM"]), 400, 0.5)


def test_scaling_out_and_in_while_callers_go_on_fails_nothing(hostler: Hostler):
    endpoint(hostler, "scaled", variant("one"))

    async def scale() -> None:
        async with load(hostler.url, "scaled") as going:
            for count in (1, 3, 1):
                await asyncio.to_thread(resize, hostler, "scaled", count)
                await going.more(16)  # what was sent before
                assert len({instance(call.answer) for call in await going.more(400)}) == count
        assert going.failed == []

    asyncio.run(asyncio.wait_for(scale(), 120))
    hostler.sm.delete_endpoint(EndpointName="scaled")


def resize(hostler: Hostler, endpoint: str, count: int) -> None:
    wanted = [{"VariantName": "AllTraffic", "DesiredInstanceCount": count}]
    hostler.sm.update_endpoint_weights_and_capacities(EndpointName=endpoint, DesiredWeightsAndCapacities=wanted)
    hostler.wait_in_service(endpoint)
    [shown] = hostler.sm.describe_endpoint(EndpointName=endpoint)["ProductionVariants"]
    assert (shown["CurrentInstanceCount"], shown["DesiredInstanceCount"]) == (count, count)
