"""hostler's errors: one small tree. Whose fault comes first; foreign exceptions become these where they enter.

Rendered in one place per protocol: `spec/awsjson.py` (control plane), `gateway/answers.py` (runtime),
`control/objects.py` (S3), `cli.py` (people).
"""

from __future__ import annotations

from typing import Literal


class HostlerError(Exception):
    """Base of every error that hostler raises on purpose. `str(error)` is a sentence for people."""


class UserError(HostlerError):
    """A person's wrong command or setting: one clear line and an exit code, never a traceback."""


# --- the API's errors (the caller's fault unless status >= 500) ---------------------------------------------------


class ApiError(HostlerError):
    """An AWS-shaped control-plane error. `code` is AWS's exception name (§1.3), `status` the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class ValidationException(ApiError):
    """Bad input, missing and already existing things: SageMaker answers them all with this code (§1.3)."""

    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", message)


# --- artifacts ----------------------------------------------------------------------------------------------------


class ArtifactError(HostlerError):
    """An artifact cannot be had. `transient` says whether trying again later may help."""

    transient = False


class ArtifactMissing(ArtifactError):
    """There is no such bucket or object, or we may not read it. The message is S3's own reason."""


class ArtifactBad(ArtifactError):
    """The archive is not what it should be: not gzip, truncated, unsafe members, over the limits.

    `fault`: link (a member is one), limit (one of the settings' is exceeded), or empty for all others.
    """

    def __init__(self, message: str, fault: Literal["link", "limit", ""] = "") -> None:
        super().__init__(message)
        self.fault = fault


class StorageUnavailable(ArtifactError):
    """S3 cannot be reached, or answers 5xx."""

    transient = True


class DiskFull(ArtifactError):
    """No room on disk, even after evicting every artifact that nobody uses."""

    transient = True


# --- engines ------------------------------------------------------------------------------------------------------


class EngineError(HostlerError):
    """The engine could not do what it was told (start, stop, list)."""
