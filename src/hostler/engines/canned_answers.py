"""The file that the setting canned_answers names: tables [[answer]], of which the first that matches a call counts."""

from __future__ import annotations

import fnmatch
import re
import tomllib
from pathlib import Path
from typing import Annotated

import msgspec

from hostler.errors import UserError
from hostler.servers.frameworks.canned import Answer

_OURS = {"connection", "content-length", "content-type", "transfer-encoding"}
_TOKEN = re.compile(r"[A-Za-z0-9!#$%&'*+.^_`|~-]+").fullmatch  # a header's name (RFC 9110 §5.6.2)


class _Row(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    """The first three are patterns, as file names have them. `file`: of the body, beside the table's own file."""

    endpoint: str = "*"
    target: str = "*"
    content_type: str = "*"
    status: Annotated[int, msgspec.Meta(ge=200, le=599)] = 200
    body: str = ""
    file: str = ""
    type: str = "application/json"
    headers: dict[str, str] = {}

    def __post_init__(self) -> None:
        if self.file and self.body:
            raise ValueError("an answer has either a body or a file")
        if ours := [name for name in self.headers if name.lower() in _OURS]:
            raise ValueError(f"the header {ours[0]} is none that an answer can choose")
        for name, value in (*self.headers.items(), ("type", self.type)):
            if not _TOKEN(name) or not value.isprintable():
                raise ValueError(f"{name!r} with the value {value!r} cannot be a header")


class _Table(msgspec.Struct, frozen=True, forbid_unknown_fields=True):
    answer: Annotated[list[_Row], msgspec.Meta(min_length=1)]


def read(path: str, endpoint: str | None = None) -> list[Answer]:
    """Return the answers of one endpoint; without a name those of all. Raises UserError, with the table's number."""
    try:
        table = msgspec.convert(tomllib.loads(Path(path).read_text("utf-8")), _Table)
        return [
            Answer(row.target, row.content_type, row.status, _body(row, Path(path).parent), row.type, row.headers)
            for row in table.answer
            if endpoint is None or fnmatch.fnmatchcase(endpoint, row.endpoint)
        ]
    except OSError as error:
        raise UserError(f"canned_answers: {error.filename} cannot be read: {error.strerror}") from None
    except (msgspec.ValidationError, ValueError) as error:
        raise UserError(f"canned_answers {path}: {error}") from None


def _body(row: _Row, folder: Path) -> bytes:
    return (folder / row.file).read_bytes() if row.file else row.body.encode()
