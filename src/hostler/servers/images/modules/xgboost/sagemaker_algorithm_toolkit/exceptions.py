class BaseToolkitError(Exception):
    """An error with the exception that caused it, if there is one."""

    def __init__(self, message: str | None = None, caused_by: Exception | None = None) -> None:
        text = message or str(caused_by or "unknown error occurred")
        self.message = f"{text} (caused by {type(caused_by).__name__})" if caused_by else text
        self.caused_by = caused_by
        super().__init__(self.message)


class AlgorithmError(BaseToolkitError):
    pass


class UserError(BaseToolkitError):
    pass


class PlatformError(BaseToolkitError):
    pass
