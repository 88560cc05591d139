from hostler.servers.scripts import flask_response


class Response(flask_response.Response):
    default_mimetype = "application/json"

    def __init__(
        self,
        response: object = None,
        accept: str | None = None,
        status: int | str = 200,
        headers: object = None,
        mimetype: str | None = None,
        direct_passthrough: bool = False,
    ) -> None:
        """`accept` is ignored."""
        super().__init__(response, status, headers, mimetype, None, direct_passthrough)
