"""The values of settings. Each parses text, or a value of TOML, and raises ValueError with a text for people."""

from __future__ import annotations

import math
import os
import re
from collections.abc import Callable
from pathlib import Path
from typing import Literal, TypeVar
from urllib.parse import urlsplit

T = TypeVar("T")
N = TypeVar("N", int, float)
Parse = Callable[[object], T]

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
MAX = 2**62
_YEAR = 365 * 86_400.0


def size(value: object) -> int:
    """Parse `256MiB`, `2GB` or a plain number to bytes. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d{1,30}(?:\.\d{1,30})?)\s*([A-Za-z]*)\s*", str(value))
    if not match or match[2].lower() not in _UNITS:
        raise ValueError(f"{value!r} is not a size such as 256MiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def between(parse: Parse[N], minimum: float, maximum: float) -> Parse[N]:
    def parse_between(value: object) -> N:
        number = parse(value)
        if number < minimum:
            raise ValueError(f"{value} is less than {minimum:g}")
        if number > maximum:
            raise ValueError(f"{value} is more than {maximum:.15g}")
        return number

    return parse_between


def number(kind: Callable[[str], N], minimum: float, maximum: float, description: str) -> Parse[N]:
    def parse(value: object) -> N:
        try:
            number = kind(str(value))  # from text, because int() would accept a TOML 1.5 or true
            if not math.isnan(number):
                return number
        except ValueError:
            pass
        raise ValueError(f"{value!r} is not {description}")

    return between(parse, minimum, maximum)


def count(minimum: int, maximum: int = MAX) -> Parse[int]:
    return number(int, minimum, maximum, "a whole number")


def seconds(minimum: float) -> Parse[float]:
    return number(float, minimum, _YEAR, "a number of seconds")


def size_from(minimum: int) -> Parse[int]:
    return between(size, minimum, MAX)


def size_or_stdout(value: object) -> int | Literal["stdout"]:
    return "stdout" if value == "stdout" else size_from(0)(value)


def memory(value: object) -> int:
    count = size_from(0)(value)
    if 0 < count < 2**20 and str(value).strip().isdigit():
        raise ValueError(f"{value} means bytes; did you mean {value}MiB?")
    return count


def one_of(*choices: str) -> Parse[str]:
    def parse(value: object) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is not one of {', '.join(choices)}")
        return str(value)

    return parse


def text(value: object) -> str:
    if not isinstance(value, (str, Path)):
        raise ValueError(f"{value!r} is not text")
    text = str(value)
    if not text.strip():
        raise ValueError("it is empty")
    if any(char in text for char in "\0\r\n"):
        raise ValueError(f"{text!r} is not one line")
    return text


def port_or_none(value: object) -> int | None:
    return None if value == "" else count(0, 65_535)(value)


def folder(value: object) -> Path:
    folder = Path(os.path.expanduser(text(value)))
    if str(folder).startswith("~"):
        raise ValueError(f"the home folder in {str(value)!r} cannot be found")
    return folder.absolute()


def folder_or_none(value: object) -> str:
    return "" if value == "" else str(folder(value))


def text_or_none(value: object) -> str:
    return "" if value == "" else text(value)


def docker_address(value: object) -> str:
    text = text_or_none(value)
    if text and not re.fullmatch(r"(unix:///|tcp://[^/])[^?#]*", text):
        raise ValueError(f"{text!r} is no address such as unix:///var/run/docker.sock or tcp://127.0.0.1:2375")
    return text


def link_address(value: object) -> str:
    text = text_or_none(value)
    match = re.fullmatch(r"(?:tcp|tls):(.+):(\d{1,5})", text)
    if text and not (match and int(match[2]) < 65_536):
        raise ValueError(f"{text!r} is no address such as tls:control.example:7700")
    return text


def s3_url(value: object) -> str:
    if value in ("", "aws"):
        return str(value)
    try:
        url = urlsplit(text(value))
        is_url = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and " " not in url.netloc
    except ValueError:
        is_url = False
    if not is_url:
        raise ValueError("it is neither a URL that begins with http:// or https://, nor `aws`, nor empty")
    if "@" in url.netloc or url.query or url.fragment:  # clients get to see the URL
        raise ValueError("the URL must not hold a user, a password, a query or a fragment")
    return url.geturl().rstrip("/")


def flag(value: object) -> bool:
    text = str(value).lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(f"{value!r} is not true or false")


def names(value: object) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{value!r} is not a list of names")
    return tuple(part.strip() for part in parts if part.strip())
