"""One table of settings: name, type, default, help. Precedence: flags > HOSTLER_* > hostler.toml > default.

`hostler.toml` is read from the current folder or from the path in HOSTLER_CONFIG. Besides the settings below it may
hold one table, `[images]`: image URI -> command (a string or a list of strings).
"""

from __future__ import annotations

import math
import os
import re
import shlex
import tomllib
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any
from urllib.parse import urlsplit

from hostler.errors import UserError

Parse = Callable[[Any], Any]  # from text or a TOML value; raises ValueError, its text in plain words

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}
_MOST = 2**62
_ACCESS_KEY = re.compile(r"[\w.+=@-]{1,128}", re.ASCII).fullmatch
_YEAR = 365 * 86_400.0

_DATA = Path("~/.hostler")


def size(value: str | int) -> int:
    """Bytes from `256MiB`, `2GB` or a plain number. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d{1,30}(?:\.\d{1,30})?)\s*([A-Za-z]*)\s*", str(value))
    if not match or match[2].lower() not in _UNITS:
        raise ValueError(f"{value!r} is not a size such as 256MiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _between(parse: Parse, least: float, most: float) -> Parse:
    def parse_between(value: Any) -> Any:
        number = parse(value)
        if number < least:
            raise ValueError(f"{value} is less than {least:g}")
        if number > most:
            raise ValueError(f"{value} is more than {most:.15g}")
        return number

    return parse_between


def _number(kind: type[int] | type[float], least: float, most: float, what: str) -> Parse:
    def parse(value: Any) -> Any:
        try:
            number = kind(str(value))  # by way of text: a TOML 1.5 or true is no whole number
        except ValueError:
            number = math.nan
        if math.isnan(number):
            raise ValueError(f"{value!r} is not {what}")
        return number

    return _between(parse, least, most)


def _count(least: int, most: int = _MOST) -> Parse:
    return _number(int, least, most, "a whole number")


def _seconds(least: float) -> Parse:
    return _number(float, least, _YEAR, "a number of seconds")


def _size(least: int) -> Parse:
    return _between(size, least, _MOST)


def _memory(value: Any) -> int:
    count = _size(0)(value)
    if 0 < count < 2**20 and str(value).strip().isdigit():
        raise ValueError(f"{value} are bytes; is {value}MiB meant?")
    return int(count)


def _one_of(*choices: str) -> Parse:
    def parse(value: Any) -> str:
        if value not in choices:
            raise ValueError(f"{value!r} is none of {', '.join(choices)}")
        return str(value)

    return parse


def _text(value: Any) -> str:
    if not isinstance(value, (str, Path)):
        raise ValueError(f"{value!r} is not text")
    text = str(value)
    if not text.strip():
        raise ValueError("it is empty")
    if any(char in text for char in "\0\r\n"):
        raise ValueError(f"{text!r} is not one line")
    return text


def _folder(value: Any) -> Path:
    folder = Path(os.path.expanduser(_text(value)))
    if str(folder).startswith("~"):
        raise ValueError(f"whose home {str(value)!r} is cannot be found")
    return folder.absolute()


def _root(value: Any) -> str:
    return "" if value == "" else str(_folder(value))


def _s3(value: Any) -> str:
    if value in ("", "aws"):
        return str(value)
    try:
        url = urlsplit(_text(value))
        whole = url.scheme in ("http", "https") and bool(url.hostname) and url.port != 0 and " " not in url.netloc
    except ValueError:
        whole = False
    if not whole:
        raise ValueError("it is neither a URL that begins with http:// or https://, nor `aws`, nor empty")
    if "@" in url.netloc or url.query or url.fragment:  # it is shown to clients
        raise ValueError("the URL must not hold a user, a password, a query or a fragment")
    return url.geturl().rstrip("/")


def _flag(value: Any) -> bool:
    text = str(value).lower()
    if text in ("1", "true", "yes", "on"):
        return True
    if text in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(f"{value!r} is not true or false")


def _names(value: Any) -> tuple[str, ...]:
    parts = value.split(",") if isinstance(value, str) else value
    if not isinstance(parts, list) or not all(isinstance(part, str) for part in parts):
        raise ValueError(f"{value!r} is not a list of names")
    return tuple(part.strip() for part in parts if part.strip())


def _setting(parse: Parse, default: Any, text: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": text})


@dataclass(frozen=True)
class Settings:
    """All settings, resolved. Times are seconds, sizes bytes. Empty text means "not set"."""

    host: str = _setting(_text, "127.0.0.1", "address to listen on")
    port: int = _setting(_count(0, 65_535), 4566, "port to listen on; 0 picks a free one")
    data: Path = _setting(_folder, _DATA, "folder for state, objects, logs and the artifact cache")  # noqa: RUF009
    gateways: int = _setting(_count(1, 256), 1, "gateway processes")
    allow_remote_access_without_authentication: bool = _setting(
        _flag, False, "let --host be an address that other machines can reach, though nobody is asked who they are"
    )
    allowed_hosts: tuple[str, ...] = _setting(
        _names, (), "names that a request's Host header may hold besides loopback addresses and *.localhost"
    )
    signatures: str = _setting(
        _one_of("off", "verify"), "off", "verify refuses what is not signed with a key of keys_file; off asks nobody"
    )
    keys_file: str = _setting(_root, "", 'file with lines such as ACCESSKEY = "its secret key", for you alone to read')
    region: str = _setting(_text, "us-east-1", "region of a request that is not signed")
    hold: float = _setting(
        _seconds(0), 5.0, "how long creating, updating and deleting an endpoint wait for the outcome"
    )
    startup_timeout: float = _setting(_seconds(0.1), 240.0, "time for a container to answer its first ping")
    invoke_timeout: float = _setting(_seconds(0.1), 60.0, "time for an invocation, loading included")
    drain_timeout: float = _setting(_seconds(0), 30.0, "time for requests in flight when hostler stops")
    access_log: int = _setting(
        _size(0),
        128 * 2**20,
        "room for a gateway's access log in logs/access, a line for each invocation; 0 keeps none",
    )
    instance_memory: int = _setting(_memory, 0, "memory of every instance, e.g. 256MiB; 0 takes the instance type's")
    memory_fraction: float = _setting(
        _number(float, 0.01, 1, "a number"), 0.6, "share of the machine's memory that all instances may have together"
    )
    eviction: str = _setting(
        _one_of("frequency", "lru"),
        "frequency",
        "which targets make way in memory: those used least often (while that serves better), or least recently",
    )
    idle_ttl: float = _setting(
        _seconds(0), 0.0, "time without a call after which a target is unloaded; 0: never. Tags may say otherwise"
    )
    disk_budget: int = _setting(_size(1), 20 * 2**30, "room for extracted artifacts on disk")
    archive_max_bytes: int = _setting(_size(1), 10 * 2**30, "largest size of an archive once extracted")
    archive_max_files: int = _setting(_count(1), 100_000, "most members of an archive")
    archive_max_ratio: float = _setting(
        _number(float, 1, _MOST, "a number"), 200.0, "largest ratio of an archive's extracted to its packed size"
    )
    s3_endpoint: str = _setting(_s3, "", "URL of an S3 to take artifacts from, or `aws`; empty: the embedded one")
    file_root: str = _setting(_root, "", "folder below which a ModelDataUrl may be file://; empty: none may")
    strict_images: bool = _setting(_flag, False, "refuse an image that neither we nor [images] know")
    bubblewrap: str = _setting(
        _one_of("auto", "on", "off"), "auto", "isolate mapped commands with bubblewrap: auto, on or off"
    )
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

    @property
    def access_logs(self) -> Path:
        """The folder of the gateways' access logs, one for each by its name, and the one before it (`.1`)."""
        return self.data / "logs" / "access"

    @property
    def s3_url(self) -> str:
        """Where artifacts are taken from, as a URL; empty: the embedded S3."""
        suffix = ".cn" if self.region.startswith("cn-") else ""
        return f"https://s3.{self.region}.amazonaws.com{suffix}" if self.s3_endpoint == "aws" else self.s3_endpoint

    @staticmethod
    def described() -> list[tuple[str, Any, str]]:
        """(name, default, help) of every setting, in order; the docs and the CLI's help are made from it."""
        return [(f.name, f.default, f.metadata["help"]) for f in fields(Settings) if f.metadata]


def load(flags: Mapping[str, Any], environ: Mapping[str, str] | None = None, folder: Path | None = None) -> Settings:
    """Resolve the settings. `flags` holds what the command line gave (None: not given).

    Raises UserError for an unknown name, a value that does not parse, or a hostler.toml that is not TOML.
    """
    environ = os.environ if environ is None else environ
    path = Path(environ.get("HOSTLER_CONFIG") or (folder or Path.cwd()) / "hostler.toml")
    if environ.get("HOSTLER_CONFIG") and not path.is_file():
        raise UserError(f"HOSTLER_CONFIG names {path}, which is not there")
    table = _read_toml(path)
    images = _images(table.pop("images", {}), path)
    known = {f.name: f.metadata["parse"] for f in fields(Settings) if f.metadata}
    for name in table:
        if name not in known:
            raise UserError(f"{path}: there is no setting named {name}")
    values: dict[str, Any] = {}
    for name, parse in known.items():
        sources = (
            (flags.get(name), f"--{name.replace('_', '-')}"),
            (environ.get(variable(name)), variable(name)),
            (table.get(name), f"{path}: {name}"),
        )
        for value, where in sources:
            if value is None:
                continue
            try:
                values[name] = parse(value)
            except ValueError as error:
                raise UserError(f"{where}: {error}") from None
            break
    try:
        values.setdefault("data", _folder(_DATA))
    except ValueError as error:
        raise UserError(f"data: {error}; say where with --data") from None
    return Settings(**values, images=images)


def variable(name: str) -> str:
    """The environment variable of the setting of this name."""
    return f"HOSTLER_{name.upper()}"


def unknown(environ: Mapping[str, str]) -> list[tuple[str, str]]:
    """(name, the variable that may have been meant, or empty) of each HOSTLER_* that is no setting's."""
    from difflib import get_close_matches  # gateways read settings, too, and have no use for it

    known = [name.upper() for name, _, _ in Settings.described()]
    names = [name.removeprefix("HOSTLER_") for name in sorted(environ) if name.startswith("HOSTLER_")]
    strange = [name for name in names if name not in (*known, "CONFIG") and not name.startswith("TEST_")]
    meant = [next(iter(get_close_matches(name, known, 1)), "") for name in strange]
    return [(variable(name), near and variable(near)) for name, near in zip(strange, meant, strict=True)]


def _plain(settings: Settings) -> dict[str, Any]:
    return {f.name: getattr(settings, f.name) for f in fields(settings)}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text("utf-8"))
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except UnicodeDecodeError:
        raise UserError(f"{path} cannot be read: it is not UTF-8") from None
    except tomllib.TOMLDecodeError as error:
        raise UserError(f"{path} cannot be read: {error}") from None
    except OSError as error:
        raise UserError(f"{path} cannot be read: {error.strerror}") from None


def _images(table: Any, path: Path) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise UserError(f"{path}: [images] must be a table of image = command")
    images: dict[str, tuple[str, ...]] = {}
    for image, command in table.items():
        try:
            words = shlex.split(command) if isinstance(command, str) else command
        except ValueError:
            raise UserError(f"{path}: [images] {image!r}: a quotation mark in the command is not closed") from None
        if not isinstance(words, list) or not words or not all(isinstance(word, str) for word in words):
            raise UserError(f"{path}: [images] {image!r}: the command must be a string or a list of strings")
        images[image] = tuple(words)
    return images


def access_keys(settings: Settings) -> dict[str, str]:
    """The keys that requests may be signed with, access key -> secret key, from `keys_file` (TOML).

    They are in no Settings, so that nothing that shows or hands on settings shows them. Raises UserError, which shows
    nothing of the file.
    """
    path = settings.keys_file
    if not path:
        raise UserError('signatures = "verify" needs keys_file, a file with lines such as ACCESSKEY = "its secret key"')
    try:
        with open(path, "rb") as file:
            mode = os.fstat(file.fileno()).st_mode
            text = file.read(2**20)
    except OSError as error:
        raise UserError(f"keys_file {path} cannot be read: {error.strerror}") from None
    if mode & 0o077:
        raise UserError(f"keys_file {path} is not yours alone (its mode is {mode & 0o777:o}): chmod 600 {path}")
    try:
        table = tomllib.loads(text.decode())
    except (tomllib.TOMLDecodeError, UnicodeDecodeError) as error:
        line = re.search(r"line \d+", str(error))
        raise UserError(f"keys_file {path} is not TOML{f', at {line[0]}' if line else ''}") from None
    for number, (access_key, secret) in enumerate(table.items(), 1):
        if not _ACCESS_KEY(access_key) or not isinstance(secret, str) or not secret.strip():
            raise UserError(f'keys_file {path}: entry {number} is not of the form ACCESSKEY = "its secret key"')
    if not table:
        raise UserError(f"keys_file {path} holds no key")
    return table


def dump(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values, for handing them to a child process."""
    return {**_plain(settings), "data": str(settings.data), "images": {k: list(v) for k, v in settings.images.items()}}


def restore(table: Mapping[str, Any]) -> Settings:
    """The settings from `dump`'s JSON values."""
    images = {k: tuple(v) for k, v in table["images"].items()}
    values = {**table, "data": Path(table["data"]), "allowed_hosts": tuple(table["allowed_hosts"]), "images": images}
    return Settings(**values)
