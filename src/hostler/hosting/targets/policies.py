"""The target policy of each endpoint, from its tags."""

from __future__ import annotations

from collections.abc import Mapping

from hostler.core.targets import tags as target_tags
from hostler.core.targets.tags import TargetPolicy


class TargetPolicies:
    """By endpoint key. `default`: of an endpoint without such tags."""

    def __init__(self, default: TargetPolicy) -> None:
        self._default = default
        self._policies: dict[str, TargetPolicy] = {}

    def of(self, key: str) -> TargetPolicy:
        return self._policies.get(key, self._default)

    def read(self, tags: Mapping[str, Mapping[str, str]]) -> set[str]:
        """Read the tags of all endpoints, by key. Return the keys of those whose policy has changed."""
        before = self._policies
        self._policies = {key: target_tags.read(of_endpoint, self._default) for key, of_endpoint in tags.items()}
        return {key for key in {*before, *self._policies} if before.get(key, self._default) != self.of(key)}
