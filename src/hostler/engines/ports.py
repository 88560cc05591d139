"""The ports of an instance's containers, which share a network. Source: §5.2 of docs/specification.md."""

from __future__ import annotations

from hostler import contract

LAST = 25_999  # of the safe range of a container that is alone, as AWS has it
_FIRST_SAFE, _SAFE = 25_000, 500  # of several: a range for each


def port(position: int) -> int:
    """Return the port on which a container should listen."""
    return contract.DEFAULT_PORT + position


def safe_range(position: int, *, alone: bool) -> str:
    """Return the range of ports that a container may use."""
    if alone:
        return f"{_FIRST_SAFE}-{LAST}"
    first = _FIRST_SAFE + _SAFE * position
    return f"{first}-{first + _SAFE - 1}"
