"""Errors of artifacts as data: between control and agents, on their link and where agents fetch from control."""

from __future__ import annotations

from typing import Literal

import msgspec

from hostler.errors import ArtifactBad, ArtifactError, ArtifactMissing, ArtifactUnchanged, DiskFull, StorageUnavailable

Kind = Literal["missing", "bad", "unchanged", "unavailable", "disk_full"]

_KINDS: dict[Kind, type[ArtifactError]] = {
    "missing": ArtifactMissing,
    "bad": ArtifactBad,
    "unchanged": ArtifactUnchanged,
    "disk_full": DiskFull,
    "unavailable": StorageUnavailable,
}


class ErrorData(msgspec.Struct, frozen=True):
    """An ArtifactError of this kind. `version`, `advice`: of the error."""

    kind: Kind
    message: str
    version: str = ""
    advice: str = ""


def as_data(error: ArtifactError) -> ErrorData:
    """Return an error as data."""
    kind: Kind = next((kind for kind, type in _KINDS.items() if isinstance(error, type)), "unavailable")
    return ErrorData(kind, str(error), error.version, error.advice if isinstance(error, ArtifactBad) else "")


def as_error(data: ErrorData) -> ArtifactError:
    """Return the error that `as_data` was given."""
    error = ArtifactBad(data.message, data.advice) if data.kind == "bad" else _KINDS[data.kind](data.message)
    error.version = data.version
    return error
