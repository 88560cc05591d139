"""The errors of CloudWatch Logs, with AWS's sentences."""

from __future__ import annotations

from hostler.errors import ApiError


class InvalidParameterException(ApiError):
    """A parameter, or a combination of them, that AWS refuses."""

    def __init__(self, message: str) -> None:
        super().__init__("InvalidParameterException", message)


class ResourceNotFoundException(ApiError):
    """There is no such group or stream. `kind`: group or stream."""

    def __init__(self, kind: str) -> None:
        super().__init__("ResourceNotFoundException", f"The specified log {kind} does not exist.")


class ServiceUnavailableException(ApiError):
    """It cannot be done now."""

    def __init__(self, message: str) -> None:
        super().__init__("ServiceUnavailableException", message, 503)
