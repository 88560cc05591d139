"""Invocations that wait for a target to become resident: their order, their deadlines, and the bytes they buffer.

One entry per target, however many invocations wait; control is asked once for all of them. It asks nobody itself.
"""

from __future__ import annotations

from typing import NamedTuple, Protocol

from hostler.gateway.errors import InvokeError
from hostler.wire.gateway_messages import Timing


class TargetKey(NamedTuple):
    """A target, as link messages name it. `target` is empty where a pool's instances are waited for."""

    endpoint_key: str
    variant: str
    fleet: int
    target: str

    def __str__(self) -> str:
        return "/".join(map(str, self))


class PendingRequest(Protocol):
    """An invocation that waits. Exactly one of these methods is called, unless it leaves by itself."""

    deadline: float
    buffered: int  # bytes of its body in memory

    @property
    def target_key(self) -> TargetKey: ...

    def resume(self, timing: Timing | None) -> None:
        """Resolve again and send: the target is resident (after this load), or routes have changed."""

    def reject(self, error: InvokeError) -> None:
        """Answer with the error: the target cannot be loaded."""

    def timed_out(self) -> None:
        """Answer that the target was not ready by the deadline."""


class PendingRequests:
    """The waiting invocations, in order of arrival. `room`: bytes of bodies that they may still buffer."""

    def __init__(self, room: int) -> None:
        self.room = room
        self._waiting: dict[TargetKey, dict[PendingRequest, None]] = {}

    def __len__(self) -> int:
        return sum(map(len, self._waiting.values()))

    def __repr__(self) -> str:
        targets = ", ".join(f"{len(requests)} for {key}" for key, requests in self._waiting.items())
        return f"<PendingRequests: {targets or 'none'}; {self.room} bytes of room>"

    def waiting(self) -> list[PendingRequest]:
        """Return all that wait, grouped by target."""
        return [request for requests in self._waiting.values() for request in requests]

    def targets(self, endpoint_key: str | None = None) -> list[TargetKey]:
        """Return the targets that are waited for, of one endpoint or of all."""
        return [key for key in self._waiting if endpoint_key is None or key.endpoint_key == endpoint_key]

    def full(self, size: int) -> bool:
        """Whether a body of this many bytes is too much."""
        return size > self.room

    def add(self, request: PendingRequest) -> bool:
        """Let it wait. Return whether it is the first for its target: then control must be asked."""
        first = request.target_key not in self._waiting
        self._waiting.setdefault(request.target_key, {})[request] = None
        self.room -= request.buffered
        return first

    def remove(self, request: PendingRequest) -> bool:
        """Let it wait no more. Return whether it was the last for its target: then control may forget the target."""
        requests = self._waiting.get(request.target_key)
        if requests is None or request not in requests:
            return False
        del requests[request]
        self.room += request.buffered
        if not requests:
            del self._waiting[request.target_key]
        return not requests

    def take(self, key: TargetKey) -> list[PendingRequest]:
        """Remove all that wait for the target, and return them in order of arrival."""
        requests = list(self._waiting.pop(key, ()))
        self.room += sum(request.buffered for request in requests)
        return requests

    def expired(self, now: float) -> list[PendingRequest]:
        """Return those whose deadline has passed. They still wait until they are removed."""
        return [request for request in self.waiting() if request.deadline < now]
