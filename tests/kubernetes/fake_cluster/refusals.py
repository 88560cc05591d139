"""How the API server refuses a request: a Status, with a code, a reason and a sentence, in Kubernetes' words."""

from __future__ import annotations

from typing import Any

from fake_cluster.kinds import Kind


class Refusal(Exception):
    """A request that is refused."""

    def __init__(self, code: int, reason: str, message: str, details: dict[str, Any] | None = None) -> None:
        super().__init__(message)
        self.code, self.reason, self.message, self.details = code, reason, message, details or {}

    def status(self) -> dict[str, Any]:
        document = {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Failure"}
        return {
            **document, "message": self.message, "reason": self.reason, "details": self.details, "code": self.code
        }  # fmt: skip


def missing(kind: Kind, name: str) -> Refusal:
    details = {"name": name, "group": kind.group, "kind": kind.plural}
    return Refusal(404, "NotFound", f'{kind.qualified} "{name}" not found', details)


def exists(kind: Kind, name: str) -> Refusal:
    details = {"name": name, "group": kind.group, "kind": kind.plural}
    return Refusal(409, "AlreadyExists", f'{kind.qualified} "{name}" already exists', details)


def conflict(kind: Kind, name: str, why: str) -> Refusal:
    details = {"name": name, "group": kind.group, "kind": kind.plural}
    return Refusal(409, "Conflict", f'Operation cannot be fulfilled on {kind.qualified} "{name}": {why}', details)


def invalid(kind: Kind, name: str, why: str) -> Refusal:
    details = {"name": name, "group": kind.group, "kind": kind.name}
    return Refusal(422, "Invalid", f'{kind.name} "{name}" is invalid: {why}', details)


def bad_request(message: str) -> Refusal:
    return Refusal(400, "BadRequest", message)


def forbidden(kind: Kind, name: str, why: str) -> Refusal:
    details = {"name": name, "group": kind.group, "kind": kind.plural}
    named = f' "{name}"' if name else ""
    return Refusal(403, "Forbidden", f"{kind.qualified}{named} is forbidden: {why}", details)


def gone(version: int, oldest: int) -> Refusal:
    return Refusal(410, "Expired", f"too old resource version: {version} ({oldest})")
