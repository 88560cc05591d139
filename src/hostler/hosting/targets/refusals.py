"""The texts of a model cache's refusals, as a gateway's callers read them."""

from __future__ import annotations

from hostler.core.targets.states import Refuse
from hostler.text import exact_size


def message(refuse: Refuse) -> str:
    """Return the refusal's own message, or, if the cache itself refuses, the sentence for its kind and facts."""
    match refuse.kind:
        case "too_big":
            return _too_big(refuse)
        case "no_memory":
            return _no_memory(refuse)
        case _:
            return refuse.message


def _too_big(refuse: Refuse) -> str:
    text = f"The model takes {exact_size(refuse.needed, ' bytes')} of memory, and an instance of this endpoint has"
    text += f" {exact_size(refuse.budget)}"
    if refuse.by_pins:
        text += f", of which {exact_size(refuse.pinned_bytes)} are held by models that the tag hostler:pin has stay:"
        text += " pin fewer"
    return f"{text}."


def _no_memory(refuse: Refuse) -> str:
    text = "The container has no memory for the model, and no other model is left to unload for it"
    return text + (f" but {refuse.pinned} that the tag hostler:pin has stay." if refuse.pinned else ".")
