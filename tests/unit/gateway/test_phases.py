"""Every event in every phase of an invocation has its answer, which is that of the table. No sockets."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from random import Random
from typing import get_args

import pytest

from hostler.core.state_table import InvalidTransition
from hostler.gateway import errors
from hostler.gateway.invoke.invocation import Attempt, Invocation
from hostler.gateway.invoke.phases import PHASES, Event, Phase
from hostler.gateway.invoke.resolve import InvokeRequest, resolve
from hostler.gateway.main import Gateway
from hostler.settings import Settings
from hostler.wire.gateway_messages import Container, InstanceAddress, Pool, Route, SetResident, Snapshot, Variant
from hostler.wire.http_exchange import CallFailed, Exchange
from hostler.wire.http_request import Request

KEY = "us-east-1/ep"
EVENTS: tuple[Event, ...] = get_args(Event)
ALL_PHASES: tuple[Phase, ...] = get_args(Phase)
WAYS: dict[Phase, tuple[Event, ...]] = {  # to each phase
    "arriving": (),
    "waiting": ("wait",),
    "called": ("call",),
    "failing": ("call", "error"),
    "answering": ("call", "begin"),
    "over": ("reject",),
}


class Peer:
    """The connection of a request whose peer takes everything: it is its own transport."""

    def __init__(self) -> None:
        self.transport = self
        self.closing = False
        self.written = b""
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.written += data

    def abort(self) -> None:
        self.aborted = True

    def get_write_buffer_size(self) -> int:
        return 0

    def pause_body(self, request: Request) -> None: ...
    def resume_body(self, request: Request) -> None: ...
    def regulate(self) -> None: ...
    def answered(self, request: Request) -> None: ...


class Stage:
    """A gateway that listens nowhere, and one invocation of its multi-model endpoint."""

    def __init__(self, folder: Path) -> None:
        self.context = Gateway(folder, "g", Settings(data=folder), Random(1)).context
        instance = InstanceAddress("i1", ("unix:/nowhere",))
        variant = Variant("v", 1.0, (Container("primary", True),), (Pool(1, 1.0, (instance,)),))
        self.context.routes.snapshot(Snapshot("e", 0, (Route(KEY, (variant,)),), ()))
        self.context.in_flight += 1
        self.peer = Peer()
        request = Request(self.peer)  # type: ignore[arg-type]
        request.complete = True
        headers = {"x-amzn-sagemaker-target-model": "a"}
        asked = InvokeRequest("the-id", "us-east-1", "ep", headers, 0, True)
        self.invocation = Invocation(self.context, request, asked, resolve(self.context.routes, asked, 0.0))
        self.happen: dict[Event, Callable[[], None]] = {
            "call": self._call,
            "wait": self._wait,
            "error": lambda: self.invocation.move("error"),
            "begin": lambda: self.invocation.begin(self.exchange()),
            "answer": lambda: self.invocation.answer(self.exchange()),
            "reject": self._reject,
            "end": lambda: self.invocation.end(self.exchange()),
            "cut": lambda: self.invocation.cut(CallFailed("gone", started=True)),
            "leave": self.invocation.client_gone,
        }

    def exchange(self) -> Exchange:
        """The exchange that lasts, or one that never was: with an answer."""
        attempt = self.invocation.attempt
        exchange = attempt.exchange if attempt else None
        if exchange is None:
            exchange = Exchange(set(), Attempt(), "unix:/nowhere", b"", 0.0, 0)
        exchange.status = 200
        return exchange

    def _reject(self) -> None:
        if self.invocation.phase == "waiting":
            self.invocation.timed_out()
        else:
            self.invocation.reject(errors.no_routes())

    def _call(self) -> None:
        """Send it, as its target is resident."""
        self.context.routes.set_resident(SetResident(KEY, "v", 1, "a", "i1", 1, "unix:/nowhere", "m"))
        self._again()

    def _wait(self) -> None:
        """Send it, as its target is resident no more."""
        self.context.routes.withdraw(self.invocation.target_key, "i1", 1)
        self._again()

    def _again(self) -> None:
        if self.invocation.attempt is not None and self.invocation.phase in ("called", "failing"):
            self.invocation.attempt.leave()
        if self.invocation.phase == "waiting":
            self.context.dequeue(self.invocation)
        self.invocation.send()


@pytest.mark.parametrize("event", EVENTS)
@pytest.mark.parametrize("phase", ALL_PHASES)
async def test_every_event_in_every_phase_does_what_the_table_says(tmp_path: Path, phase: Phase, event: Event) -> None:
    stage = Stage(tmp_path)
    for earlier in WAYS[phase]:
        stage.happen[earlier]()
    assert stage.invocation.phase == phase
    if not PHASES.knows(phase, event):
        with pytest.raises((InvalidTransition, KeyError)):
            stage.happen[event]()
        return
    stage.happen[event]()
    assert stage.invocation.phase == PHASES.next(phase, event, "")
    if phase != "over" and stage.invocation.phase == "over":
        assert not stage.context.in_flight
        assert not stage.context.pending
        assert not stage.context.routes.in_flight()
    for exchange in [*stage.context.connections.active]:
        exchange.abort()
    stage.context.connections.close()


def test_the_picture_in_the_decision_is_the_table() -> None:
    decision = Path(__file__).parents[3] / "docs/decisions/0022-phases-and-pools.md"
    assert f"```mermaid\n{PHASES.mermaid()}\n```" in decision.read_text()


def test_every_phase_can_be_reached_and_left_and_over_is_the_end() -> None:
    assert set(PHASES.transitions.values()) | {"arriving"} == set(ALL_PHASES)
    assert {event for _, event in PHASES.transitions} == set(EVENTS)
    assert all(PHASES.knows(phase, "leave") for phase in ALL_PHASES)
    assert {after for (phase, _), after in PHASES.transitions.items() if phase == "over"} == {"over"}
