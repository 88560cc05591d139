"""Drawing a variant, and what is remembered of variants that are gone."""

from __future__ import annotations

from collections import Counter
from random import Random

import pytest
from rig import pool

from hostler.gateway.counters import Counters
from hostler.gateway.routes import Routes
from hostler.wire import gateway_messages

PLACE = gateway_messages.InstanceAddress("i1", ("unix:/nowhere",))


def route(*weights: float) -> gateway_messages.Route:
    alone = (gateway_messages.Container("primary"),)
    variants = tuple(
        gateway_messages.Variant(f"v{number}", weight, alone, pool(PLACE)) for number, weight in enumerate(weights)
    )
    return gateway_messages.Route("us-east-1/ep", variants)


@pytest.mark.parametrize(
    ("weights", "drawn"),
    [((5e-324, 5e-324), {"v0", "v1"}), ((5e-324, 0.0), {"v0"}), ((0.0, 1.0, 0.0), {"v1"}), ((0.0, 0.0), {"v0"})],
)
def test_any_weights_draw_a_variant_and_never_one_of_weight_zero(weights: tuple[float, ...], drawn: set[str]) -> None:
    routes = Routes(Counters())
    routes.set_route(route(*weights))
    rng = Random(1)
    assert {routes.endpoints["us-east-1/ep"].draw(rng.random()).name for _ in range(100)} == drawn


def test_pools_are_drawn_by_their_shares_whatever_variant_the_same_number_drew() -> None:
    alone = (gateway_messages.Container("primary"),)
    pools = tuple(gateway_messages.Pool(fleet, share, (PLACE,)) for fleet, share in ((1, 0.9), (2, 0.1), (3, 0.0)))
    variants = tuple(gateway_messages.Variant(name, 1.0, alone, pools) for name in ("v0", "v1"))
    routes = Routes(Counters())
    routes.set_route(gateway_messages.Route("us-east-1/ep", variants))
    endpoint, rng = routes.endpoints["us-east-1/ep"], Random(1)
    drawn = Counter(
        (variant.name, variant.draw(number).fleet)
        for number in (rng.random() for _ in range(10_000))
        if (variant := endpoint.draw(number))
    )
    for name in ("v0", "v1"):
        assert 4300 < drawn[name, 1] < 4700
        assert 400 < drawn[name, 2] < 600
        assert drawn[name, 3] == 0


def test_a_variant_that_is_gone_is_counted_no_more() -> None:
    counters = Counters()
    routes = Routes(counters)
    routes.set_route(route(1.0, 1.0))
    routes.set_route(route(1.0))
    assert [count.variant for count in counters.sums()] == ["v0"]
    routes.drop_route("us-east-1/ep")
    assert counters.sums() == ()
