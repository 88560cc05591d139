"""Where a control stands: on a machine, under a host, or alone in a cluster. What it runs is the same in both."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Collection, Coroutine
from dataclasses import dataclass
from pathlib import Path

from hostler.engines.engine import Engine
from hostler.engines.kubernetes.agent_links import AgentLinks
from hostler.engines.rooms import Rooms
from hostler.store.lives import Life
from hostler.wire.door import Doorman


@dataclass(frozen=True)
class Station:
    """`run`: the folder of the sockets for this machine; None: all come over a network. `doorman`: judges those.

    `needs_gateway`: whether it is ready only once a gateway is linked; else whoever asks has come through one, or asks
    for itself. `agents`: the links with the agents of instances elsewhere, if there are such. `leave`: what is to be
    done at its end.
    """

    engine: Engine
    roster: Callable[[], Collection[str]]  # see Gateways
    end_gateway: Callable[[int], Coroutine[object, None, None]]  # by pid; see Reconciler
    leave: Callable[[], Awaitable[None]]
    run: Path | None = None
    doorman: Doorman | None = None
    needs_gateway: bool = False
    agents: AgentLinks | None = None


Open = Callable[[Rooms, Life, Callable[[], None]], Awaitable[Station]]  # the last: called when a pass may be due
