"""The gateway's end of the link: applies control's messages, and reports uses, requests and counts of this gateway.

It connects for ever. While control is away, routes stay as they are, hits are dropped, and pending requests wait until
their targets are requested again after the next snapshot. It decides nothing about residency.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable

from msgspec import structs

from hostler.gateway import errors
from hostler.gateway.faults import FaultScopes, Suspect
from hostler.gateway.pending import PendingRequests, TargetKey
from hostler.gateway.routes import Backend, Routes
from hostler.gateway.snapshot_file import Change, SnapshotFile
from hostler.wire import gateway_messages
from hostler.wire.door import VERSION, Knock, Terms, Way
from hostler.wire.frames import Frames

log = logging.getLogger(__name__)

_HITS_EVERY = 0.05  # seconds
_COUNTS_EVERY = 1.0
_DRAIN_EVERY = 0.05
_LONGEST = 2**30  # bytes of a message: a snapshot has some 300 for each resident
_BACKLOG = 8 * 2**20  # bytes that control has not read; past it the link is dropped and begins anew

News = Change | gateway_messages.JournalKept  # for the gateway's other parts, too


class ControlLink:
    """The link to control. `counts` returns the message with the counters. `process`: a number that no other process of
    this name has; its pid where that is so. `on_news` is called with each message of that kind.
    """

    def __init__(
        self,
        way: Way,
        name: str,
        routes: Routes,
        pending: PendingRequests,
        counts: Callable[[], gateway_messages.Counts],
        faults: FaultScopes,
        file: SnapshotFile,
        process: int = 0,
        on_news: Callable[[News], None] = lambda _: None,
    ) -> None:
        self._way = way
        self._name = name
        self._routes = routes
        self._pending = pending
        self._counts = counts
        self.faults = faults
        self._file = file
        self._process = process or os.getpid()
        self._on_news = on_news
        self._terms = Terms()
        self._loop = asyncio.get_running_loop()
        self._used: list[Backend] = []  # backends of targets, in the order of use, since the last message
        self._hits_timer: asyncio.TimerHandle | None = None
        self._draining: set[str] = set()  # instances; control waits until nothing runs there
        self._drain_timer: asyncio.Handle | None = None
        self._frames: Frames[gateway_messages.Down] | None = None
        self._epoch = ""
        self.linked = asyncio.Event()  # the first snapshot has come

    def __repr__(self) -> str:
        state = f"connected, epoch {self._epoch}" if self.connected else "not connected"
        return f"<ControlLink of {self._name}: {state}; draining {sorted(self._draining)}>"

    @property
    def connected(self) -> bool:
        """Whether there is a connection to control now."""
        return self._frames is not None

    @property
    def watching(self) -> bool:
        """Whether it will look again at the instances that are draining."""
        return self._drain_timer is not None

    # --- up

    def record_hit(self, backend: Backend) -> None:
        """Record a use of a target. It is sent with the next message, at the latest after 50 ms."""
        self._used.append(backend)
        if self._hits_timer is None:
            self._hits_timer = self._loop.call_later(_HITS_EVERY, self._flush)

    def request_target(self, key: TargetKey, *, hot: bool = False) -> None:
        """Ask control to make a target resident, or (`hot`) for one more copy of it."""
        self.send(gateway_messages.TargetRequest(*key, hits=self._take_hits(), hot=hot))

    def report_missing(self, key: TargetKey, instance: str, generation: int, status: int) -> None:
        """Report that an instance does not have a target that control published."""
        self.send(gateway_messages.TargetMissing(*key, instance=instance, generation=generation, status=status))

    def report_abandoned(self, key: TargetKey) -> None:
        """Report that no request waits for a target any more."""
        self.send(gateway_messages.Abandoned(*key))

    def report_timeout(self, instance: str, container: int, in_a_row: int, request_id: str) -> None:
        """Report that a container let a call time out, and how many in a row."""
        self.send(gateway_messages.CallsTimedOut(instance, container, in_a_row, request_id))

    def report_counts(self) -> None:
        """Send the counters before their time: which instances are down has changed."""
        self.send(self._counts())

    def ask_for_fault(self, call: Suspect, query: gateway_messages.FaultQuery) -> bool:
        """Ask control which fault the call meets. False: none can, so it need not wait."""
        if self._frames is None or not self.faults.include(query.key):
            return False
        self.faults.add(call)
        self.send(query)
        return True

    def _flush(self) -> None:
        self._hits_timer = None
        if self._used:
            self.send(gateway_messages.Hits(self._take_hits()))

    def _take_hits(self) -> tuple[gateway_messages.Hit, ...]:
        """Return and forget the hits: one for each backend that was used, in the order of their last uses."""
        uses = Counter(reversed(self._used))
        self._used.clear()
        return tuple(
            backend.hit if count == 1 else structs.replace(backend.hit, uses=count)
            for backend, count in reversed(uses.items())
            if backend.hit is not None
        )

    def send(self, message: gateway_messages.Up) -> None:
        """Send a message, if there is a link."""
        if self._frames is not None:
            self._frames.send(message)

    # --- down

    async def run(self) -> None:
        """Keep the link connected until cancelled."""
        knock = Knock("gateway", self._name, version=VERSION, pid=self._process, knows_faults=True)
        failure = ""
        while True:
            try:
                reader, writer = await self._way.knock(knock)
            except OSError as error:
                text = str(error) or "no answer in time"
                if self._way.is_remote and text != failure:  # once, however often it fails alike
                    log.warning("control cannot be reached at %s: %s", self._way.address, text)
                failure = text
                self._file.renew()
                await asyncio.sleep(self._way.pause())
                continue
            failure = ""
            frames: Frames[gateway_messages.Down] = Frames(reader, writer, gateway_messages.Down, _LONGEST)
            self._frames = frames
            ticking = asyncio.create_task(self._tick(writer))
            try:
                while (message := await frames.receive()) is not None:
                    if isinstance(message, gateway_messages.Snapshot) and not self._terms.admit(message.term):
                        break
                    self._apply(message)
            finally:
                self._frames = None
                self.faults.set(())  # control keeps them in memory
                ticking.cancel()
                frames.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            log.warning("the link to control ended; resident targets are still served")
            await asyncio.sleep(self._way.pause())

    def recall(self, message: gateway_messages.Snapshot) -> None:
        """Begin with the routes and residents that an earlier process knew. Control's own take their place."""
        self._terms.admit(message.term)
        self._routes.snapshot(message)

    async def _tick(self, writer: asyncio.StreamWriter) -> None:
        """Send the counters once a second; they are also this gateway's sign of life."""
        while True:
            self.send(self._counts())
            self._routes.tidy()
            self._file.renew()
            if writer.transport.get_write_buffer_size() > _BACKLOG:
                writer.transport.abort()
            await asyncio.sleep(_COUNTS_EVERY)

    def _apply(self, message: gateway_messages.Down) -> None:
        if isinstance(message, News):
            self._on_news(message)
        match message:
            case gateway_messages.SetResident():
                self._set_resident(message)
            case gateway_messages.Withdraw():
                self._withdraw(message)
            case gateway_messages.Refused():
                self._reject(message)
            case gateway_messages.Drain(instance=instance):
                self._draining.add(instance)
                if self._drain_timer is None:  # many come together, when many endpoints are deleted
                    self._drain_timer = self._loop.call_soon(self._report_drained)
            case gateway_messages.SetRoute():
                self._set_route(message)
            case gateway_messages.DropRoute(version=version, key=key):
                self._routes.drop_route(key)
                self.send(gateway_messages.Ack(self._epoch, version))
                self._resume_pending(key)
            case gateway_messages.SetFaults(version=version, scopes=scopes):
                self.faults.set(scopes)
                self.send(gateway_messages.Ack(self._epoch, version))
            case gateway_messages.FaultDecision(request_id=id, rule=rule):
                self.faults.decided(id, rule)
            case gateway_messages.Snapshot():
                self._replace_all(message)

    def _set_resident(self, message: gateway_messages.SetResident) -> None:
        """Publish the target, and send the requests that waited for it."""
        if self._routes.set_resident(message):
            for request in self._pending.take(TargetKey(message.key, message.variant, message.fleet, message.target)):
                request.resume(message.timing)

    def _withdraw(self, message: gateway_messages.Withdraw) -> None:
        """Send the target there no more. Answer at once, with the hits before that."""
        key = TargetKey(message.key, message.variant, message.fleet, message.target)
        busy = self._routes.withdraw(key, message.instance, message.generation)
        self.send(gateway_messages.Withdrawn(*key, message.instance, message.generation, busy, self._take_hits()))

    def _reject(self, message: gateway_messages.Refused) -> None:
        """Answer the requests that wait for the target with an error."""
        variant = self._routes.variant(message.key, message.variant)
        label = variant.labels[variant.target_position] if variant else ""
        for request in self._pending.take(TargetKey(message.key, message.variant, message.fleet, message.target)):
            request.reject(_error(message, label))

    def _set_route(self, message: gateway_messages.SetRoute) -> None:
        """Put the route and its new residents in force together, and acknowledge them."""
        self._routes.set_route(message.route)
        for resident in message.residents:
            self._routes.set_resident(resident)
        self.send(gateway_messages.Ack(self._epoch, message.version))
        self._resume_pending(message.route.key)

    def _replace_all(self, message: gateway_messages.Snapshot) -> None:
        """Take the routes and residents of a new control. It asks anew for instances that drain."""
        if self._way.is_remote:
            log.info("linked with control at %s", self._way.address)
        self._routes.snapshot(message)
        self.faults.set(message.faults)
        self._epoch = message.epoch
        self._draining.clear()
        self.linked.set()
        self.send(gateway_messages.Ack(message.epoch, message.version))
        self._resume_pending(None)

    def _report_drained(self) -> None:
        """Report the instances where nothing runs any more; look again soon while there are others."""
        idle = self._draining - self._routes.busy()
        self._draining -= idle
        for instance in idle:
            self.send(gateway_messages.Drained(instance))
        self._drain_timer = self._loop.call_later(_DRAIN_EVERY, self._report_drained) if self._draining else None

    def _resume_pending(self, endpoint_key: str | None) -> None:
        """Request targets again after a change of routes, and resume the requests that need not wait for one: they are
        sent, or answered that the endpoint does not exist."""
        for key in self._pending.targets(endpoint_key):
            variant = self._routes.variant(key.endpoint_key, key.variant)
            pool = variant.pool(key.fleet) if variant and variant.multi_model else None
            if pool and key.target and key.target not in pool.residents:
                self.request_target(key)
            else:
                for request in self._pending.take(key):
                    request.resume(None)


def _error(message: gateway_messages.Refused, label: str) -> errors.InvokeError:
    """Return the runtime API's error for a target that the container of this label cannot have (§4.5)."""
    region, _, name = message.key.partition("/")
    match message.kind:
        case "missing":
            return errors.invalid(message.message)
        case "bad":
            return errors.model_error(region, name, label, message.status, message.message)
        case "too_big" | "no_memory":
            return errors.model_error(region, name, label, 507, message.message)
        case "unavailable":
            return errors.dependency(message.message)
        case "not_ready":
            return errors.not_ready(name, message.variant, message.target)
