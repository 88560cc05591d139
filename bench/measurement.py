"""The last measurement of gateway.py and of rest.py: JSON in the cache, which run.py publishes with its own figures."""

from __future__ import annotations

import json
import os
import platform
import subprocess
import time
from dataclasses import asdict, dataclass
from pathlib import Path

REPOSITORY = Path(__file__).resolve().parents[1]
NAMES = ("gateway", "rest")  # commands that write one, in the order of publication
Rows = list[list[str]]  # of text, the head first


@dataclass(frozen=True)
class Measurement:
    """The figures of one run of a command."""

    title: str
    command: str
    about: dict[str, str]  # date, machine, commit
    goals: Rows
    tables: dict[str, Rows]  # by title

    def write(self, name: str, results: Path) -> Path:
        """Write it to the cache's folder `results`; return the path."""
        results.mkdir(parents=True, exist_ok=True)
        path = results / f"{name}.json"
        path.write_text(json.dumps(asdict(self), indent=1))
        return path


def newest(results: Path) -> list[Measurement]:
    """Return the last measurement of each command that has one."""
    return [
        Measurement(**json.loads(path.read_text())) for name in NAMES if (path := results / f"{name}.json").exists()
    ]


def about() -> dict[str, str]:
    """Return date, machine and commit."""
    return {
        "date": time.strftime("%Y-%m-%d %H:%M:%S UTC", time.gmtime()),
        "machine": _machine(),
        "commit": _commit(),
    }


def processor(about: dict[str, str]) -> str:
    """Return the processor's name in the result of `about`, of this run or an earlier one."""
    return about["machine"].partition(" × ")[2].partition(",")[0]


def _machine() -> str:
    models = [line for line in Path("/proc/cpuinfo").read_text().splitlines() if line.startswith("model name")]
    processor = models[0].partition(":")[2].strip() if models else platform.machine()
    memory = os.sysconf("SC_PAGE_SIZE") * os.sysconf("SC_PHYS_PAGES") / 2**30
    cores = len(os.sched_getaffinity(0))
    return f"{cores} × {processor}, {memory:.0f} GiB, Linux {platform.release()}, Python {platform.python_version()}"


def _commit() -> str:
    git = ["git", "-C", str(REPOSITORY)]
    commit = subprocess.run([*git, "rev-parse", "--short", "HEAD"], capture_output=True, text=True).stdout.strip()
    changed = subprocess.run([*git, "status", "--porcelain", "src"], capture_output=True, text=True).stdout
    return f"commit {commit or 'unknown'}{' with changes' if changed else ''}"
