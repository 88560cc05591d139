"""The end of hostler, of which control must know: containers in Docker are no children of the host, and outlive it.

A control that ends by itself, or is killed, leaves them running for the next one. Only when a file in the run folder
says that hostler ends does control stop them. The host writes that file; control may be dead at that moment, and so
the host then starts a last one, which does nothing else.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
from pathlib import Path
from typing import TYPE_CHECKING

from hostler.errors import EngineError

if TYPE_CHECKING:  # the host needs no engine
    from hostler.engines.engine import Engine

log = logging.getLogger("hostler.control")

PATIENCE = 10.0  # seconds for Docker to carry out what it is asked, beside the grace

_FILE = "leaving"  # holds the grace in seconds


def announce(run: Path, grace: float) -> None:
    """Let control, when it ends, stop what would outlive hostler: SIGTERM, SIGKILL after `grace` seconds."""
    with contextlib.suppress(OSError):  # the disk may be full: `hostler gc` removes what stays
        new = run / f"{_FILE}.new"
        new.write_text(f"{grace}")
        new.replace(run / _FILE)


def grace(run: Path) -> float | None:
    """Return the grace of containers if hostler ends, else None."""
    try:
        return float((run / _FILE).read_text())
    except (OSError, ValueError):
        return None


async def leave(run: Path, engine: Engine) -> None:
    """Stop what would outlive hostler, if it ends. Takes the grace and PATIENCE at most; logs what it could not do."""
    if (seconds := grace(run)) is None:
        return
    try:
        async with asyncio.timeout(seconds + PATIENCE):
            await engine.leave(seconds)
        return
    except EngineError as error:
        why = str(error).rstrip(".")
    except TimeoutError:
        why = f"Docker has not stopped them in {seconds + PATIENCE:g} seconds"
    log.error("containers may be left in Docker, which `hostler gc` removes: %s", why)
