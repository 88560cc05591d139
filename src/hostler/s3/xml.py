"""S3's XML: render answers, parse the documents that clients send. Knows nothing of buckets."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime
from xml.etree import ElementTree

from hostler.s3.buckets import S3Error

Value = str | int | bool | Sequence[tuple[str, "Value"]]

_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
NAMESPACE = "http://s3.amazonaws.com/doc/2006-03-01/"


def document(name: str, value: Value) -> bytes:
    """Render an element in S3's namespace; a sequence of pairs becomes its children, in order."""
    body = _content(value)
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<{name} xmlns="{NAMESPACE}">{body}</{name}>'.encode()


def error(code: str, message: str, resource: str, request_id: str) -> bytes:
    """Render an Error, which has no namespace."""
    body = _content([("Code", code), ("Message", message), ("Resource", resource), ("RequestId", request_id)])
    return f'<?xml version="1.0" encoding="UTF-8"?>\n<Error>{body}</Error>'.encode()


def _content(value: Value) -> str:
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, (str, int)):
        return str(value).translate(_ESCAPED)
    return "".join(f"<{name}>{_content(child)}</{name}>" for name, child in value)


def time(seconds: float) -> str:
    """Render epoch seconds as S3 does: UTC, with milliseconds."""
    return datetime.fromtimestamp(seconds, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


Fields = list[tuple[str, str]]


def read(body: bytes, name: str) -> list[tuple[str, str | Fields]]:
    """Parse the element `name`; return its children, each with its text or with its own children as (name, text).

    Raises S3Error MalformedXML. A document type is refused: it could declare entities that expand without end.
    """
    malformed = S3Error(
        "MalformedXML",
        "The XML you provided was not well-formed or did not validate against our published schema",
        400,
    )
    if b"<!DOCTYPE" in body:
        raise malformed
    try:
        root = ElementTree.fromstring(body)
    except (ElementTree.ParseError, ValueError, LookupError):
        raise malformed from None
    if _local_name(root) != name:
        raise malformed
    return [
        (
            _local_name(child),
            [(_local_name(field), field.text or "") for field in child] if len(child) else child.text or "",
        )
        for child in root
    ]


def _local_name(element: ElementTree.Element) -> str:
    return element.tag.rpartition("}")[2]
