from collections.abc import Mapping
from pathlib import Path


def read_file(path: str, mode: str = "r") -> str | bytes:
    return Path(path).read_bytes() if "b" in mode else Path(path).read_text()


def write_file(path: str, data: str, mode: str = "w") -> None:
    with open(path, mode) as file:
        file.write(data)


def retrieve_content_type_header(request_property: Mapping[str, str]) -> str | None:
    return next((value for key, value in request_property.items() if _is_content_type(key)), None)


def _is_content_type(key: str) -> bool:
    return key.lower().replace("-", "", 1).startswith("contenttype")


def parse_accept(accept: str) -> list[str]:
    """Return the media types of an Accept header, in its order, with their parameters."""
    return accept.replace(" ", "").split(",")


def remove_crlf(illegal_string: str) -> str:
    return illegal_string.replace("\r", " ").replace("\n", " ")
