"""The texts of a model cache's refusals."""

from __future__ import annotations

import pytest

from hostler.core.targets.states import Refuse
from hostler.hosting.targets.refusals import message

_TOO_LARGE = "The model takes 101 bytes of memory, and an instance of this endpoint has 100."
_BY_PINS = (
    "The model takes 30 bytes of memory, and an instance of this endpoint has 100, of which 80 are held by models"
    " that the tag hostler:pin has stay: pin fewer."
)
_MANY_BYTES = (
    "The model takes 2621440 bytes (2.5MiB) of memory, and an instance of this endpoint has 8388608 (8.0MiB), of"
    " which 6291456 (6.0MiB) are held by models that the tag hostler:pin has stay: pin fewer."
)
_FULL = "The container has no memory for the model, and no other model is left to unload for it."
_FULL_OF_PINNED = (
    "The container has no memory for the model, and no other model is left to unload for it but 2 that the tag"
    " hostler:pin has stay."
)


@pytest.mark.parametrize(
    ("refuse", "text"),
    [
        (Refuse("a", "too_big", needed=101, budget=100, pinned_bytes=80), _TOO_LARGE),
        (Refuse("a", "too_big", by_pins=True, needed=30, budget=100, pinned_bytes=80), _BY_PINS),
        (Refuse("a", "too_big", by_pins=True, needed=5 * 2**19, budget=2**23, pinned_bytes=3 * 2**21), _MANY_BYTES),
        (Refuse("a", "no_memory"), _FULL),
        (Refuse("a", "no_memory", pinned=2), _FULL_OF_PINNED),
    ],
)
def test_a_refusal_for_lack_of_memory_has_its_cause_and_its_cure(refuse: Refuse, text: str) -> None:
    assert message(refuse) == text


def test_the_message_of_a_failed_load_is_passed_on() -> None:
    assert message(Refuse("a", "bad", "bad pickle", 500)) == "bad pickle"
