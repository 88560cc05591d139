"""AWS's query protocol: a form comes in, XML goes out (§1.1). It knows the format alone, and no operations."""

from __future__ import annotations

import re
from base64 import b64encode
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import TYPE_CHECKING, Any
from urllib.parse import parse_qsl

from hostler.errors import SerializationException

if TYPE_CHECKING:  # a gateway renders errors alone, and reads no models
    from hostler.aws.service import Operation, Shape

CONTENT_TYPE = "text/xml"
_DEEPEST = 32  # parts of a parameter's name
_FORBIDDEN = re.compile("[^\t\n\r\x20-\ud7ff\ue000-\ufffd\U00010000-\U0010ffff]")  # in XML 1.0
_ESCAPED = str.maketrans({"&": "&amp;", "<": "&lt;", ">": "&gt;", "\r": "&#13;"})
_NUMBER = re.compile(r"[1-9]\d{0,5}", re.ASCII).fullmatch
_INTEGER = re.compile(r"[-+]?\d{1,20}", re.ASCII).fullmatch
_FLOAT = re.compile(r"[-+]?(?:\d+\.?\d*|\.\d+)(?:[eE][-+]?\d+)?", re.ASCII).fullmatch
_SECONDS = re.compile(r"\d{1,15}(?:\.\d{1,9})?", re.ASCII).fullmatch

_XML = '<?xml version="1.0" encoding="UTF-8"?>\n'

Tree = dict[str, Any]  # the parts of the parameters' names; leaves are their values


def parse_form(body: bytes) -> dict[str, str]:
    """Return the parameters of a form; of one that comes twice the last. Whatever is not UTF-8 is replaced."""
    return dict(parse_qsl(body.decode("utf-8", "replace"), keep_blank_values=True, errors="replace"))


def parse(form: Mapping[str, str], shape: Shape) -> dict[str, Any]:
    """Return the document of a request of this shape, without Action, Version and those of a presigned address.

    Raises SerializationException.

    A value that does not fit its member's type stays text, and a parameter that no member has stays in the document:
    `check.read` refuses them.
    """
    tree: Tree = {}
    for name, value in form.items():
        if name not in ("Action", "Version") and not name.startswith("X-Amz-"):
            _plant(tree, name, value)
    return _structure(tree, shape)


def _plant(tree: Tree, name: str, value: str) -> None:
    *path, last = name.split(".")
    if len(path) >= _DEEPEST:
        raise SerializationException("The name of a parameter has too many parts")
    for part in path:
        tree = tree.setdefault(part, {})
        if not isinstance(tree, dict):
            raise SerializationException(f"The parameter {part[:100]} has a value and members")
    if isinstance(tree.get(last), dict):
        raise SerializationException(f"The parameter {last[:100]} has a value and members")
    tree[last] = value


def _structure(tree: Tree, shape: Shape) -> dict[str, Any]:
    return {
        name: _typed(value, shape.members[name]) if name in shape.members else value for name, value in tree.items()
    }


def _typed(value: str | Tree, shape: Shape) -> Any:
    if isinstance(value, dict):
        match shape.type:
            case "structure":
                return _structure(value, shape)
            case "list" if shape.element and isinstance(items := value.get("member"), dict) and len(value) == 1:
                return [_typed(item, shape.element) for item in _numbered(items)]
            case "map" if shape.element and isinstance(items := value.get("entry"), dict) and len(value) == 1:
                entries = [item for item in _numbered(items) if isinstance(item, dict)]
                return {str(item.get("key", "")): _typed(item.get("value", ""), shape.element) for item in entries}
        return value
    return _scalar(value, shape)


def _numbered(items: Tree) -> list[Any]:
    """Return list items in the order of their numbers."""
    if not all(map(_NUMBER, items)):
        raise SerializationException("The items of a list must be numbered from 1")
    return [items[number] for number in sorted(items, key=int)]


def _scalar(text: str, shape: Shape) -> Any:
    """Return the value that a text is written for; the text, which `check` refuses, if it is none of its type."""
    match shape.type:
        case "integer" if _INTEGER(text):
            return int(text)
        case "float" if _FLOAT(text):
            return float(text)
        case "boolean":
            return {"true": True, "false": False}.get(text.lower(), text)
        case "list" if not text:
            return []  # so botocore writes an empty list
        case "timestamp" if _SECONDS(text):
            return float(text)
    return text


# --- answers ----------------------------------------------------------------------------------------------------------


def render(document: Mapping[str, Any] | None, operation: Operation, namespace: str, request_id: str) -> bytes:
    """Render the body of an answer."""
    result = ""
    if operation.output and operation.wrapper:
        result = _element(operation.wrapper, _content(document or {}, operation.output))
    metadata = _element("ResponseMetadata", _element("RequestId", request_id))
    name = f"{operation.name}Response"
    return f'<{name} xmlns="{namespace}">{result}{metadata}</{name}>'.encode()


def render_error(code: str, message: str, fault: bool, namespace: str, request_id: str) -> bytes:
    """Render the body of an error. `fault`: it is the server's."""
    kind = "Receiver" if fault else "Sender"
    inner = _element("Type", kind) + _element("Code", text(code)) + _element("Message", text(message))
    opening = f'<ErrorResponse xmlns="{namespace}">' if namespace else "<ErrorResponse>"
    return f"{opening}{_element('Error', inner)}{_element('RequestId', request_id)}</ErrorResponse>".encode()


def render_ec2_error(code: str, message: str, request_id: str) -> bytes:
    """Render the body of an error of EC2's, whose form is its own."""
    error = _element("Error", _element("Code", text(code)) + _element("Message", text(message)))
    return (_XML + _element("Response", _element("Errors", error) + _element("RequestID", request_id))).encode()


def render_s3_error(code: str, message: str, request_id: str) -> bytes:
    """Render the body of an error of S3's, which has nothing around it."""
    inner = _element("Code", text(code)) + _element("Message", text(message)) + _element("RequestId", request_id)
    return (_XML + _element("Error", inner)).encode()


def text(value: str) -> str:
    """Return a text as XML can hold it."""
    return _FORBIDDEN.sub("\ufffd", value).translate(_ESCAPED)


def _element(name: str, content: str) -> str:
    return f"<{name}>{content}</{name}>"


def _content(value: Any, shape: Shape) -> str:
    match shape.type:
        case "structure":
            members = ((name, shape.members[name], item) for name, item in value.items() if item is not None)
            return "".join(_element(name, _content(item, member)) for name, member, item in members)
        case "list" if shape.element:
            return "".join(_element("member", _content(item, shape.element)) for item in value)
        case "map" if shape.key and shape.element:
            return "".join(
                _element("entry", _element("key", text(key)) + _element("value", _content(item, shape.element)))
                for key, item in value.items()
            )
        case "timestamp":
            return datetime.fromtimestamp(value, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")
        case "boolean":
            return "true" if value else "false"
        case "blob":
            return b64encode(value).decode()
    return text(str(value))
