"""What gateways that are not linked had counted: of each process of late, and of all before them in sums."""

from __future__ import annotations

from msgspec import structs

from hostler.wire.gateway_messages import Counts, VariantCount

_KEPT = 64  # processes that may link again, and count on


class GatewayCounts:
    """A process's counts are sums since it began: they count once, whether it is linked or gone."""

    def __init__(self) -> None:
        self._of_process: dict[str, Counts] = {}  # the latest to leave last
        self._sums: dict[tuple[str, str], VariantCount] = {}  # by endpoint key and variant

    def leave(self, process: str, counts: Counts) -> None:
        """The process is linked no more."""
        self._of_process.pop(process, None)
        self._of_process[process] = counts
        if len(self._of_process) > _KEPT:
            oldest = self._of_process.pop(next(iter(self._of_process)))
            for count in oldest.variants:
                before = self._sums.get((count.key, count.variant))
                self._sums[count.key, count.variant] = _sum(before, count) if before else count

    def resume(self, process: str) -> Counts | None:
        """The process is linked again: return what it had counted."""
        return self._of_process.pop(process, None)

    def all(self) -> list[Counts]:
        """Return the counts of all that are gone."""
        return [Counts(tuple(self._sums.values()), 0, 0), *self._of_process.values()]


def _sum(one: VariantCount, other: VariantCount) -> VariantCount:
    """Return the counts of both, which are of the same variant."""
    names = [field.name for field in structs.fields(VariantCount) if field.name not in ("key", "variant", "buckets")]
    sums = {name: getattr(one, name) + getattr(other, name) for name in names}
    return structs.replace(one, **sums, buckets=tuple(map(sum, zip(one.buckets, other.buckets, strict=True))))
