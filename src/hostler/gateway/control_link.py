"""The gateway's end of the link: applies what control says, and sends up what the gateway knows.

It connects for ever. While control is away, routes stay as they are, hits are dropped, and misses wait to be asked
again after the next snapshot. It decides nothing about residency.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
from collections import Counter
from collections.abc import Callable

import msgspec
from msgspec import structs

from hostler.gateway import errors
from hostler.gateway.counters import Counters
from hostler.gateway.pending import PendingRequests, Wanted
from hostler.gateway.routes import Place, Routes
from hostler.wire import gateway_messages
from hostler.wire.frames import Frames

log = logging.getLogger(__name__)

_HITS_EVERY = 0.05  # seconds
_COUNTS_EVERY = 1.0
_DRAIN_EVERY = 0.05
_RETRY = 0.05  # seconds between attempts to connect: an attempt is cheap, and callers may be waiting
_BACKLOG = 8 * 2**20  # bytes that control has not read; past it the link is dropped and begins anew


class Link:
    """`traffic` tells (requests in flight, connections) for the counters' message."""

    def __init__(
        self,
        path: str,
        name: str,
        routes: Routes,
        misses: PendingRequests,
        counters: Counters,
        traffic: Callable[[], tuple[int, int]],
    ) -> None:
        self._path = path
        self._name = name
        self._routes = routes
        self._misses = misses
        self._counters = counters
        self._traffic = traffic
        self._loop = asyncio.get_running_loop()
        self._used: list[Place] = []  # places of targets, in the order of use, since the last message
        self._flushing: asyncio.TimerHandle | None = None
        self._draining: set[str] = set()  # instances of which control wants to know when nothing runs there any more
        self._looking: asyncio.TimerHandle | None = None  # at them, again
        self._frames: Frames[gateway_messages.Down] | None = None
        self._epoch = ""
        self.linked = asyncio.Event()  # the first snapshot has come

    @property
    def connected(self) -> bool:
        """Whether there is a connection to control now."""
        return self._frames is not None

    @property
    def watching(self) -> bool:
        """Whether it will look once more at instances that control wants to have drained."""
        return self._looking is not None

    # --- up

    def hit(self, place: Place) -> None:
        """A target is invoked there. Sent with the next message, at the latest after 50 ms."""
        self._used.append(place)
        if self._flushing is None:
            self._flushing = self._loop.call_later(_HITS_EVERY, self._flush)

    def need(self, wanted: Wanted, *, hot: bool = False) -> None:
        self._send(gateway_messages.TargetRequest(*wanted, hits=self._take_hits(), hot=hot))

    def gone(self, wanted: Wanted, instance: str, generation: int, status: int) -> None:
        self._send(gateway_messages.TargetMissing(*wanted, instance=instance, generation=generation, status=status))

    def abandoned(self, wanted: Wanted) -> None:
        self._send(gateway_messages.Abandoned(*wanted))

    def _flush(self) -> None:
        self._flushing = None
        if self._used:
            self._send(gateway_messages.Hits(self._take_hits()))

    def _take_hits(self) -> tuple[gateway_messages.Hit, ...]:
        """One hit for each place that was used, in the order of their last uses."""
        uses = Counter(reversed(self._used))
        self._used.clear()
        return tuple(
            place.hit if count == 1 else structs.replace(place.hit, uses=count)
            for place, count in reversed(uses.items())
            if place.hit is not None
        )

    def _send(self, message: gateway_messages.Up) -> None:
        if self._frames is not None:
            self._frames.send(message)

    # --- down

    async def run(self) -> None:
        """Hold the link until cancelled."""
        while True:
            try:
                reader, writer = await asyncio.open_unix_connection(self._path)
            except OSError:
                await asyncio.sleep(_RETRY)
                continue
            frames: Frames[gateway_messages.Down] = Frames(reader, writer, gateway_messages.Down)
            self._frames = frames
            self._send(gateway_messages.Hello(self._name, os.getpid()))
            ticking = asyncio.create_task(self._tick(writer))
            try:
                while (message := await frames.receive()) is not None:
                    self._heard(message)
            except msgspec.DecodeError:
                log.exception("control said something that is no message; linking anew")
            finally:
                self._frames = None
                ticking.cancel()
                frames.close()
                with contextlib.suppress(OSError):
                    await writer.wait_closed()
            log.warning("the link to control ended; resident targets are served on")
            await asyncio.sleep(_RETRY)

    async def _tick(self, writer: asyncio.StreamWriter) -> None:
        """Counters, once a second; they are also this gateway's sign of life."""
        while True:
            in_flight, connections = self._traffic()
            self._send(gateway_messages.Counts(self._counters.sums(), in_flight, connections))
            self._routes.tidy()
            if writer.transport.get_write_buffer_size() > _BACKLOG:
                writer.transport.abort()
            await asyncio.sleep(_COUNTS_EVERY)

    def _heard(self, message: gateway_messages.Down) -> None:
        routes, misses = self._routes, self._misses
        match message:
            case gateway_messages.SetResident(key=key, variant=variant, target=target, timing=timing):
                if routes.set_resident(message):
                    for waiter in misses.take(Wanted(key, variant, target)):
                        waiter.go(timing)
            case gateway_messages.Withdraw(
                key=key, variant=variant, target=target, instance=instance, generation=generation
            ):
                busy = routes.withdraw(key, variant, target, instance, generation)
                self._send(
                    gateway_messages.Withdrawn(key, variant, target, instance, generation, busy, self._take_hits())
                )
            case gateway_messages.Refused(key=key, variant=variant, target=target):
                known = routes.variant(key, variant)
                label = known.labels[known.target_hop] if known else ""
                for waiter in misses.take(Wanted(key, variant, target)):
                    waiter.refused(_refusal(message, label))
            case gateway_messages.Drain(instance=instance):
                self._draining.add(instance)
                if self._looking is None:
                    self._look_at_draining()
            case gateway_messages.SetRoute(version=version, route=route, residents=residents):
                routes.set_route(route)
                for resident in residents:
                    routes.set_resident(resident)
                self._send(gateway_messages.Ack(self._epoch, version))
                self._ask_again(route.key)
            case gateway_messages.DropRoute(version=version, key=key):
                routes.drop_route(key)
                self._send(gateway_messages.Ack(self._epoch, version))
                self._ask_again(key)
            case gateway_messages.Snapshot(epoch=epoch, version=version):
                routes.snapshot(message)
                self._epoch = epoch
                self._draining.clear()  # whoever speaks now asks anew
                self.linked.set()
                self._send(gateway_messages.Ack(epoch, version))
                self._ask_again(None)

    def _look_at_draining(self) -> None:
        """Answer for the instances where nothing runs any more; look again soon while there are others."""
        for instance in [one for one in self._draining if not self._routes.busy(one)]:
            self._draining.remove(instance)
            self._send(gateway_messages.Drained(instance))
        self._looking = self._loop.call_later(_DRAIN_EVERY, self._look_at_draining) if self._draining else None

    def _ask_again(self, key: str | None) -> None:
        """Routes changed: whoever waits is sent, asked for again, or told that the endpoint is gone."""
        for wanted in self._misses.wanted(key):
            variant = self._routes.variant(wanted.key, wanted.variant)
            if variant and variant.multi_model and wanted.target and wanted.target not in variant.residents:
                self.need(wanted)
            else:
                for waiter in self._misses.take(wanted):
                    waiter.go(None)


def _refusal(message: gateway_messages.Refused, label: str) -> errors.InvokeError:
    """The runtime API's error for a target that the container of this label cannot have (§4.5)."""
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
