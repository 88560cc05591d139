"""The gateways as control sees them: the link's server side.

It owns what is published (routes, residents) and under which version, and who has acknowledged it. It decides
nothing: what to publish comes from the reconciler and from the multi-model runtime, what the gateways say goes to
`Listener`.
"""

from __future__ import annotations

import asyncio
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from functools import partial
from typing import Protocol

from hostler.hosting import clock
from hostler.wire import gateway_messages
from hostler.wire.frames import Frames

SILENCE = 5.0  # seconds after which a linked gateway that says nothing is ended by the host


class Listener(Protocol):
    """Whoever wants to hear what gateways say. Called on the loop; must not block."""

    def acknowledged(self) -> None: ...
    def needed(self, gateway: str, need: gateway_messages.TargetRequest) -> None: ...
    def hit(self, hits: tuple[gateway_messages.Hit, ...]) -> None: ...
    def gone(self, gone: gateway_messages.TargetMissing) -> None: ...
    def abandoned(self, gateway: str, abandoned: gateway_messages.Abandoned) -> None: ...
    def unlinked(self, gateway: str) -> None: ...


@dataclass(eq=False)
class Gateway:
    """One linked gateway."""

    name: str
    pid: int
    frames: Frames[gateway_messages.Up]
    version: int = 0  # acknowledged under our epoch
    heard: float = 0.0  # by clock.now
    counts: gateway_messages.Counts | None = None


@dataclass
class _Withdrawal:
    """A withdraw that some gateways have not answered yet."""

    waiting: set[Gateway]
    answered: Callable[[bool], None]
    busy: bool = False


ResidentKey = tuple[str, str, str, str]  # endpoint key, variant, target, instance


@dataclass
class Gateways:
    """Publishes to every gateway, and collects their answers.

    Until `open()` a gateway that links gets nothing, so that it keeps what an earlier control told it. `expected`
    is how many gateways there are once all are linked.
    """

    expected: int = 1
    epoch: str = field(default_factory=lambda: secrets.token_hex(8))
    version: int = 1
    linked: set[Gateway] = field(default_factory=set)
    routes: dict[str, gateway_messages.Route] = field(default_factory=dict)
    residents: dict[ResidentKey, gateway_messages.SetResident] = field(default_factory=dict)

    def __post_init__(self) -> None:
        self._opened = asyncio.Event()
        self._withdrawals: dict[tuple[ResidentKey, int], _Withdrawal] = {}
        self._since: dict[str, int] = {}  # endpoint key -> version of its route
        self._named: dict[str, frozenset[str]] = {}  # endpoint key -> the instances that its route names
        self._draining: dict[str, set[Gateway]] = {}  # instance -> gateways that have answered
        self._drained = asyncio.Condition()
        self._finished: dict[
            str, gateway_messages.Counts
        ] = {}  # last counts of gateways that are gone, by name and pid

    # --- what is published ----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Residency is rebuilt: snapshots may go out."""
        self._opened.set()

    def set_route(self, route: gateway_messages.Route) -> None:
        if self.routes.get(route.key) == route:
            return
        before = self._named.get(route.key, frozenset())
        named = frozenset(place.instance for variant in route.variants for place in variant.instances)
        self.version += 1
        self.routes[route.key], self._named[route.key], self._since[route.key] = route, named, self.version
        new = tuple(resident for resident in self.residents.values() if resident.instance in named - before)
        self._send(gateway_messages.SetRoute(self.version, route, new))

    def drop_route(self, key: str) -> None:
        if self.routes.pop(key, None) is None:
            return
        del self._named[key], self._since[key]
        self.version += 1
        self._send(gateway_messages.DropRoute(self.version, key))

    def publish(self, resident: gateway_messages.SetResident) -> None:
        """A target of an instance that no route names yet is told of together with the first that does."""
        self.residents[_key(resident)] = resident
        if self._is_named(resident):
            self._send(resident)

    def _is_named(self, resident: gateway_messages.SetResident) -> bool:
        return resident.instance in self._named.get(resident.key, ())

    async def drain(self, instance: str, timeout: float) -> None:
        """Return when no gateway has anything on its way to an instance that no route names any more, or in time.

        A gateway that is not linked (control restarted) may still send there by an earlier control's word: it is
        waited for, and asked as soon as it has the snapshot.
        """
        answered = self._draining[instance] = set()
        self._send(gateway_messages.Drain(instance))
        try:
            async with asyncio.timeout(timeout), self._drained:
                await self._drained.wait_for(lambda: len(self.linked) >= self.expected and self.linked <= answered)
        except TimeoutError:
            pass
        finally:
            del self._draining[instance]

    def forget_instance(self, instance: str) -> None:
        """An instance is gone: its residents are no longer told to anyone (gateways forget them with the route)."""
        for key in [key for key in self.residents if key[3] == instance]:
            del self.residents[key]
        for (key, generation), withdrawal in list(self._withdrawals.items()):
            if key[3] == instance:
                self._withdrawals.pop((key, generation), None)
                withdrawal.answered(False)

    def refuse(self, refused: gateway_messages.Refused) -> None:
        self._send(refused)

    def withdraw(self, message: gateway_messages.Withdraw, answered: Callable[[bool], None]) -> None:
        """Ask every gateway to stop sending a target to an instance; `answered(busy)` is called once, later."""
        key = _key(message)
        self.residents.pop(key, None)
        withdrawal = _Withdrawal(set(self.linked), answered)
        self._withdrawals[(key, message.generation)] = withdrawal
        self._send(message)
        if not withdrawal.waiting:
            asyncio.get_running_loop().call_soon(self._settle, (key, message.generation))

    def in_force(self, key: str) -> bool:
        """Whether every linked gateway has acknowledged the endpoint's route as it is, and there is one."""
        return bool(self.linked) and all(g.version >= self._since[key] for g in self.linked)

    def unanswered(self) -> list[str]:
        """What some gateway was asked and has not answered yet: to drain an instance, to stop sending to a target."""
        withdrawals = (f"withdraw {key[2]} from {key[3]} g{generation}" for key, generation in self._withdrawals)
        return [*(f"drain {instance}" for instance in self._draining), *withdrawals]

    # --- what gateways count --------------------------------------------------------------------------------------

    def counts(self) -> list[gateway_messages.Counts]:
        """The last counts of every gateway there ever was under this control."""
        return [*self._finished.values(), *(g.counts for g in self.linked if g.counts)]

    def silent(self, now: float) -> list[int]:
        """Pids of linked gateways that have said nothing for too long."""
        return [g.pid for g in self.linked if now - g.heard > SILENCE]

    # --- the link -------------------------------------------------------------------------------------------------

    async def serve(self, path: str, listener: Listener) -> asyncio.AbstractServer:
        """Take gateways' links at `path`; their messages go to `listener`."""
        return await asyncio.start_unix_server(partial(self._accept, listener), path)

    async def _accept(self, listener: Listener, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        frames: Frames[gateway_messages.Up] = Frames(reader, writer, gateway_messages.Up)
        try:
            hello = await frames.receive()
            if isinstance(hello, gateway_messages.Hello):
                await self._opened.wait()
                await self._listen(Gateway(hello.gateway, hello.pid, frames, heard=clock.now()), listener)
        finally:
            frames.close()

    async def _listen(self, gateway: Gateway, listener: Listener) -> None:
        """Tell it everything, and listen to it until it is gone."""
        frames = gateway.frames
        self.linked.add(gateway)
        residents = tuple(resident for resident in self.residents.values() if self._is_named(resident))
        frames.send(gateway_messages.Snapshot(self.epoch, self.version, tuple(self.routes.values()), residents))
        for instance in self._draining:
            frames.send(gateway_messages.Drain(instance))
        try:
            while (message := await frames.receive()) is not None:
                gateway.heard = clock.now()
                await self._heard(gateway, message, listener)
        finally:
            self._lost(gateway)
            listener.unlinked(gateway.name)
            async with self._drained:
                self._drained.notify_all()

    async def _heard(self, gateway: Gateway, message: gateway_messages.Up, listener: Listener) -> None:
        match message:
            case gateway_messages.TargetRequest():
                listener.needed(gateway.name, message)
            case gateway_messages.Hits():
                listener.hit(message.hits)
            case gateway_messages.Withdrawn():
                listener.hit(message.hits)
                self._answered(gateway, (_key(message), message.generation), message.busy)
            case gateway_messages.Drained(instance):
                async with self._drained:
                    self._draining.get(instance, set()).add(gateway)
                    self._drained.notify_all()
            case gateway_messages.TargetMissing():
                listener.gone(message)
            case gateway_messages.Abandoned():
                listener.abandoned(gateway.name, message)
            case gateway_messages.Counts():
                gateway.counts = message
            case gateway_messages.Ack() if message.epoch == self.epoch:
                gateway.version = max(gateway.version, message.version)
                listener.acknowledged()

    def _answered(self, gateway: Gateway, key: tuple[ResidentKey, int], busy: bool) -> None:
        withdrawal = self._withdrawals.get(key)
        if withdrawal is None:
            return
        withdrawal.waiting.discard(gateway)
        withdrawal.busy |= busy
        self._settle(key)

    def _settle(self, key: tuple[ResidentKey, int]) -> None:
        withdrawal = self._withdrawals.get(key)
        if withdrawal is not None and not withdrawal.waiting:
            del self._withdrawals[key]
            withdrawal.answered(withdrawal.busy)

    def _lost(self, gateway: Gateway) -> None:
        self.linked.discard(gateway)
        if gateway.counts:
            self._finished[f"{gateway.name}.{gateway.pid}"] = gateway.counts
        for key in list(self._withdrawals):  # what it had in flight died with it
            self._answered(gateway, key, busy=False)

    def _send(self, message: gateway_messages.Down) -> None:
        for gateway in self.linked:
            gateway.frames.send(message)


def _key(message: gateway_messages.SetResident | gateway_messages.Withdraw | gateway_messages.Withdrawn) -> ResidentKey:
    return (message.key, message.variant, message.target, message.instance)
