"""Run the tests on other versions of Python: those of Debian's suites, or any interpreter.

    python tools/pythons.py trixie sid                  Python 3.13 and 3.14, as root
    python tools/pythons.py ~/.pyenv/versions/3.12.1/bin/python

For a suite, debootstrap makes a tree below ~/.cache/hostler-pythons, which stays; `--fresh` makes it anew. The tests
run in it, as root, with mounts and processes of their own: when they end, however they do, nothing of them is left.
They have the machine's network, pip's settings and its certificates. For an interpreter, an environment is made there
instead. Java, Node and torch are missing: tests that need them are skipped, and counted. Exit code 1: a test failed
somewhere; 3: none failed, but a suite or an interpreter could not be had.
"""

from __future__ import annotations

import argparse
import ast
import hashlib
import os
import shutil
import subprocess
import sys
import time
from collections.abc import Sequence
from pathlib import Path

ROOT = Path(__file__).resolve().parents[1]
KEPT = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache") / "hostler-pythons"
# bubblewrap: isolates commands. git: of the tests of bench/. libgomp1: LightGBM's wheel does not bring it.
PACKAGES = "python3,python3-venv,ca-certificates,bubblewrap,git,libgomp1"
CERTIFICATES = Path("/etc/ssl/certs/ca-certificates.crt")
PIP = ("index-url", "extra-index-url", "trusted-host", "proxy", "timeout", "retries")
INSIDE = Path("/opt/hostler")  # where the work tree is inside a suite's tree

BESIDE = ["-m", "not slow and not alone", "-n", "2", "--dist", "loadfile", "--no-loadscope-reorder"]
# A real endpoint, scripts, many models, containers and processes that are killed, and hostler from its wheel.
E2E = [
    "tests/e2e/test_pytest_plugin.py",
    "tests/e2e/test_scripts_of_images.py",
    "tests/e2e/test_zipf.py",
    "tests/e2e/test_pipelines.py",
    "tests/e2e/test_kills.py",
    "tests/e2e/test_process_cleanup.py",
]
RUNS = (
    [*BESIDE, "tests/unit", "tests/contract", *E2E],
    ["tests/e2e/test_wheel.py"],
)

# The root of the new processes is the tree itself, a mount: bubblewrap does not work below a chroot.
ENTER = """
tree=$1 certificates=$2; shift 2
mount --bind "$tree" "$tree"
cd "$tree"
mount -t proc proc proc
mount --rbind /dev dev
mount -t tmpfs tmpfs dev/shm
mount -t tmpfs -o mode=1777 tmpfs tmp
mount --rbind /sys sys
touch etc/resolv.conf opt/certificates.crt
mount --bind /etc/resolv.conf etc/resolv.conf
mount --bind "$certificates" opt/certificates.crt
pivot_root . mnt
umount -l /mnt
cd /opt/hostler
exec "$@"
"""
UNSHARE = [
    *[
        "setpriv",
        "--pdeathsig",
        "KILL",
    ],  # with this process, whatever ends it, ends unshare, and with that all in the tree
    *["unshare", "--mount", "--pid", "--fork", "--kill-child", "--propagation", "private", "sh", "-euc", ENTER, "-"],
]


def main() -> int:
    parser = argparse.ArgumentParser(description=__doc__.splitlines()[0])
    parser.add_argument("pythons", nargs="+", metavar="SUITE|PYTHON")
    parser.add_argument("--fresh", action="store_true", help="make the trees and environments anew")
    arguments = parser.parse_args()
    summaries, code = [], 0
    for each in arguments.pythons:
        begun = time.monotonic()
        try:
            here = Interpreter(each, arguments.fresh) if "/" in each else Suite(each, arguments.fresh)
            here.install()
            codes = [here.run([here.python, "-m", "pytest", "-rs", *run]) for run in RUNS]
            outcome = "failed" if any(codes) else "passed"
            code = 1 if any(codes) else code
        except (OSError, subprocess.CalledProcessError) as error:
            outcome, code = f"did not run: {error}", code or 3
        summaries.append(f"{each}: {outcome} after {time.monotonic() - begun:.0f} s")
    print("\n".join(summaries))
    return code


class Suite:
    """A suite of Debian's: its Python in a tree of its own."""

    python = "/opt/venv/bin/python"

    def __init__(self, suite: str, fresh: bool) -> None:
        """Make the tree if there is none. Raises PermissionError, CalledProcessError."""
        if os.geteuid():
            raise PermissionError(f"debootstrap and the mounts of {suite} need root")
        self._tree = KEPT / f"{suite}-{hashlib.sha256(PACKAGES.encode()).hexdigest()[:8]}"
        if fresh:
            shutil.rmtree(self._tree, ignore_errors=True)
        if not self._tree.exists():
            making = KEPT / f"{suite}.new"
            shutil.rmtree(making, ignore_errors=True)
            making.mkdir(parents=True)
            subprocess.run(["debootstrap", "--variant=minbase", f"--include={PACKAGES}", suite, making], check=True)
            making.rename(self._tree)

    def install(self) -> None:
        copy(ROOT, self._tree / INSIDE.relative_to("/"))
        locked, stamp = lock(), self._tree / "opt/venv/locked"
        if not (stamp.exists() and stamp.read_text() == locked):
            for command in (["python3", "-m", "venv", "--clear", "/opt/venv"], *installs(self.python)):
                if code := self.run(command):
                    raise subprocess.CalledProcessError(code, command)
            stamp.write_text(locked)

    def run(self, command: Sequence[str]) -> int:
        listing = [sys.executable, "-m", "pip", "config", "list"]
        listed = subprocess.run(listing, capture_output=True, text=True, check=True).stdout
        variables = {"HOME": "/root", "PATH": "/usr/bin:/usr/sbin:/bin", "LANG": "C.UTF-8", **pip_settings(listed)}
        variables["PIP_CERT"] = "/opt/certificates.crt"
        return subprocess.run([*UNSHARE, self._tree, CERTIFICATES, *command], env=variables, check=False).returncode


class Interpreter:
    """An interpreter of this machine: an environment of it."""

    def __init__(self, python: str, fresh: bool) -> None:
        self._of = os.path.abspath(python)
        self._folder = KEPT / hashlib.sha256(self._of.encode()).hexdigest()[:8]
        self._tree, self.python = self._folder / "tree", str(self._folder / "venv/bin/python")
        if fresh:
            shutil.rmtree(self._folder, ignore_errors=True)

    def install(self) -> None:
        copy(ROOT, self._tree)
        locked, stamp = lock(), self._folder / "venv/locked"
        if not (stamp.exists() and stamp.read_text() == locked):
            for command in ([self._of, "-m", "venv", "--clear", self._folder / "venv"], *installs(self.python)):
                subprocess.run(command, cwd=self._tree, check=True)
            stamp.write_text(locked)

    def run(self, command: Sequence[str]) -> int:
        variables = {name: value for name, value in os.environ.items() if name != "HOSTLER_TEST_REQUIRE"}
        return subprocess.run(command, cwd=self._tree, env=variables, check=False).returncode


def copy(work_tree: Path, to: Path) -> None:
    """Copy a work tree, as it is now, without what git ignores."""
    shutil.rmtree(to, ignore_errors=True)
    listing = ["git", "ls-files", "-z", "--cached", "--others", "--exclude-standard"]
    for name in subprocess.run(listing, cwd=work_tree, capture_output=True, text=True, check=True).stdout.split("\0"):
        if (work_tree / name).is_file():
            (to / name).parent.mkdir(parents=True, exist_ok=True)
            shutil.copy(work_tree / name, to / name)


def lock() -> str:
    return hashlib.sha256(
        b"".join((ROOT / name).read_bytes() for name in ("requirements/test.txt", "pyproject.toml"))
    ).hexdigest()


def installs(python: str) -> Sequence[Sequence[str]]:
    """Return the commands that install the lock and hostler, where the work tree is."""
    pip = [python, "-m", "pip", "--disable-pip-version-check", "install", "--quiet"]
    return [*pip, "-r", "requirements/test.txt"], [*pip, "--no-deps", "--no-build-isolation", "--editable", "."]


def pip_settings(listed: str) -> dict[str, str]:
    """Return, as variables, what `pip config list` says of an index; folders of the machine are not in a tree."""
    settings = {}
    for line in listed.splitlines():
        key, _, value = line.partition("=")
        if (name := key.rpartition(".")[2]) in PIP:
            words = [word for word in str(ast.literal_eval(value)).split() if not word.startswith(("file:", "/"))]
            settings[f"PIP_{name.upper().replace('-', '_')}"] = " ".join(words)
    return {name: value for name, value in settings.items() if value}


if __name__ == "__main__":
    sys.exit(main())
