"""Control's side of the links with the gateways.

It owns the published routes and residents with their versions, and which gateways have acknowledged them. It decides
nothing: the reconciler and the target runtimes publish, and gateway_reports.py takes in what gateways report.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import secrets
from collections.abc import Callable, Collection
from dataclasses import dataclass, field

from hostler.hosting import clock
from hostler.hosting.gateway_counts import GatewayCounts
from hostler.wire import gateway_messages
from hostler.wire.door import Enter, Knock, Peer
from hostler.wire.frames import Frames

log = logging.getLogger("hostler.gateways")

SILENCE = 5.0  # seconds without a message after which a gateway's link is closed, and the host ends the gateway
_BACKLOG = 16 * 2**20  # bytes, beside a snapshot, that a gateway has not read; past it its link begins anew


Receive = Callable[[str, gateway_messages.Up], None]  # a gateway's message, by the gateway's name
Unlinked = Callable[[str], None]  # by name: the gateway is gone


@dataclass(eq=False)
class Gateway:
    """One linked gateway."""

    name: str
    pid: int
    frames: Frames[gateway_messages.Up]
    knows_faults: bool = False
    version: int = 0  # acknowledged in this control's epoch
    last_message: float = 0.0  # by clock.now
    room: int = _BACKLOG  # bytes that may wait for it to read them
    counts: gateway_messages.Counts | None = None

    @property
    def process(self) -> str:
        """What no other process is called."""
        return f"{self.name}.{self.pid}"

    def leave_counts(self, gone: GatewayCounts) -> None:
        """Leave its last counts to those of gateways that are gone."""
        if self.counts:
            gone.leave(self.process, self.counts)
            self.counts = None


@dataclass
class _Withdrawal:
    """A Withdraw that some gateways have not answered yet."""

    waiting: set[Gateway]
    answered: Callable[[bool], None]
    busy: bool = False


ResidentKey = tuple[str, str, str, str]  # endpoint key, variant, target, instance


@dataclass
class Gateways:
    """Publishes to every gateway, and collects their answers.

    Until `open()` a gateway that links gets nothing, so that it keeps what an earlier control published. `roster`:
    the names of the gateways that there are, linked or not. `term`, `api` and `passkey`: see Snapshot.
    """

    roster: Callable[[], Collection[str]] = lambda: ()
    term: int = 0
    api: str = ""
    passkey: str = ""
    epoch: str = field(default_factory=lambda: secrets.token_hex(8))
    version: int = 1
    linked: set[Gateway] = field(default_factory=set)
    routes: dict[str, gateway_messages.Route] = field(default_factory=dict)
    residents: dict[ResidentKey, gateway_messages.SetResident] = field(default_factory=dict)
    faults: tuple[gateway_messages.FaultScope, ...] = ()

    def __post_init__(self) -> None:
        self._now = clock.of_loop()
        self._opened = asyncio.Event()
        self._withdrawals: dict[tuple[ResidentKey, int], _Withdrawal] = {}
        self._since: dict[str, int] = {}  # endpoint key -> version of its route
        self._routed: dict[str, frozenset[str]] = {}  # endpoint key -> the instances in its route
        self._draining: dict[str, set[Gateway]] = {}  # instance -> gateways that have answered Drain
        self._answers = asyncio.Condition()  # notified when a gateway has answered, or is gone
        self._gone = GatewayCounts()

    # --- what is published ----------------------------------------------------------------------------------------

    def open(self) -> None:
        """Begin to send snapshots: residency is rebuilt."""
        self._opened.set()

    def set_route(self, route: gateway_messages.Route) -> None:
        """Publish an endpoint's route, with the residents of instances that it has for the first time."""
        if self.routes.get(route.key) == route:
            return
        before = self._routed.get(route.key, frozenset())
        routed = route.instances()
        self.version += 1
        self.routes[route.key], self._routed[route.key], self._since[route.key] = route, routed, self.version
        new = tuple(resident for resident in self.residents.values() if resident.instance in routed - before)
        self._send(gateway_messages.SetRoute(self.version, route, new))

    def drop_route(self, key: str) -> None:
        """Publish that the endpoint has no route."""
        if self.routes.pop(key, None) is None:
            return
        del self._routed[key], self._since[key]
        self.version += 1
        self._send(gateway_messages.DropRoute(self.version, key))

    def routed(self) -> frozenset[str]:
        """Return the instances in any route."""
        return frozenset().union(*self._routed.values())

    def publish(self, resident: gateway_messages.SetResident) -> None:
        """Publish a resident. If no route includes its instance yet, it is sent with the first route that does."""
        self.residents[_key(resident)] = resident
        if self._is_routed(resident):
            self._send(resident)

    def _is_routed(self, resident: gateway_messages.SetResident) -> bool:
        return resident.instance in self._routed.get(resident.key, ())

    async def drain(self, instance: str, timeout: float) -> None:
        """Return when no gateway has a request on its way to an instance that no route includes, or after `timeout` s.

        A gateway that is not linked (control restarted) may still send there, by an earlier control's route: this waits
        for it, and asks it as soon as it has the snapshot.
        """
        answered = self._draining[instance] = set()

        def is_complete() -> bool:
            names = {gateway.name for gateway in self.linked}
            return bool(names) and names.issuperset(self.roster()) and self.linked <= answered

        self._send(gateway_messages.Drain(instance))
        try:
            async with asyncio.timeout(timeout), self._answers:
                await self._answers.wait_for(is_complete)
        except TimeoutError:
            pass
        finally:
            del self._draining[instance]

    def forget_instance(self, instance: str) -> None:
        """Forget the residents of an instance that is gone; gateways forget them with its route."""
        for key in [key for key in self.residents if key[3] == instance]:
            del self.residents[key]
        for (key, generation), withdrawal in list(self._withdrawals.items()):
            if key[3] == instance:
                self._withdrawals.pop((key, generation), None)
                withdrawal.answered(False)

    def refuse(self, refused: gateway_messages.Refused) -> None:
        """Send a refusal to every gateway."""
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
        """Whether every linked gateway, and at least one, has acknowledged the endpoint's present route."""
        return bool(self.linked) and all(g.version >= self._since[key] for g in self.linked)

    def set_faults(self, scopes: tuple[gateway_messages.FaultScope, ...]) -> int:
        """Publish the faults; return the version."""
        self.version += 1
        self.faults = scopes
        for gateway in self.linked:
            if gateway.knows_faults:
                gateway.frames.send(gateway_messages.SetFaults(self.version, scopes))
        return self.version

    async def acknowledged(self, version: int, timeout: float) -> None:
        """Return once every linked gateway that knows faults has acknowledged this version, or after `timeout` s."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(timeout), self._answers:
                await self._answers.wait_for(lambda: all(g.version >= version for g in self.linked if g.knows_faults))

    def tell(self, name: str, message: gateway_messages.FaultDecision | gateway_messages.JournalKept) -> None:
        """Send an answer to the gateway of this name."""
        for gateway in self.linked:
            if gateway.name == name:
                gateway.frames.send(message)

    def unanswered(self) -> list[str]:
        """The Drains and Withdraws that some gateway has not answered yet, as text."""
        withdrawals = (f"withdraw {key[2]} from {key[3]} g{generation}" for key, generation in self._withdrawals)
        return [*(f"drain {instance}" for instance in self._draining), *withdrawals]

    # --- what gateways count --------------------------------------------------------------------------------------

    def counts(self) -> list[gateway_messages.Counts]:
        """The last counts of every gateway that was ever linked with this control."""
        return [*self._gone.all(), *(g.counts for g in self.linked if g.counts)]

    def close_silent(self, now: float) -> list[Gateway]:
        """Close the links of gateways that have sent nothing for too long; return these gateways."""
        silent = [gateway for gateway in self.linked if now - gateway.last_message > SILENCE]
        for gateway in silent:
            gateway.frames.abort()
        return silent

    # --- the link -------------------------------------------------------------------------------------------------

    def entrance(self, receive: Receive, unlinked: Unlinked) -> Enter:
        """Return what serves a gateway's link. `receive` gets each message, also one for the link alone."""

        async def enter(peer: Peer, knock: Knock, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
            frames: Frames[gateway_messages.Up] = Frames(reader, writer, gateway_messages.Up)
            await self._opened.wait()
            gateway = Gateway(peer.name, knock.pid, frames, knock.knows_faults, last_message=self._now())
            await self._receive_all(gateway, receive, unlinked)

        return enter

    async def _receive_all(self, gateway: Gateway, receive: Receive, unlinked: Unlinked) -> None:
        """Send it a snapshot, and receive its messages until it is gone."""
        frames = gateway.frames
        for other in self.linked:
            if other.name == gateway.name:  # it has ended, or has lost that link: it knows first
                other.frames.abort()
                other.leave_counts(self._gone)
        gateway.counts = self._gone.resume(gateway.process)  # it counts on
        self.linked.add(gateway)
        residents = tuple(resident for resident in self.residents.values() if self._is_routed(resident))
        routes = tuple(self.routes.values())
        gateway.room = _BACKLOG + frames.send(
            gateway_messages.Snapshot(
                self.epoch, self.version, routes, residents, self.faults, self.term, self.api, self.passkey
            )
        )
        for instance in self._draining:
            frames.send(gateway_messages.Drain(instance))
        try:
            while (message := await frames.receive()) is not None:
                gateway.last_message = self._now()
                receive(gateway.name, message)
                await self._handle(gateway, message)
        finally:
            self._unlink(gateway)
            unlinked(gateway.name)
            async with self._answers:
                self._answers.notify_all()

    async def _handle(self, gateway: Gateway, message: gateway_messages.Up) -> None:
        """Take in what concerns the link."""
        match message:
            case gateway_messages.Withdrawn():
                self._answered(gateway, (_key(message), message.generation), message.busy)
            case gateway_messages.Drained(instance):
                async with self._answers:
                    self._draining.get(instance, set()).add(gateway)
                    self._answers.notify_all()
            case gateway_messages.Counts():
                gateway.counts = message
            case gateway_messages.Ack() if message.epoch == self.epoch:
                gateway.version = max(gateway.version, message.version)
                async with self._answers:
                    self._answers.notify_all()

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

    def _unlink(self, gateway: Gateway) -> None:
        self.linked.discard(gateway)
        gateway.leave_counts(self._gone)
        for key in list(self._withdrawals):  # its requests ended with it
            self._answered(gateway, key, busy=False)

    def _send(self, message: gateway_messages.Down) -> None:
        for gateway in self.linked:
            if gateway.frames.unsent > gateway.room:
                log.warning("gateway %s reads too slowly: its link begins anew", gateway.name)
                gateway.frames.abort()  # and what is sent to it from now on is swallowed
            gateway.frames.send(message)


def _key(message: gateway_messages.SetResident | gateway_messages.Withdraw | gateway_messages.Withdrawn) -> ResidentKey:
    return (message.key, message.variant, message.target, message.instance)
