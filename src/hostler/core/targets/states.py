"""The life of a target on one instance: its states as a table, and the commands that it gives rise to.

What leads to which event is decided in modelcache.py.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

from hostler.core.state_table import StateTable

State = Literal[
    "absent", "fetching", "queued", "loading", "resident", "withdrawing", "crowded", "unloading", "recalled"
]
Kind = Literal["missing", "bad", "too_big", "no_memory", "unavailable", "not_ready"]  # as wire.link.Refused has them

# fetching: its artifact is on the way to the disk. queued: on disk, waits in line for room. loading, resident: as they
# say. withdrawing: resident, but the gateways were asked to stop sending. crowded: resident, but the container lacked
# memory to run it; waits for another target to leave. unloading: nobody sends to it, the container drops it. recalled:
# wanted again while it was being dropped.
TARGET: StateTable[State] = StateTable(
    "target",
    {
        ("absent", "need"): "fetching",
        ("absent", "restore"): "resident",
        ("fetching", "fetched"): "queued",
        ("fetching", "fetch_failed"): "absent",
        ("queued", "start"): "loading",
        ("queued", "too_big"): "absent",
        ("queued", "no_memory"): "absent",
        ("queued", "abandoned"): "absent",
        ("loading", "loaded"): "resident",
        ("loading", "too_big"): "unloading",
        ("loading", "refused"): "queued",
        ("loading", "load_failed"): "absent",
        ("resident", "withdraw"): "withdrawing",
        ("resident", "crowded"): "crowded",
        ("resident", "gone"): "absent",
        ("withdrawing", "idle"): "unloading",
        ("withdrawing", "busy"): "resident",
        ("withdrawing", "need"): "resident",
        ("withdrawing", "crowded"): "crowded",
        ("withdrawing", "gone"): "absent",
        ("crowded", "relieved"): "resident",
        ("crowded", "no_memory"): "resident",
        ("crowded", "abandoned"): "resident",
        ("crowded", "gone"): "fetching",
        ("unloading", "unloaded"): "absent",
        ("unloading", "need"): "recalled",
        ("recalled", "unloaded"): "fetching",
        ("recalled", "abandoned"): "unloading",
    },
)
IN_MEMORY = frozenset({"loading", "resident", "withdrawing", "crowded", "unloading", "recalled"})
HELD = frozenset({"resident", "withdrawing", "crowded"})
LEAVING = frozenset({"withdrawing", "unloading", "recalled"})
STAYING = IN_MEMORY - LEAVING
COMING = frozenset({"fetching", "queued", "loading", "crowded", "recalled"})


@dataclass(slots=True)
class Target:
    """A target as one instance has it."""

    name: str
    state: State = "absent"
    size: int = 0  # bytes: measured once it was loaded, expected before; equals the Lru's while it is in memory
    generation: int = 0  # of its last publication here; never used for another publication of its cache
    used: float = 0.0  # when somebody last wanted it, or it was found in use, or it came; on the clock of its cache
    calls: int = 0  # how often gateways said that they had used it, since it came

    def __str__(self) -> str:
        return f"{self.name} {self.state} {self.size}" + (f" g{self.generation}" if self.generation else "")


@dataclass(frozen=True, slots=True)
class Fetch:
    """Bring the target's artifact to the disk: answer fetched or fetch_failed."""

    target: str


@dataclass(frozen=True, slots=True)
class Load:
    """Have the container load the target: answer loaded, load_failed, or refused."""

    target: str


@dataclass(frozen=True, slots=True)
class Publish:
    """Tell the gateways that the target is resident: they send whatever waits. Idempotent per generation."""

    target: str
    generation: int


@dataclass(frozen=True, slots=True)
class Withdraw:
    """Ask all gateways to stop sending to the target: answer idle if nothing runs anywhere, else busy."""

    target: str
    generation: int


@dataclass(frozen=True, slots=True)
class Unload:
    """Have the container drop the target: answer unloaded once it is no longer there."""

    target: str


@dataclass(frozen=True, slots=True)
class Refuse:
    """Answer everybody who waits for the target with this error."""

    target: str
    kind: Kind
    message: str
    status: int = 0  # of the container's answer
    by_pins: bool = False  # only what is pinned here is in its way: another instance may have room


Command = Fetch | Load | Publish | Withdraw | Unload | Refuse
