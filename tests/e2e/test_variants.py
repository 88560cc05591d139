"""The shares of an endpoint's variants and instances, and changes of both under load.

Variants are drawn at random, so shares are compared within five standard deviations: one run in a million is outside.
"""

from __future__ import annotations

import asyncio
import math
from collections import Counter

import pytest
from background_load import keep_calling
from callers import Answer, Caller
from hop_endpoints import call_endpoint, create_endpoint, create_model, hops, trace, variant
from running import Hostler, eventually

from hostler import contract

DEVIATIONS = 5


@pytest.fixture(scope="module")
def hostler(hostler: Hostler) -> Hostler:
    """With the models `one` and `two`."""
    for name in ("one", "two"):
        create_model(hostler, name, hops(name))
    return hostler


def call_all(hostler: Hostler, endpoint: str, times: int, **headers: str) -> list[Answer]:
    """Call the endpoint by 8 callers at once; return the answers, which must all be 200."""
    left = iter(range(times))  # a caller that waits long makes fewer of them

    async def call_repeatedly() -> list[Answer]:
        async with Caller(hostler.url) as caller:
            return [await call_endpoint(caller, endpoint, b"", **headers) for _ in left]

    async def all_callers() -> list[list[Answer]]:
        return await asyncio.gather(*(call_repeatedly() for _ in range(8)))

    answers = [answer for answers in asyncio.run(asyncio.wait_for(all_callers(), 600)) for answer in answers]
    assert {answer.status for answer in answers} == {200}
    return answers


def chosen(answer: Answer) -> str:
    """Return the variant that an answer's header names; its container must be that variant's."""
    name = answer.headers["x-amzn-invoked-production-variant"]
    assert trace(answer.body)[1][0]["name"] == name
    return name


def instance(answer: Answer) -> str:
    process: str = trace(answer.body)[1][0]["process"]
    return process


def assert_share(counted: int, of: int, share: float) -> None:
    deviation = math.sqrt(share * (1 - share) / of)
    assert abs(counted / of - share) < DEVIATIONS * deviation, f"{counted} of {of}, expected a share of {share}"


# --- variants -----------------------------------------------------------------------------------------------------


def test_weights_are_shares_and_can_be_changed_and_a_target_variant_overrides_them(hostler: Hostler):
    create_endpoint(
        hostler, "shares", variant("one", "one", InitialVariantWeight=1), variant("two", "two", InitialVariantWeight=3)
    )
    answers = call_all(hostler, "shares", 2000)
    assert_share(sum(chosen(answer) == "one" for answer in answers), 2000, 0.25)
    answer = hostler.runtime.invoke_endpoint(EndpointName="shares", Body=b"", TargetVariant="one")
    assert answer["InvokedProductionVariant"] == "one"
    assert {chosen(a) for a in call_all(hostler, "shares", 80, **{contract.H_TARGET_VARIANT: "two"})} == {"two"}

    before = {instance(answer) for answer in answers}
    weigh(hostler, "shares", one=0, two=1)
    assert {chosen(answer) for answer in call_all(hostler, "shares", 400)} == {"two"}
    without_weight = call_all(hostler, "shares", 80, **{contract.H_TARGET_VARIANT: "one"})
    assert {chosen(answer) for answer in without_weight} == {"one"}
    weigh(hostler, "shares", one=1, two=1)
    evenly = call_all(hostler, "shares", 2000)
    assert_share(sum(chosen(answer) == "one" for answer in evenly), 2000, 0.5)
    assert {instance(answer) for answer in evenly} == before  # no new instance
    variants = {v["VariantName"]: v for v in hostler.sm.describe_endpoint(EndpointName="shares")["ProductionVariants"]}
    assert [variants[name]["CurrentWeight"] for name in ("one", "two")] == [1, 1]
    hostler.sm.delete_endpoint(EndpointName="shares")


def weigh(hostler: Hostler, endpoint: str, **weights: float) -> None:
    desired = [{"VariantName": name, "DesiredWeight": weight} for name, weight in weights.items()]
    hostler.sm.update_endpoint_weights_and_capacities(EndpointName=endpoint, DesiredWeightsAndCapacities=desired)
    hostler.wait_in_service(endpoint)


# --- instances ----------------------------------------------------------------------------------------------------


def test_random_routing_spreads_evenly_over_instances(hostler: Hostler):
    create_endpoint(hostler, "random", variant("one", count=3))
    counted = Counter(instance(answer) for answer in call_all(hostler, "random", 2400))
    assert len(counted) == 3
    for count in counted.values():
        assert_share(count, 2400, 1 / 3)
    hostler.sm.delete_endpoint(EndpointName="random")


@pytest.mark.machine
def test_least_outstanding_requests_spares_a_slow_instance_and_random_does_not(hostler: Hostler):
    shares = {}
    for strategy, seconds in (("LEAST_OUTSTANDING_REQUESTS", 4.0), ("RANDOM", 0.05)):  # at random, half the calls wait
        create_endpoint(hostler, "slow", variant("one", count=2, RoutingConfig={"RoutingStrategy": strategy}))
        both = {instance(answer) for answer in call_all(hostler, "slow", 100)}
        assert len(both) == 2
        folder = sorted((hostler.data / "containers").iterdir())[0]
        (folder / "slow").write_text(str(seconds))
        counted = Counter(instance(answer) for answer in call_all(hostler, "slow", 400))
        shares[strategy] = min(counted.values()) / 400
        hostler.sm.delete_endpoint(EndpointName="slow")
        eventually(lambda: not [*(hostler.data / "containers").iterdir()], 60, "its containers are removed")
        hostler.sm.delete_endpoint_config(EndpointConfigName="slow")
    assert shares["LEAST_OUTSTANDING_REQUESTS"] < 0.2
    assert_share(round(400 * shares["RANDOM"]), 400, 0.5)


def test_no_call_fails_while_an_endpoint_is_scaled_out_and_in(hostler: Hostler):
    create_endpoint(hostler, "scaled", variant("one"))

    async def scale() -> None:
        async with keep_calling(hostler.url, "scaled") as load:
            for count in (1, 3, 1):
                await asyncio.to_thread(resize, hostler, "scaled", count)
                assert len({instance(call.answer) for call in await load.calls_from_now(400)}) == count
        assert load.failed == []

    asyncio.run(asyncio.wait_for(scale(), 600))
    hostler.sm.delete_endpoint(EndpointName="scaled")


def resize(hostler: Hostler, endpoint: str, count: int) -> None:
    desired = [{"VariantName": "AllTraffic", "DesiredInstanceCount": count}]
    hostler.sm.update_endpoint_weights_and_capacities(EndpointName=endpoint, DesiredWeightsAndCapacities=desired)
    hostler.wait_in_service(endpoint)
    [deployed] = hostler.sm.describe_endpoint(EndpointName=endpoint)["ProductionVariants"]
    assert (deployed["CurrentInstanceCount"], deployed["DesiredInstanceCount"]) == (count, count)
