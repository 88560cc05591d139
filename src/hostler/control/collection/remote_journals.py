"""Keeps the journals of gateways on other machines among those of this one: their metrics are added alike."""

from __future__ import annotations

import contextlib
import os
import time
from pathlib import Path

from hostler.wire import metrics_journal
from hostler.wire.gateway_messages import JournalKept, JournalPart

_PREFIX = "elsewhere-"  # of such gateways' names: theirs may be like those of this machine's
_LARGEST = 8 * 2**20  # bytes of a segment; gateways begin a new one much earlier
_OLDEST = 7 * 86_400.0  # seconds since the last piece, after which a journal is removed: its gateway is gone


def keep(folder: Path, gateway: str, part: JournalPart) -> JournalKept | None:
    """Write a piece to its place; None if it cannot be kept. It may take as long as the disk does."""
    end = part.offset + len(part.data)
    if part.segment < 0 or part.offset < 0 or end > _LARGEST:
        return None
    path = metrics_journal.segment(folder, f"{_PREFIX}{gateway}", part.segment)
    try:
        if not part.offset:
            _remove_old(folder)
        folder.mkdir(0o700, parents=True, exist_ok=True)
        file = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_CLOEXEC, 0o600)
        try:
            written = os.pwrite(file, part.data, part.offset)
        finally:
            os.close(file)
    except OSError:
        return None
    return JournalKept(part.segment, part.offset + written) if written else None


def _remove_old(folder: Path) -> None:
    for path in folder.glob(f"{_PREFIX}*.journal"):
        with contextlib.suppress(OSError):
            if time.time() - path.stat().st_mtime > _OLDEST:
                path.unlink()
