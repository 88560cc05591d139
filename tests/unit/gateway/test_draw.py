"""Drawing a variant, and what is remembered of variants that are gone."""

from __future__ import annotations

from random import Random

import pytest

from hostler.gateway.counters import Counters
from hostler.gateway.routes import Routes
from hostler.wire import gateway_messages

PLACE = gateway_messages.InstanceAddress("i1", ("unix:/nowhere",))


def route(*weights: float) -> gateway_messages.Route:
    alone = (gateway_messages.Container("primary"),)
    variants = tuple(
        gateway_messages.Variant(f"v{number}", weight, alone, (PLACE,)) for number, weight in enumerate(weights)
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
    assert {routes.endpoints["us-east-1/ep"].draw(rng).name for _ in range(100)} == drawn


def test_a_variant_that_is_gone_is_counted_no_more() -> None:
    counters = Counters()
    routes = Routes(counters)
    routes.set_route(route(1.0, 1.0))
    routes.set_route(route(1.0))
    assert [count.variant for count in counters.sums()] == ["v0"]
    routes.drop_route("us-east-1/ep")
    assert counters.sums() == ()
