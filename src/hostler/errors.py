"""hostler's errors: one small tree, divided first by whose fault an error is.

Exceptions of other libraries become these where they enter. Each protocol renders errors in one place:
`aws/errors.py` (all APIs but these), `gateway/errors.py` (invocations), `s3/response.py` (S3), `cli/main.py` (people).
"""

from __future__ import annotations


class HostlerError(Exception):
    """Base class of hostler's own errors. `str(error)` is a sentence for people."""


class UserError(HostlerError):
    """A wrong command or setting of a person: the CLI prints one clear line and exits, without a traceback."""


# --- the API's errors (the caller's fault unless status >= 500) ---------------------------------------------------


class ApiError(HostlerError):
    """An AWS-shaped control-plane error. `code` is AWS's exception name (§1.3), `status` the HTTP status."""

    def __init__(self, code: str, message: str, status: int = 400) -> None:
        super().__init__(message)
        self.code = code
        self.message = message
        self.status = status


class ValidationException(ApiError):
    """SageMaker's error for invalid input, for a missing resource and for one that already exists (§1.3)."""

    def __init__(self, message: str) -> None:
        super().__init__("ValidationException", message)


class SerializationException(ApiError):
    """The request does not fit its protocol: its body cannot be read, or has a value of the wrong type."""

    def __init__(self, message: str) -> None:
        super().__init__("SerializationException", message)


# --- artifacts ----------------------------------------------------------------------------------------------------


class ArtifactError(HostlerError):
    """An artifact cannot be provided. `transient`: a later attempt may succeed. `version`: of the object, its ETag, if
    that is at fault.
    """

    transient = False
    version = ""


class ArtifactUnchanged(ArtifactError):
    """The version that the caller does not want again is still the present one."""


class ArtifactMissing(ArtifactError):
    """The bucket or the object is missing or not readable for us. The message is S3's own."""


class ArtifactBad(ArtifactError):
    """The artifact is invalid.

    `advice`: a sentence that says what helps; empty if nothing but another artifact does.
    """

    def __init__(self, message: str, advice: str = "") -> None:
        super().__init__(message)
        self.advice = advice


class ArchiveBad(ArtifactBad):
    """The archive cannot be extracted, or must not be: not gzip, truncated, with unsafe members, or over the limits."""


class StorageUnavailable(ArtifactError):
    """S3 cannot be reached, or answers with a 5xx status."""

    transient = True


class StorageAway(StorageUnavailable):
    """A container's storage cannot be asked just now, whatever the artifact: another instance's may."""


class DiskFull(ArtifactError):
    """The disk is full, even after every unused artifact was evicted."""

    transient = True


# --- engines ------------------------------------------------------------------------------------------------------


class EngineError(HostlerError):
    """The engine could not carry out a request (prepare, start, stop, list)."""


class EngineAway(EngineError):
    """The engine cannot be asked just now: nothing follows for what it runs."""


class ImageMissing(EngineError):
    """An image is not here and cannot be pulled. The message says why, and what helps."""


class NoCapacity(EngineError):
    """There is no room for an instance, and waiting does not help. The message says why: a sentence."""


class NotStarted(EngineError):
    """A container of an instance could not be started. `position`: in the instance's launch, from 0."""

    def __init__(self, position: int, message: str) -> None:
        super().__init__(message)
        self.position = position
