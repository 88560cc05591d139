"""Where a request goes: a table of cases, the order of the checks, and what holds for every request. No sockets."""

from __future__ import annotations

from dataclasses import dataclass, field
from itertools import combinations
from random import Random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler import contract
from hostler.gateway.counters import Counters
from hostler.gateway.errors import InvokeError
from hostler.gateway.invoke.resolve import InvokeRequest, Resolution, resolve
from hostler.gateway.region import Regions
from hostler.gateway.routes import Routes
from hostler.wire import gateway_messages
from hostler.wire.gateway_messages import Container, InstanceAddress, Pool, Route, SetResident, Snapshot

MODEL, VARIANT, CONTAINER = "TargetModel", "TargetVariant", "TargetContainerHostname"
HEADERS = {
    MODEL: contract.H_TARGET_MODEL,
    VARIANT: contract.H_TARGET_VARIANT,
    CONTAINER: contract.H_TARGET_CONTAINER,
    "Accept": "accept",
    "InferenceComponentName": contract.H_INFERENCE_COMPONENT,
    "EnableExplanations": contract.H_ENABLE_EXPLANATIONS,
    "SessionId": contract.H_SESSION_ID,
}


def variant(
    name: str, labels: str, *, weight: float = 1.0, fleets: tuple[int, ...] = (1,), **more: str
) -> gateway_messages.Variant:
    """A variant with an instance in each of its fleets' pools, of equal shares. `*`: the multi-model container."""
    containers = tuple(Container(label.strip("*"), label.endswith("*")) for label in labels.split())
    addresses = tuple(f"unix:/{label.strip('*')}" for label in labels.split())
    pools = tuple(Pool(fleet, 1.0, (InstanceAddress(f"{name}.{fleet}", addresses),)) for fleet in fleets)
    return gateway_messages.Variant(name, weight, containers, pools, **more)  # type: ignore[arg-type]


ROUTES = (
    Route("us-east-1/plain", (variant("v", "primary"),)),
    Route("us-east-1/many", (variant("v", "primary*"),)),
    Route("us-east-1/two", (variant("v", "primary"), variant("w", "primary", weight=3.0))),
    Route("us-east-1/idle", (variant("v", "primary", weight=0.0), variant("w", "primary", weight=0.0))),
    Route("us-east-1/chain", (variant("v", "a b c"),)),
    Route("us-east-1/direct", (variant("v", "a b c", mode="Direct"),)),
    Route("us-east-1/mixed", (variant("v", "a b*"),)),
    Route("us-east-1/pick", (variant("v", "a b*", mode="Direct"),)),
    Route("us-east-1/canary", (variant("v", "primary*", fleets=(1, 2)),)),
    Route("eu-west-1/plain", (variant("e", "primary"),)),
)


def resident(endpoint: str, target: str, fleet: int = 1) -> SetResident:
    return SetResident(f"us-east-1/{endpoint}", "v", fleet, target, f"v.{fleet}", 1, "unix:/t", "m")


def routes(*published: Route, residents: tuple[SetResident, ...] = ()) -> Routes:
    made = Routes(Counters())
    made.snapshot(Snapshot("e", 1, published, residents))
    return made


ALL = routes(*ROUTES, residents=(resident("many", "a"), resident("mixed", "a"), resident("canary", "a", 2)))


def asked(
    name: str, headers: dict[str, str] | None = None, *, region: str = "us-east-1", size: int | None = 3,
    takes_target: bool = True,
) -> InvokeRequest:  # fmt: skip
    lines = {HEADERS.get(member, member): value for member, value in (headers or {}).items()}
    return InvokeRequest("the-id", region, name, lines, size, takes_target)


def outcome(
    request: InvokeRequest, number: float = 0.0, before: Resolution | None = None, known: Routes = ALL
) -> Resolution | InvokeError:
    try:
        return resolve(known, request, number, before)
    except InvokeError as error:
        return error


def told(request: InvokeRequest, number: float = 0.0, before: Resolution | None = None, known: Routes = ALL) -> str:
    """Where a request goes, in one line; or the error's status and message."""
    to = outcome(request, number, before, known)
    if isinstance(to, InvokeError):
        return f"{to.status} {to}"
    labels = " ".join(to.variant.labels[to.first : to.last + 1])
    return f"{to.endpoint.key} {to.variant.name} {to.pool.fleet} [{to.target}] {labels}"


@dataclass(frozen=True)
class Case:
    answer: str  # or how it begins
    name: str
    headers: dict[str, str] = field(default_factory=dict)
    region: str = "us-east-1"
    number: float = 0.0
    takes_target: bool = True
    size: int | None = 3


TABLE = [
    # The endpoint: by region, and case-sensitive.
    Case("us-east-1/plain v 1 [] primary", "plain"),
    Case("eu-west-1/plain e 1 [] primary", "plain", region="eu-west-1"),
    Case("400 Endpoint plain of account", "plain", region="eu-central-1"),
    Case("400 Endpoint Plain of account", "Plain"),
    Case("400 Endpoint many of account", "many", region="eu-west-1"),
    Case("400 1 validation error detected: Value 'no_name' at 'endpointName'", "no_name"),
    Case("400 1 validation error detected: Value", "n" * 64),
    # The variant: drawn by weight, or named.
    Case("us-east-1/two v 1 [] primary", "two", number=0.2499),
    Case("us-east-1/two w 1 [] primary", "two", number=0.25),
    Case("us-east-1/two w 1 [] primary", "two", number=1 - 2**-53),
    Case("us-east-1/two v 1 [] primary", "two", {VARIANT: "v"}, number=0.9),
    Case("us-east-1/idle v 1 [] primary", "idle", number=0.9),
    Case("us-east-1/idle w 1 [] primary", "idle", {VARIANT: "w"}),
    Case("400 Variant V of endpoint two", "two", {VARIANT: "V"}),
    Case("400 Variant x of endpoint plain", "plain", {VARIANT: "x"}),
    # The pool: drawn by share, by other digits of the number than the variant.
    Case("us-east-1/canary v 1 [a] primary", "canary", {MODEL: "a"}, number=0.0),
    Case("us-east-1/canary v 2 [a] primary", "canary", {MODEL: "a"}, number=0.75 * 2**-20),
    # The target: normalized, whether or not it is resident.
    Case("us-east-1/many v 1 [a] primary", "many", {MODEL: "a"}),
    Case("us-east-1/many v 1 [a] primary", "many", {MODEL: "/a"}),
    Case("us-east-1/many v 1 [b/c.tar.gz] primary", "many", {MODEL: "b/c.tar.gz"}),
    Case("us-east-1/many v 1 [b] primary", "many", {MODEL: "/b"}),
    Case("400 ", "many", {MODEL: "../b"}),
    Case("400 ", "many", {MODEL: "b//c"}),
    Case("us-east-1/many v 1 [%2e%2e/b] primary", "many", {MODEL: "%2e%2e/b"}),
    Case("400 Request the-id is missing a target model header.", "many"),
    Case("400 Endpoint plain is not a multi-model endpoint", "plain", {MODEL: "a"}),
    Case("400 Endpoint many is a multi-model endpoint, and", "many", {MODEL: "a"}, takes_target=False),
    Case("400 Endpoint many is a multi-model endpoint, and", "many", takes_target=False),
    Case("us-east-1/plain v 1 [] primary", "plain", takes_target=False),
    # The containers: all, or the one that is named.
    Case("us-east-1/chain v 1 [] a b c", "chain"),
    Case("us-east-1/direct v 1 [] b", "direct", {CONTAINER: "b"}),
    Case("us-east-1/mixed v 1 [a] a b", "mixed", {MODEL: "a"}),
    Case("us-east-1/pick v 1 [a] b", "pick", {MODEL: "a", CONTAINER: "b"}),
    Case("us-east-1/pick v 1 [a] a", "pick", {MODEL: "a", CONTAINER: "a"}),
    Case("400 Endpoint chain does not invoke its containers directly", "chain", {CONTAINER: "b"}),
    Case("400 Endpoint plain does not invoke its containers directly", "plain", {CONTAINER: "primary"}),
    Case("400 Request the-id is missing a target container hostname header.", "direct"),
    Case("400 Container d of endpoint direct", "direct", {CONTAINER: "d"}),
    # Features that no endpoint has.
    Case("400 Endpoint plain has no inference components.", "plain", {"InferenceComponentName": "c"}),
    Case("400 Endpoint plain has no explainer.", "plain", {"EnableExplanations": "`true`"}),
    Case("400 Endpoint plain does not support stateful sessions.", "plain", {"SessionId": "NEW_SESSION"}),
    # The body's size, if it is known yet.
    Case("us-east-1/plain v 1 [] primary", "plain", size=contract.MAX_BODY),
    Case("413 ", "plain", size=contract.MAX_BODY + 1),
    Case("us-east-1/plain v 1 [] primary", "plain", size=None),
]


@pytest.mark.parametrize("case", TABLE, ids=lambda case: f"{case.name[:8]} {case.headers or case.number or case.size}")
def test_a_request_goes_where_the_table_says(case: Case) -> None:
    request = asked(case.name, case.headers, region=case.region, size=case.size, takes_target=case.takes_target)
    assert told(request, case.number).startswith(case.answer)


def test_before_the_first_snapshot_no_endpoint_is_said_to_be_missing() -> None:
    nothing = Routes(Counters())
    assert told(asked("plain"), known=nothing).startswith("503 ")
    assert told(asked("no_name"), known=nothing).startswith("400 1 validation error")
    nothing.snapshot(Snapshot("e", 1, (), ()))
    assert told(asked("plain"), known=nothing).startswith("400 Endpoint plain of account")


# Faults in the order of the checks, each put into a request for the endpoint "pick", which has them all.
FAULTS: list[dict[str, object]] = [
    {"size": contract.MAX_BODY + 1},
    {"Accept": "é"},
    {"name": "missing"},
    {VARIANT: "x"},
    {MODEL: None},
    {CONTAINER: "z"},
    {"SessionId": "NEW_SESSION"},
]


def faulty(*faults: dict[str, object]) -> InvokeRequest:
    good: dict[str, object] = {"name": "pick", "size": 3, MODEL: "a", CONTAINER: "b"}
    for fault in faults:
        good |= fault
    headers = {key: str(value) for key, value in good.items() if key not in ("name", "size") and value is not None}
    return asked(str(good["name"]), headers, size=int(str(good["size"])))


@pytest.mark.parametrize(("first", "second"), [*combinations(FAULTS, 2)], ids=str)
def test_of_two_faults_the_one_that_is_checked_first_is_answered(
    first: dict[str, object], second: dict[str, object]
) -> None:
    alone = told(faulty(first))
    assert alone[:3] in ("400", "413")
    assert told(faulty(first, second)) == alone.replace("pick", str(second.get("name", "pick")))
    assert told(faulty(second)) != alone


# --- what stays when it is resolved again


def test_a_drawn_variant_stays_while_there_is_one_of_its_name() -> None:
    before = resolve(ALL, asked("two"), 0.0)
    assert before.variant.name == "v"
    reweighted = routes(Route("us-east-1/two", (variant("v", "primary", weight=0.0), variant("w", "primary"))))
    assert resolve(reweighted, asked("two"), 0.9, before).variant.name == "v"
    renamed = routes(Route("us-east-1/two", (variant("w", "primary"),)))
    assert resolve(renamed, asked("two"), 0.0, before).variant.name == "w"


def test_a_drawn_pool_stays_while_the_variant_has_it() -> None:
    request = asked("canary", {MODEL: "a"})
    before = resolve(ALL, request, 0.0)
    assert before.pool.fleet == 1
    later = routes(Route("us-east-1/canary", (variant("v", "primary*", fleets=(3, 1)),)))
    assert resolve(later, request, 0.0, before).pool.fleet == 1
    last = routes(Route("us-east-1/canary", (variant("v", "primary*", fleets=(3,)),)))
    assert resolve(last, request, 0.0, before).pool.fleet == 3


def test_a_named_variant_that_is_gone_is_not_replaced_by_another() -> None:
    request = asked("two", {VARIANT: "v"})
    before = resolve(ALL, request, 0.0)
    renamed = routes(Route("us-east-1/two", (variant("w", "primary"),)))
    assert told(request, 0.0, before, renamed).startswith("400 Variant v of endpoint two")


# --- what holds for every request

NAMES = st.sampled_from([route.key.partition("/")[2] for route in ROUTES] + ["missing", "no_name", ""])
VALUES = st.sampled_from(["a", "/a", "b", "v", "w", "primary", "..", "", " ", "é", "x" * 2000]) | st.text(max_size=8)
LINES = st.dictionaries(st.sampled_from(sorted(HEADERS)), VALUES, max_size=4)
REQUESTS = st.builds(
    asked,
    NAMES,
    LINES,
    region=st.sampled_from(["us-east-1", "eu-west-1", ""]),
    size=st.sampled_from([None, 0, contract.MAX_BODY, contract.MAX_BODY + 1]),
    takes_target=st.booleans(),
)
NUMBERS = st.floats(0.0, 1.0, exclude_max=True)


@given(REQUESTS, NUMBERS)
def test_every_request_goes_to_what_it_names_or_gets_an_error_of_its_own(request: InvokeRequest, number: float) -> None:
    to = outcome(request, number)
    if isinstance(to, InvokeError):
        assert 400 <= to.status < 500
        return
    headers = request.headers
    assert to.endpoint.key == f"{request.region}/{request.name}"
    assert to.endpoint.variants[to.variant.name] is to.variant
    assert to.pool in to.variant.pools
    assert headers.get(contract.H_TARGET_VARIANT, to.variant.name) == to.variant.name
    assert bool(to.target) == (contract.H_TARGET_MODEL in headers) == to.variant.multi_model
    assert 0 <= to.first <= to.last < len(to.variant.labels)
    named = headers.get(contract.H_TARGET_CONTAINER)
    assert [named] == [*to.variant.labels[to.first : to.last + 1]] if to.variant.direct else named is None


@given(REQUESTS, NUMBERS, NUMBERS)
def test_resolved_again_by_the_same_routes_it_stays_where_it_was(
    request: InvokeRequest, number: float, another: float
) -> None:
    before = outcome(request, number)
    if isinstance(before, InvokeError):
        assert told(request, another) == f"{before.status} {before}"
        return
    assert resolve(ALL, request, another, before) == before


@given(st.lists(st.floats(0.0, 1e6), min_size=1, max_size=6), NUMBERS)
def test_a_variant_without_weight_is_drawn_only_where_none_has_any(weights: list[float], number: float) -> None:
    named = tuple(variant(f"v{index}", "primary", weight=weight) for index, weight in enumerate(weights))
    to = resolve(routes(Route("us-east-1/ep", named)), asked("ep"), number)
    assert to.variant.weight > 0 or (not any(weights) and to.variant.name == "v0")


def test_variants_are_drawn_in_proportion_to_their_weights() -> None:
    rng = Random(1)
    drawn = [resolve(ALL, asked("two"), rng.random()).variant.name for _ in range(4000)]
    assert 900 < drawn.count("v") < 1100


def test_the_region_is_the_signature_s_or_the_default() -> None:
    regions = Regions("us-east-1")
    signed = (
        "AWS4-HMAC-SHA256 Credential=AKID/20261122/eu-west-1/sagemaker/aws4_request, SignedHeaders=host, Signature=x"
    )
    assert told(asked("plain", region=regions.of(signed))).startswith("eu-west-1/plain e")
    assert told(asked("plain", region=regions.of(None))).startswith("us-east-1/plain v")
    assert told(asked("plain", region=regions.of("Bearer x"))).startswith("us-east-1/plain v")
