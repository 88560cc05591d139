"""Endpoint and instance states as tables; status is a fold over facts, never set by hand."""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True)
class VariantView:
    """What DescribeEndpoint shows of a variant."""

    name: str
    weight: float
    current_count: int
    desired_count: int


@dataclass(frozen=True)
class EndpointView:
    """What DescribeEndpoint shows of an endpoint's life (§2.5, §2.10)."""

    status: str
    failure_reason: str
    variants: tuple[VariantView, ...]
