"""The gateways' access logs, read for people. What a line says, the gateway knows."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec


def read(folder: Path, tail: int, region: str, endpoint: str) -> list[dict[str, str]]:
    """The lines in the last `tail` bytes of each gateway's log, by the gateway; with `endpoint`, that endpoint's alone.

    A log is text, as it stands in the file. What cannot be read is not there.
    """
    named = b'"region":%b,"endpoint":%b,' % (msgspec.json.encode(region), msgspec.json.encode(endpoint))
    found, files = [], list[Path]()
    with contextlib.suppress(OSError):
        files = sorted(folder.glob("*.log"))
    for file in files:
        lines = _lines(file, tail)
        if len(b"".join(lines)) < tail:
            lines = _lines(Path(f"{file}.1"), tail) + lines
        kept = b"".join(line for line in lines if not endpoint or named in line)
        found.append({"gateway": file.stem, "log": kept.decode(errors="replace")})
    return found


def _lines(file: Path, tail: int) -> list[bytes]:
    """The whole lines in the last `tail` bytes."""
    try:
        with open(file, "rb") as opened:
            begin = max(0, os.fstat(opened.fileno()).st_size - tail)
            opened.seek(begin)
            lines = opened.read(tail).splitlines(keepends=True)
    except OSError:
        return []
    return lines[1:] if begin else lines
