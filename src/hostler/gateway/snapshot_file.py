"""The routes and residents that a gateway knows, in a file: started anew, it serves by them while control is away.

It is as fresh as the file's time says, for that is renewed as long as the gateway runs: where nobody ran meanwhile to
be told of changes, an instance's address may be another's by now, so an old file is not used. The disk may be full or
slow: then there is no file, or it is late, and nothing else changes.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import os
import time
from pathlib import Path

import msgspec

from hostler.wire import gateway_messages

log = logging.getLogger(__name__)

OLDEST = 60.0  # seconds since the file's time after which it is not used
_PAUSE = 1.0  # seconds between two writes; after a slow one, ten times as long as it took
_RENEW = 5.0  # seconds between renewals of the file's time
_Resident = gateway_messages.SetResident
Change = (  # of routes and residents
    gateway_messages.Snapshot
    | gateway_messages.SetRoute
    | gateway_messages.DropRoute
    | gateway_messages.SetResident
    | gateway_messages.Withdraw
)


class SnapshotFile:
    """Follows the messages that change routes and residents, and writes them down soon after."""

    def __init__(self, path: Path, pause: float = _PAUSE) -> None:
        self._path = path
        self._pause = pause
        self._snapshot = gateway_messages.Snapshot("", 0, (), ())
        self._routes: dict[str, gateway_messages.Route] = {}
        self._residents: dict[str, dict[tuple[str, str, str], _Resident]] = {}  # by endpoint
        self._changed = False
        self._closing = asyncio.Event()
        self._writing: asyncio.Task[None] | None = None
        self._renewed = 0.0  # when, by time.monotonic

    def load(self) -> gateway_messages.Snapshot | None:
        """Return what the file holds; None if there is none that may be used. It may be called on a thread."""
        try:
            if time.time() - self._path.stat().st_mtime > OLDEST:
                return None
            return msgspec.msgpack.decode(self._path.read_bytes(), type=gateway_messages.Snapshot)
        except FileNotFoundError:
            return None
        except (OSError, msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("%s, with the routes that an earlier gateway knew, cannot be used: %s", self._path.name, error)
            return None

    def renew(self) -> None:
        """Say that what the file holds is what this gateway knows; to be called as long as it runs."""
        now = time.monotonic()
        if now - self._renewed > _RENEW:
            self._renewed = now
            with contextlib.suppress(OSError):
                os.utime(self._path)

    def apply(self, message: Change) -> None:
        """Follow a message."""
        match message:
            case gateway_messages.Snapshot():
                self._snapshot = msgspec.structs.replace(message, routes=(), residents=(), faults=(), passkey="")
                self._routes = {route.key: route for route in message.routes}
                self._residents = {}
                for resident in message.residents:
                    self._add(resident)
            case gateway_messages.SetRoute(route=route):
                self._routes[route.key] = route
                instances = route.instances()
                before = self._residents.pop(route.key, {})
                for resident in (*before.values(), *message.residents):
                    if resident.instance in instances:
                        self._add(resident)
            case gateway_messages.DropRoute(key=key):
                self._routes.pop(key, None)
                self._residents.pop(key, None)
            case gateway_messages.SetResident():
                self._add(message)
            case gateway_messages.Withdraw():
                self._residents.get(message.key, {}).pop((message.variant, message.target, message.instance), None)
        self._changed = True
        if self._writing is None:
            self._writing = asyncio.get_running_loop().create_task(self._write_all())

    def _add(self, resident: _Resident) -> None:
        key = (resident.variant, resident.target, resident.instance)
        self._residents.setdefault(resident.key, {})[key] = resident

    async def _write_all(self) -> None:
        """Write until the file holds what has changed last."""
        try:
            while self._changed:
                self._changed = False
                residents = tuple(each for of_endpoint in self._residents.values() for each in of_endpoint.values())
                routes = tuple(self._routes.values())
                began = time.monotonic()
                snapshot = msgspec.structs.replace(self._snapshot, routes=routes, residents=residents)
                await asyncio.to_thread(self._write, snapshot)
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._closing.wait(), max(self._pause, 10 * (time.monotonic() - began)))
        finally:
            self._writing = None

    def _write(self, snapshot: gateway_messages.Snapshot) -> None:
        new = self._path.with_suffix(".new")
        try:
            self._path.parent.mkdir(0o700, parents=True, exist_ok=True)
            with open(new, "wb", opener=lambda name, flags: os.open(name, flags, 0o600)) as file:
                file.write(msgspec.msgpack.encode(snapshot))
            new.replace(self._path)
        except OSError as error:
            log.warning("a gateway that is started anew will know no routes before control tells them: %s", error)
            with contextlib.suppress(OSError):
                self._path.unlink(missing_ok=True)  # it says what is so no more
                new.unlink(missing_ok=True)

    async def close(self) -> None:
        """Write what has changed last."""
        self._closing.set()
        if self._writing is not None:
            await self._writing
