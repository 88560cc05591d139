"""The targets of every instance as people see them: `hostler ls --targets`. It reads, and changes nothing."""

from __future__ import annotations

import heapq
import math
import re
from collections.abc import Iterable, Iterator, Sequence
from fnmatch import fnmatchcase
from typing import NamedTuple

from hostler.core.targets.states import LOADED, ORDERS, State, Target
from hostler.hosting.targets.runtime import TargetRuntime

# State -> its name in answers, where that differs.
_SHOWN: dict[State, str] = {"out_of_memory": "crowded", "reload_pending": "recalled"}


class _Entry(NamedTuple):
    """A target on an instance; or on none, if the operator's policy preloads or pins it."""

    runtime: TargetRuntime
    target: Target
    instance: str = ""
    pinned: bool = False
    loads: int = 0


def list_targets(
    runtimes: Iterable[TargetRuntime], endpoint: str, match: str, order: str, limit: int, now: float
) -> dict[str, object]:
    """Return the first `limit` targets (0: all) as JSON values; `total`, how many there are; and `endpoints`, the
    multi-model ones, with what holds for all of their targets.

    `endpoint`: list only the endpoint with that key, unless empty. `match`: list only names that match this shell
    pattern, or contain it if it has no `*`, `?` or `[...]`. Times are seconds, sizes bytes.
    """
    pattern = match if re.search(r"[*?]|\[.+\]", match) else f"*{match}*"
    by = ORDERS[order]
    selected = [runtime for runtime in runtimes if endpoint in ("", runtime.key)]
    entries = [entry for entry in _entries(selected) if not match or fnmatchcase(entry.target.name, pattern)]

    def rank(entry: _Entry) -> tuple[str, str, float, str, str]:
        return (entry.runtime.key, entry.runtime.variant, by(entry.target), entry.target.name, entry.instance)

    first = heapq.nsmallest(limit, entries, key=rank) if limit else sorted(entries, key=rank)
    ttls = {runtime.key: runtime.policy.idle_ttl for runtime in selected}
    return {
        "targets": [_to_json(entry, now) for entry in first],
        "total": len(entries),
        "endpoints": [_endpoint(key) | {"idle_ttl": ttl or None} for key, ttl in sorted(ttls.items())],
    }


def _entries(runtimes: Sequence[TargetRuntime]) -> Iterator[_Entry]:
    """Yield the targets on instances, then those of a policy that are on no instance of either fleet of the variant."""
    present = set()
    for runtime in runtimes:
        for at, target in runtime.instances.all():
            present.add((runtime.key, runtime.variant, target.name))
            pinned = at.cache.is_pinned(target.name)
            yield _Entry(runtime, target, at.instance.id, pinned, at.history(target.name).loads)
    for runtime in runtimes:
        for name in dict.fromkeys((*runtime.policy.preload, *runtime.policy.pinned)):
            if (key := (runtime.key, runtime.variant, name)) not in present:
                present.add(key)
                yield _Entry(runtime, Target(name), pinned=runtime.policy.pins(name))


def _endpoint(key: str) -> dict[str, object]:
    region, _, endpoint = key.partition("/")
    return {"region": region, "endpoint": endpoint}


def _to_json(entry: _Entry, now: float) -> dict[str, object]:
    runtime, target, instance, pinned, loads = entry
    loaded = target.state in LOADED
    reason = "" if instance else runtime.failures.get(target.name, "")
    leaves = runtime.policy.expires(target.name, target.used, target.calls) if loaded and not pinned else math.inf
    return _endpoint(runtime.key) | {
        "variant": runtime.variant,
        "instance": instance or None,
        "target": target.name,
        "state": "failed" if reason else _SHOWN.get(target.state, target.state),
        "memory": target.size or None,
        "pinned": pinned,
        "preload": target.name in runtime.policy.preload,
        "idle": round(max(0.0, now - target.used), 1) if loaded else None,
        "leaves_in": round(max(0.0, leaves - now), 1) if leaves < math.inf else None,
        "calls": target.calls,
        "loads": loads,
        "reason": reason,
    }
