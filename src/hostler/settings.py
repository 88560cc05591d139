"""One table of settings: name, type, default, help. Precedence: flags > HOSTLER_* > hostler.toml > default.

`hostler.toml` is read from the current folder or from the path in HOSTLER_CONFIG. Besides the settings below it may
hold one table, `[images]`: image URI -> command (a string or a list of strings).
"""

from __future__ import annotations

import os
import re
import shlex
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass, field, fields
from pathlib import Path
from typing import Any

from hostler.errors import UserError

_UNITS = {"": 1, "b": 1, "kib": 2**10, "mib": 2**20, "gib": 2**30, "kb": 10**3, "mb": 10**6, "gb": 10**9}


_DATA = Path("~/.hostler")


def size(text: str | int) -> int:
    """Bytes from `256MiB`, `2GB` or a plain number. Raises ValueError."""
    match = re.fullmatch(r"\s*(\d+(?:\.\d+)?)\s*([A-Za-z]*)\s*", str(text))
    if not match or match[2].lower() not in _UNITS:
        raise ValueError(f"{text!r} is not a size such as 256MiB")
    return int(float(match[1]) * _UNITS[match[2].lower()])


def _flag(text: str | bool) -> bool:
    if isinstance(text, bool):
        return text
    if text.lower() in ("1", "true", "yes", "on"):
        return True
    if text.lower() in ("0", "false", "no", "off", ""):
        return False
    raise ValueError(f"{text!r} is not true or false")


def _names(text: str | list[str]) -> tuple[str, ...]:
    return tuple(part.strip() for part in (text.split(",") if isinstance(text, str) else text) if part.strip())


def _setting(parse: Any, default: Any, text: str) -> Any:
    return field(default=default, metadata={"parse": parse, "help": text})


@dataclass(frozen=True)
class Settings:
    """All settings, resolved. Times are seconds, sizes bytes. Empty text means "not set"."""

    host: str = _setting(str, "127.0.0.1", "address to listen on")
    port: int = _setting(int, 4566, "port to listen on; 0 picks a free one")
    data: Path = _setting(Path, _DATA, "folder for state, objects, logs and the artifact cache")  # noqa: RUF009
    gateways: int = _setting(int, 1, "gateway processes")
    allow_remote_access_without_authentication: bool = _setting(
        _flag, False, "let --host be an address that other machines can reach, though nobody is asked who they are"
    )
    allowed_hosts: tuple[str, ...] = _setting(
        _names, (), "names that a request's Host header may hold besides loopback addresses and *.localhost"
    )
    region: str = _setting(str, "us-east-1", "region of a request that is not signed")
    hold: float = _setting(float, 5.0, "how long CreateEndpoint and DeleteEndpoint wait for the outcome")
    startup_timeout: float = _setting(float, 240.0, "time for a container to answer its first ping")
    invoke_timeout: float = _setting(float, 60.0, "time for an invocation, loading included")
    drain_timeout: float = _setting(float, 30.0, "time for requests in flight when hostler stops")
    instance_memory: int = _setting(size, 0, "memory of every instance, e.g. 256MiB; 0 takes the instance type's")
    memory_fraction: float = _setting(float, 0.6, "share of the machine's memory that all instances may have together")
    disk_budget: int = _setting(size, 20 * 2**30, "room for extracted artifacts on disk")
    archive_max_bytes: int = _setting(size, 10 * 2**30, "largest size of an archive once extracted")
    archive_max_files: int = _setting(int, 100_000, "most members of an archive")
    archive_max_ratio: float = _setting(float, 200.0, "largest ratio of an archive's extracted to its packed size")
    s3_endpoint: str = _setting(str, "", "URL of an S3 to take artifacts from, or `aws`; empty: the embedded one")
    strict_images: bool = _setting(_flag, False, "refuse an image that neither we nor [images] know")
    bubblewrap: str = _setting(str, "auto", "isolate mapped commands with bubblewrap: auto, on or off")
    images: Mapping[str, tuple[str, ...]] = field(default_factory=dict)

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
            (environ.get(f"HOSTLER_{name.upper()}"), f"HOSTLER_{name.upper()}"),
            (table.get(name), str(path)),
        )
        for value, where in sources:
            if value is None:
                continue
            try:
                values[name] = parse(value)
            except (ValueError, TypeError) as error:
                raise UserError(f"{where}: {name}: {error}") from None
            break
    settings = Settings(**values, images=images)
    return Settings(**{**_plain(settings), "data": settings.data.expanduser().absolute()})


def _plain(settings: Settings) -> dict[str, Any]:
    return {f.name: getattr(settings, f.name) for f in fields(settings)}


def _read_toml(path: Path) -> dict[str, Any]:
    try:
        return tomllib.loads(path.read_text())
    except (FileNotFoundError, NotADirectoryError):
        return {}
    except (tomllib.TOMLDecodeError, UnicodeDecodeError, OSError) as error:
        raise UserError(f"{path} cannot be read: {error}") from None


def _images(table: Any, path: Path) -> dict[str, tuple[str, ...]]:
    if not isinstance(table, dict):
        raise UserError(f"{path}: [images] must be a table of image = command")
    images: dict[str, tuple[str, ...]] = {}
    for image, command in table.items():
        words = tuple(shlex.split(command)) if isinstance(command, str) else command
        if not isinstance(words, (tuple, list)) or not words or not all(isinstance(word, str) for word in words):
            raise UserError(f"{path}: [images] {image!r}: the command must be a string or a list of strings")
        images[image] = tuple(words)
    return images


def dump(settings: Settings) -> dict[str, Any]:
    """The settings as JSON values, for handing them to a child process."""
    return {**_plain(settings), "data": str(settings.data), "images": {k: list(v) for k, v in settings.images.items()}}


def restore(table: Mapping[str, Any]) -> Settings:
    """The settings from `dump`'s JSON values."""
    images = {k: tuple(v) for k, v in table["images"].items()}
    values = {**table, "data": Path(table["data"]), "allowed_hosts": tuple(table["allowed_hosts"]), "images": images}
    return Settings(**values)
