"""The life of a target on one instance: its states as a table, and the commands that it gives rise to.

Which event happens is decided in model_cache.py.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Literal

from hostler.core.state_table import StateTable

State = Literal[
    "absent", "fetching", "queued", "loading", "resident", "withdrawing", "out_of_memory", "unloading", "reload_pending"
]
RefusalKind = Literal[
    "missing", "bad", "too_big", "no_memory", "unavailable", "not_ready"
]  # see gateway_messages.Refused

# fetching: the artifact is on the way to the disk. queued: it is on disk, and waits for room. loading: the container
# loads it. resident: gateways send to it. withdrawing: resident, but the gateways were asked to stop sending.
# out_of_memory: resident, but the container had no memory to run it; waits for another target to leave. unloading: no
# gateway sends to it, the container drops it. reload_pending: requested again while the container drops it.
TARGET: StateTable[State] = StateTable(
    "target",
    {
        ("absent", "request"): "fetching",
        ("absent", "restore"): "resident",
        ("fetching", "fetched"): "queued",
        ("fetching", "fetch_failed"): "absent",
        ("fetching", "unchanged"): "absent",
        ("queued", "start"): "loading",
        ("queued", "too_big"): "absent",
        ("queued", "no_memory"): "absent",
        ("queued", "abandoned"): "absent",
        ("loading", "loaded"): "resident",
        ("loading", "too_big"): "unloading",
        ("loading", "refused"): "queued",
        ("loading", "load_failed"): "absent",
        ("resident", "withdraw"): "withdrawing",
        ("resident", "out_of_memory"): "out_of_memory",
        ("resident", "missing"): "absent",
        ("withdrawing", "idle"): "unloading",
        ("withdrawing", "busy"): "resident",
        ("withdrawing", "request"): "resident",
        ("withdrawing", "out_of_memory"): "out_of_memory",
        ("withdrawing", "missing"): "absent",
        ("out_of_memory", "relieved"): "resident",
        ("out_of_memory", "no_memory"): "resident",
        ("out_of_memory", "abandoned"): "resident",
        ("out_of_memory", "missing"): "fetching",
        ("unloading", "unloaded"): "absent",
        ("unloading", "request"): "reload_pending",
        ("reload_pending", "unloaded"): "fetching",
        ("reload_pending", "abandoned"): "unloading",
    },
)
IN_MEMORY = frozenset({"loading", "resident", "withdrawing", "out_of_memory", "unloading", "reload_pending"})
LOADED = frozenset({"resident", "withdrawing", "out_of_memory"})
LEAVING = frozenset({"withdrawing", "unloading", "reload_pending"})
STAYING = IN_MEMORY - LEAVING
UNANSWERED = frozenset({"fetching", "queued", "loading", "out_of_memory", "reload_pending"})


@dataclass(slots=True)
class Target:
    """A target as one instance has it."""

    name: str
    state: State = "absent"
    size: int = 0  # bytes: measured once it was loaded, expected before
    generation: int = 0  # of its last publication here; never used for another publication of its cache
    used: float = 0.0  # when it was last requested, found in use, or loaded; on the clock of its cache
    calls: int = 0  # uses that gateways have reported since it came
    awaited: bool = False  # callers wait for it here, as far as is known
    version: str = ""  # of the object that was fetched
    failure: Refuse | None = None  # of a version that failed shortly before it was requested, until it is fetched
    tries: int | None = None  # loads still to try after refusals (507); None: no refusal since it was requested

    def __str__(self) -> str:
        return f"{self.name} {self.state} {self.size}" + (f" g{self.generation}" if self.generation else "")


# What people can sort targets by: the smallest key comes first, and names decide between equals.
ORDERS: dict[str, Callable[[Target], float]] = {
    "use": lambda target: -target.used,  # the last used first
    "calls": lambda target: -target.calls,
    "memory": lambda target: -target.size,
    "name": lambda target: 0,
}


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring the target's artifact to the disk. Then: fetched or fetch_failed.

    `failed`: a version that has just failed. If it is still present, nothing is fetched. Then: unchanged.
    """

    target: str
    failed: str = ""


@dataclass(frozen=True, slots=True)
class Load:
    """Have the container load the target. Then: loaded, load_failed or refused."""

    target: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Publish to the gateways that the target is resident: they send what waits. Idempotent per generation."""

    target: str
    generation: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Ask all gateways to stop sending to the target. Then: idle if no request runs anywhere, else busy."""

    target: str
    generation: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Have the container drop the target. Then: unloaded, once it is no longer there."""

    target: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer all requests that wait for the target with this error.

    The kinds `too_big` and `no_memory` are the cache's own: they have facts instead of a message.
    """

    target: str
    kind: RefusalKind
    message: str = ""  # of the fetch or the load
    status: int = 0  # of the container's answer
    by_pins: bool = False  # only pinned targets are in its way: another instance may have room
    away: bool = False  # the instance's storage cannot be asked: another's may
    needed: int = 0  # `too_big`: bytes that the target takes, ...
    budget: int = 0  # ... that the instance has, ...
    pinned_bytes: int = 0  # ... and that its pinned targets take
    pinned: int = 0  # `no_memory`: targets that are pinned there
    version: str = ""  # of the object, if that is at fault: another version may be served


Command = Fetch | Load | Publish | Withdraw | Unload | Refuse
