"""Read the gateways' access logs for people. The format of a line is the gateway's (gateway/access_log.py)."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

import msgspec


def read(folder: Path, tail: int, region: str, endpoint: str) -> list[dict[str, str]]:
    """Return the lines in the last `tail` bytes of each gateway's log; with `endpoint`, that endpoint's lines alone.

    Each item has the names `gateway` and `log` (text as in the file). Files that cannot be read are left out.
    """
    marker = b'"region":%b,"endpoint":%b,' % (msgspec.json.encode(region), msgspec.json.encode(endpoint))
    logs, files = [], list[Path]()
    with contextlib.suppress(OSError):
        files = sorted(folder.glob("*.log"))
    for file in files:
        lines = _lines(file, tail)
        if len(b"".join(lines)) < tail:
            lines = _lines(Path(f"{file}.1"), tail) + lines
        log = b"".join(line for line in lines if not endpoint or marker in line)
        logs.append({"gateway": file.stem, "log": log.decode(errors="replace")})
    return logs


def _lines(file: Path, tail: int) -> list[bytes]:
    """Return the complete lines in the last `tail` bytes of a file."""
    try:
        with open(file, "rb") as opened:
            begin = max(0, os.fstat(opened.fileno()).st_size - tail)
            opened.seek(begin)
            lines = opened.read(tail).splitlines(keepends=True)
    except OSError:
        return []
    return lines[1:] if begin else lines
