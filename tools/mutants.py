"""Put each fault of tools/faults.py into a copy of the code, and check that a test fails.

    python tools/mutants.py [WORD]        only faults with this word in their names

First the tests run without any fault and must pass. Each line then names the test that caught the fault. Exit code 1:
a test failed without a fault, or no test caught a fault. The work tree is never changed.
"""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import time
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path

from faults import FAULTS, FILES, TESTS, Fault

ROOT = Path(__file__).resolve().parents[1]
COPIED = ("src", "tests", "pyproject.toml")
AT_ONCE = 2
WITHIN = 300.0  # seconds for one run of the tests
MEMORY = Path("/dev/shm")  # a file system in memory, if the machine has it
TESTS_FAILED = 1  # pytest's exit code; every other but 0 means that the tests did not run
_FAILED = re.compile(r"^(?:FAILED|ERROR) (\S.*?)(?: - .*)?$", re.MULTILINE)


class Unfit(Exception):
    """A fault does not fit the code. The text is the reason."""


@dataclass(frozen=True)
class Run:
    """A run of pytest: its exit code (None: timed out), its output, its seconds."""

    code: int | None
    output: str
    seconds: float


def mutated(text: str, fault: Fault) -> str:
    """Return the text with the fault. Raises Unfit unless it has the old text exactly once."""
    if (count := text.count(fault.old)) != 1:
        raise Unfit(f"{FILES[fault.part]} has its old text {count} times: {fault.old!r}")
    return text.replace(fault.old, fault.new)


def verdict(run: Run) -> tuple[bool, str]:
    """Return whether a test caught the fault, and that test, or the reason why none did."""
    if run.code is None:
        return False, f"the tests did not end within {WITHIN:.0f} s"
    if run.code == 0:
        return False, "no test caught it"
    failed = _FAILED.findall(run.output)
    if run.code != TESTS_FAILED or not failed:
        return False, f"the tests did not run: pytest's exit code {run.code}\n{run.output[-2000:]}"
    return True, failed[0]


def main() -> int:
    word = sys.argv[1] if len(sys.argv) > 1 else ""
    chosen = [fault for fault in FAULTS if word in fault.name]
    if not chosen:
        sys.exit(f"no fault has {word!r} in its name")
    files = dict.fromkeys(name for fault in chosen for name in TESTS[fault.part])
    control = _tested(None, tuple(files))
    if control.code != 0:
        sys.exit(f"without any fault the tests fail:\n{control.output[-4000:]}")
    print(f"without any fault the tests pass ({control.seconds:.0f} s)", flush=True)
    with ThreadPoolExecutor(AT_ONCE) as pool:
        results = list(pool.map(_judged, chosen))
    passed = sum(results)
    print(f"{passed} passed, {len(results) - passed} failed")
    return 0 if passed == len(results) else 1


def _judged(fault: Fault) -> bool:
    """Put the fault in, run its tests and print the verdict; return whether a test caught it."""
    try:
        run = _tested(fault, TESTS[fault.part])
        caught, text = verdict(run)
    except Unfit as error:
        run, caught, text = Run(None, "", 0.0), False, str(error)
    print(
        f"{'passed' if caught else 'FAILED'}  {fault.part}: {fault.name}\n        {text} ({run.seconds:.0f} s)",
        flush=True,
    )
    return caught


def _tested(fault: Fault | None, files: Sequence[str]) -> Run:
    """Run these test files over a copy of the code with the fault. Raises Unfit."""
    with tempfile.TemporaryDirectory(prefix="hostler-mutant-", dir=MEMORY if MEMORY.is_dir() else None) as temporary:
        copy = Path(temporary)
        for name in COPIED:
            if (ROOT / name).is_dir():
                shutil.copytree(ROOT / name, copy / name, ignore=shutil.ignore_patterns("__pycache__", "*.egg-info"))
            else:
                shutil.copy(ROOT / name, copy / name)
        if fault:
            path = copy / FILES[fault.part]
            path.write_text(mutated(path.read_text(), fault))
        return _pytest(copy, files)


def _pytest(copy: Path, files: Sequence[str]) -> Run:
    """Run pytest until the first failure. The copy's code precedes that of the environment's installation."""
    command = [
        sys.executable, "-m", "pytest", "-x", "-p", "no:cacheprovider", "--basetemp", str(copy / "t"), "-rfE",
        "-o", "addopts=-q --strict-markers --strict-config", "-m", "not slow", *files,
    ]  # fmt: skip
    environment = {**os.environ, "PYTHONPATH": str(copy / "src"), "PYTHONDONTWRITEBYTECODE": "1", "COLUMNS": "500"}
    begun = time.monotonic()
    process = subprocess.Popen(
        command, cwd=copy, env=environment, stdin=subprocess.DEVNULL, stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        text=True, start_new_session=True,
    )  # fmt: skip
    try:
        output, _ = process.communicate(timeout=WITHIN)
        code: int | None = process.returncode
    except subprocess.TimeoutExpired:
        output, code = "", None
    finally:
        with contextlib.suppress(ProcessLookupError):  # with every process that a test has started
            os.killpg(process.pid, signal.SIGKILL)
        process.wait()
    return Run(code, output, time.monotonic() - begun)


if __name__ == "__main__":
    sys.exit(main())
