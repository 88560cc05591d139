"""Notices within three seconds that the machine of an instance has gone silent, and when it is there again.

To each instance on another machine the gateway holds one connection, its beat, on which nothing is ever sent: the two
systems alone ask each other whether they are there, so nobody is woken. A beat that is closed or refused was answered;
what is down is the silent ones alone. It knows no requests.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from hostler.wire import silence

log = logging.getLogger(__name__)

_EVERY = 0.5  # seconds between the beginnings of two connects; also the time of one to a machine that is silent

Changed = Callable[[frozenset[str], frozenset[str]], None]  # the instances that are down; those of them that were cut


@dataclass(eq=False)
class _Beat:
    """The beat at one address."""

    address: str
    instances: set[str] = field(default_factory=set)
    task: asyncio.Task[None] | None = None


class _Listener(asyncio.Protocol):
    """The end of a beat: `lost` gets why it ended; None: the other end closed it."""

    def __init__(self) -> None:
        self.lost: asyncio.Future[Exception | None] = asyncio.get_running_loop().create_future()

    def connection_lost(self, exc: Exception | None) -> None:
        if not self.lost.done():
            self.lost.set_result(exc)


class Beats:
    """`changed` is called with all instances that are down; and with those whose beat was there until now: whatever is
    on its way to these is lost.
    """

    def __init__(self, changed: Changed) -> None:
        self._changed = changed
        self._loop = asyncio.get_running_loop()
        self._beats: dict[str, _Beat] = {}  # by address
        self._silent: set[_Beat] = set()
        self._of: dict[str, Mapping[str, str]] = {}  # endpoint key -> instance -> address
        self._down: frozenset[str] = frozenset()

    def __repr__(self) -> str:
        return f"<Beats: {len(self._beats)}; down: {', '.join(sorted(self._down)) or 'none'}>"

    def watch(self, key: str, beats: Mapping[str, str]) -> None:
        """Watch the instances of an endpoint's route, each with the address of its beat, and no others of it."""
        before = self._of.get(key, {})
        if beats == before:
            return
        for instance, address in beats.items() - before.items():
            beat = self._beats.get(address)
            if beat is None:
                beat = self._beats[address] = _Beat(address)
                beat.task = self._loop.create_task(self._follow(beat))
            beat.instances.add(instance)
        for instance, address in before.items() - beats.items():
            beat = self._beats[address]
            beat.instances.discard(instance)
            if not beat.instances:
                del self._beats[address]
                self._silent.discard(beat)
                if beat.task is not None:
                    beat.task.cancel()
        if beats:
            self._of[key] = beats
        else:
            del self._of[key]
        self._tell()

    async def close(self) -> None:
        """Close all beats."""
        tasks = [beat.task for beat in self._beats.values() if beat.task is not None]
        for key in [*self._of]:
            self.watch(key, {})
        await asyncio.gather(*tasks, return_exceptions=True)

    async def _follow(self, beat: _Beat) -> None:
        while True:
            began = self._loop.time()
            try:
                await self._hold(beat)
            except ConnectionError:
                self._heard(beat)  # it was refused, or reset: the machine has answered
            except OSError as error:
                if silence.is_silence(error):
                    self._lost(beat, cut=False)
            except Exception:
                log.exception("the beat %s", beat.address)
            await asyncio.sleep(max(0.0, began + _EVERY - self._loop.time()))

    async def _hold(self, beat: _Beat) -> None:
        """Connect, and hold the connection until it ends. Raises OSError if there is none."""
        sock = await silence.connect(beat.address, _EVERY if beat in self._silent else silence.PATIENCE)
        silence.probe(sock)
        silence.limit(sock)
        transport, listener = await self._loop.create_connection(_Listener, sock=sock)
        try:
            self._heard(beat)
            ended = await listener.lost
        finally:
            transport.abort()
        if silence.is_silence(ended):
            self._lost(beat, cut=True)

    def _heard(self, beat: _Beat) -> None:
        if beat in self._silent:
            self._silent.remove(beat)
            log.warning("the machine of %s answers again", ", ".join(sorted(beat.instances)))
            self._tell()

    def _lost(self, beat: _Beat, *, cut: bool) -> None:
        if beat not in self._silent:
            self._silent.add(beat)
            log.warning("the machine of %s is silent", ", ".join(sorted(beat.instances)))
            self._tell(frozenset(beat.instances) if cut else frozenset())

    def _tell(self, cut: frozenset[str] = frozenset()) -> None:
        down = frozenset(instance for beat in self._silent for instance in beat.instances)
        if down != self._down or cut:
            self._down = down
            self._changed(down, cut)
