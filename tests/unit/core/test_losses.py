"""Which instances are given up with their machine."""

from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.core.endpoints.losses import Suspect, lost


@pytest.mark.parametrize(("engine", "gateways"), [(True, False), (False, True), (True, True)])
def test_an_instance_is_lost_if_the_engine_or_the_gateways_say_so_too(engine: bool, gateways: bool) -> None:
    assert lost([Suspect("a", engine, gateways)], 4, 0) == ["a"]


def test_controls_word_alone_gives_nothing_up() -> None:
    assert lost([Suspect("a", engine=False, gateways=False)], 4, 0) == []


def test_half_of_all_at_a_time_are_given_up_and_one_may_always_be() -> None:
    suspects = [Suspect(f"i{n}", engine=False, gateways=True) for n in range(4)]
    assert lost(suspects, 4, 0) == ["i0", "i1"]
    assert lost(suspects[2:], 4, 2) == [], "until the first ones are replaced"
    assert lost(suspects[2:], 4, 1) == ["i2"]
    assert lost(suspects[:1], 1, 0) == ["i0"]
    assert lost(suspects[:1], 1, 1) == []


@given(
    st.lists(st.builds(Suspect, st.uuids().map(str), st.booleans(), st.booleans())),
    st.integers(0, 9),
    st.integers(0, 9),
)
def test_never_more_than_half_and_only_with_a_second_witness(
    suspects: list[Suspect], serve: int, unreplaced: int
) -> None:
    slots = max(unreplaced, serve, len(suspects))
    given_up = lost(suspects, slots, unreplaced)
    assert given_up == [] or len(given_up) + unreplaced <= max(1, slots // 2)
    assert set(given_up) <= {suspect.id for suspect in suspects if suspect.engine or suspect.gateways}
