"""What Flask answers with, without Flask: a Response that a script makes, and the answers that a script's values are.

Scripts on the scikit-learn and XGBoost images return Flask's Response, or sagemaker_containers' own, which differs in
its default media type alone. An object of Flask's, where that is installed, is used by the same few members.
Sources: pallets/flask, app.py make_response; pallets/werkzeug, wrappers and utils.get_content_type.
"""

from __future__ import annotations

import http
import json
from collections.abc import Iterable, Iterator
from typing import Any
from wsgiref.headers import Headers

from hostler.servers.frameworks.predictor import Reply, Stream

_HTML = "text/html"
_WITH_CHARSET = ("application/javascript", "application/ecmascript", "application/sql", "application/xml")
# Werkzeug's, where Python has others: some only since 3.13.
_PHRASES = {
    413: "Request Entity Too Large",
    414: "Request URI Too Long",
    416: "Requested Range Not Satisfiable",
    422: "Unprocessable Entity",
}
_OF_THE_CONNECTION = ("connection", "content-length", "content-type", "date", "server", "transfer-encoding")


class Response:
    """An answer as Flask's has it: `get_data()`, `status_code`, `headers`, `mimetype`, `content_type`."""

    default_mimetype = _HTML

    def __init__(
        self,
        response: str | bytes | Iterable[str | bytes] | None = None,
        status: int | str | None = None,
        headers: Any = None,
        mimetype: str | None = None,
        content_type: str | None = None,
        direct_passthrough: bool = False,
    ) -> None:
        self.headers = Headers([(str(key), str(value)) for key, value in _pairs(headers)])
        if content_type is None and (mimetype is not None or "Content-Type" not in self.headers):
            content_type = with_charset(mimetype or self.default_mimetype)
        if content_type is not None:
            self.content_type = content_type
        self.status = status or 200
        self.direct_passthrough = direct_passthrough
        self.response: Iterable[str | bytes] = ()
        if isinstance(response, str | bytes | bytearray):
            self.set_data(response)
        elif response is not None:
            self.response = response

    @property
    def status(self) -> Any:  # text; also a number may be assigned
        try:
            phrase = _PHRASES.get(self.status_code) or http.HTTPStatus(self.status_code).phrase
            return f"{self.status_code} {phrase.upper()}"
        except ValueError:
            return f"{self.status_code} UNKNOWN"

    @status.setter
    def status(self, value: int | str) -> None:
        self.status_code = int(str(int(value) if isinstance(value, int) else value).partition(" ")[0])

    @property
    def content_type(self) -> str:
        return self.headers["Content-Type"] or ""

    @content_type.setter
    def content_type(self, value: str) -> None:
        self.headers["Content-Type"] = value

    @property
    def mimetype(self) -> str:
        return self.content_type.partition(";")[0].strip().lower()

    @mimetype.setter
    def mimetype(self, value: str) -> None:
        self.content_type = with_charset(value)

    @property
    def is_streamed(self) -> bool:
        """Whether the body is made piece by piece."""
        return not hasattr(self.response, "__len__")

    def iter_encoded(self) -> Iterator[bytes]:
        return map(_encoded, self.response)

    def set_data(self, value: str | bytes) -> None:
        self.response = [_encoded(value)]

    def get_data(self, as_text: bool = False) -> Any:
        self.response = list(self.iter_encoded())
        body = b"".join(self.iter_encoded())
        return body.decode(errors="replace") if as_text else body

    data = property(get_data, set_data)


def as_json(value: object) -> str:
    return f"{json.dumps(value, sort_keys=True, separators=(',', ':'))}\n"


def _encoded(piece: str | bytes) -> bytes:
    if isinstance(piece, str):
        return piece.encode()
    if not isinstance(piece, bytes | bytearray | memoryview):  # bytes(5) would be five bytes
        raise TypeError(f"a piece of a Response is text or bytes, and this is a {type(piece).__name__}")
    return bytes(piece)


def with_charset(mimetype: str) -> str:
    """Return the content type of a media type: text has its charset."""
    text = mimetype.startswith("text/") or mimetype in _WITH_CHARSET or mimetype.endswith("+xml")
    return f"{mimetype}; charset=utf-8" if text else mimetype


def answer(value: Any) -> Reply | Stream:
    """Return the answer that a view's value is to Flask 1.1.1. Raises TypeError, ValueError if it is none.

    A Response goes through: body, status, content type, headers. Text and bytes are HTML, a dict is JSON. An iterator,
    also a Response's, is sent piece by piece.
    """
    if callable(getattr(value, "get_data", None)) and hasattr(value, "status_code"):
        if getattr(value, "is_streamed", False) and value.status_code == http.HTTPStatus.OK:
            return Stream(value.iter_encoded(), value.content_type)
        if not 200 <= value.status_code <= 599:  # an answer below is not the last one to a request
            raise ValueError(f"the script's Response has the status {value.status_code}, which is none of 200 to 599")
        headers = tuple((key, text) for key, text in value.headers.items() if key.lower() not in _OF_THE_CONNECTION)
        return Reply(value.status_code, value.get_data(), value.content_type or _HTML, headers)
    if isinstance(value, str):
        return Reply(200, value.encode(), with_charset(_HTML))
    if isinstance(value, bytes | bytearray):
        return Reply(200, bytes(value), with_charset(_HTML))
    if isinstance(value, Iterator):
        return Stream(value, with_charset(_HTML))
    if isinstance(value, dict):
        return Reply(200, as_json(value).encode(), "application/json")
    raise TypeError(
        f"the script's last function returned a {type(value).__name__}, which is no answer: an answer is text, bytes, a"
        " dict, a Response, or a body and its media type"
    )


def _pairs(headers: Any) -> Iterable[tuple[object, object]]:
    return headers.items() if hasattr(headers, "items") else headers or ()
