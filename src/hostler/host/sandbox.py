"""The start of a mapped command as a container: its argument and its sandbox.

There are two sandboxes. Under bubblewrap the container has its own folder at /opt/ml, a root rebuilt from the
machine's, its own /tmp, and a pid namespace that ends with it. Where bubblewrap does not work, a shim ends the whole
process tree; nothing is mounted, and SAGEMAKER_BASE_DIR names the folder. The network is shared in both, unless the
container is isolated: then the shim runs bubblewrap in a network of its own, and relays calls from a unix socket.
"""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import BinaryIO, NamedTuple, NotRequired, TypedDict

from hostler import contract
from hostler.processes.spawn import spawn
from hostler.processes.tree import children, kill

log = logging.getLogger("hostler.host")

_BUILT = ("/", "/etc", "/opt", "/run", "/tmp", "/var/tmp")  # folders to which entries can be added
_HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


class Plan(TypedDict):
    """What the shim runs. Its own environment is the host's, so that Python finds its modules."""

    command: list[str]
    environment: dict[str, str]
    folder: str
    relay: NotRequired[tuple[int, int]]  # with bubblewrap as command: a listening unix socket, and the container's port


class Relay(NamedTuple):
    """How an isolated container gets its calls."""

    listener: int  # descriptor of a listening unix socket
    port: int  # on its own loopback
    lifeline: int  # the host's, for the shim


@dataclass(frozen=True)
class Walls:
    """What a command under bubblewrap has and has not."""

    folder: Path  # at /opt/ml
    hidden: tuple[Path, ...] = ()  # folders that it must not see
    tmpfs: tuple[str, ...] = ()  # folders that are its own, and empty at first
    relay: Relay | None = None  # it has no network


def with_serve(command: Sequence[str]) -> list[str]:
    """Return the command with the contract's only argument, `serve` (§5.1), at its end."""
    return [*command] if command[-1] == contract.SERVE else [*command, contract.SERVE]


def bubblewrap_works() -> bool:
    """True if bubblewrap can start a program as it starts a container."""
    if shutil.which("bwrap") and (reason := try_bubblewrap()):
        log.info("bubblewrap does not work here: %s", reason)
        return False
    return shutil.which("bwrap") is not None


def try_bubblewrap() -> str:
    """Return why bubblewrap, which is installed, cannot start a program as it starts a container; empty if it can."""
    with tempfile.TemporaryDirectory() as folder:
        options = bubblewrap_options(Walls(Path(folder)), ())
        with _memory_file(options) as file:
            try:
                trial = subprocess.run(
                    ["bwrap", "--args", str(file.fileno()), "true"], pass_fds=[file.fileno()], timeout=10,
                    stdin=subprocess.DEVNULL, capture_output=True, check=False,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired) as error:
                return str(error)
    return trial.stderr.decode(errors="replace").strip() or f"exit code {trial.returncode}" if trial.returncode else ""


def start_wrapped(command: Sequence[str], environment: Mapping[str, str], output: int, walls: Walls) -> int:
    """Start a command under bubblewrap; its base folder is /opt/ml, its hostname the environment's HOSTNAME.

    Returns the pid of bubblewrap; with a relay, that of the shim, which is its parent. Raises OSError.
    """
    name = environment.get(contract.ENV_HOSTNAME, "")
    named = ["--hostname", name] if _HOSTNAME.fullmatch(name) else []
    with _memory_file([hosts_file(*named[1:])]) as hosts:
        names = [*named, "--ro-bind-data", str(hosts.fileno()), "/etc/hosts"]
        with _memory_file([*bubblewrap_options(walls, command), *names]) as file:
            argv = [shutil.which("bwrap") or "bwrap", "--args", str(file.fileno()), "--", *command]
            keep = [file.fileno(), hosts.fileno()]
            if (relay := walls.relay) is None:
                return spawn(argv, environment, output=output, keep=keep)
            plan = Plan(command=argv, environment=dict(environment), folder="/", relay=(relay.listener, relay.port))
            return _start_shim(plan, output, relay.lifeline, [*keep, relay.listener])


def start_shimmed(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, output: int, lifeline: int
) -> int:
    """Start a command under the shim. Returns the shim's pid. Raises OSError."""
    return _start_shim(Plan(command=[*command], environment=dict(environment), folder=str(folder)), output, lifeline)


def _start_shim(plan: Plan, output: int, lifeline: int, keep: Iterable[int] = ()) -> int:
    with _memory_file([json.dumps(plan)]) as file:
        argv = [sys.executable, "-P", "-m", "hostler.host.shim", str(lifeline), str(file.fileno())]
        return spawn(argv, os.environ, output=output, keep=[lifeline, file.fileno(), *keep])


def prefer_for_oom_kill(pid: int) -> None:
    """Have the kernel, out of memory, kill a container before any of hostler's processes."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")


def terminate_wrapped(pid: int) -> None:
    """Send SIGTERM to the command inside, for bubblewrap itself passes no signal on.

    Bubblewrap's only child is the first process of the pid namespace, and the command is a child of that.
    """
    inner = [command for first in children(pid) for command in children(first)]
    for command in inner or [pid]:
        kill(command, signal.SIGTERM)


def wrapped_exit(code: int) -> int:
    """Return the command's own exit: bubblewrap reports a signal as a shell does, by 128 and its number."""
    return 128 - code if 128 < code <= 128 + 64 else code


def bubblewrap_options(walls: Walls, command: Sequence[str]) -> list[str]:
    """Return bubblewrap's options. Later mounts cover earlier ones.

    The root, /etc and /opt are built from their entries, so that the container may create files beside them (AWS's
    inference toolkit writes /etc/sagemaker-mms.properties) without touching the machine's.
    """
    # Of /run, only the targets of links elsewhere: its sockets must not be reachable. One is that of a resolver.
    run = ("/run/current-system",) if walls.relay else ("/run/systemd/resolve", "/run/current-system")
    temporary = walls.folder / "tmp"
    temporary.mkdir(exist_ok=True)
    visible = _below_tmp(command)
    return [
        *_entries("/", without=("dev", "etc", "opt", "proc", "run", "tmp")),
        "--dir", "/etc", *_entries("/etc", without=("hosts", "sagemaker-mms.properties")),
        "--dir", "/opt", *_entries("/opt", without=("ml",)),
        "--dir", "/run", *_read_only(*run),
        "--dev", "/dev", "--proc", "/proc", *_read_only("/proc/sys"),  # which root may write to without any capability
        "--bind", str(temporary), "/var/tmp", "--bind", str(temporary), "/tmp", *_read_only(*visible),
        *_own(walls.tmpfs),
        *(word for path in walls.hidden for word in _hidden(os.path.realpath(path), visible)),
        "--bind", str(walls.folder), contract.BASE_DIR, "--chdir", contract.BASE_DIR,
        "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--cap-drop", "ALL",
    ]  # fmt: skip


def hosts_file(*names: str) -> str:
    """Return the machine's /etc/hosts with the container's names added: programs look up their own hostname."""
    try:
        lines = Path("/etc/hosts").read_text(errors="replace").rstrip("\n")
    except OSError:
        lines = "127.0.0.1\tlocalhost"
    return "\n".join([lines, *(f"127.0.0.1\t{name}" for name in names)]) + "\n"


def _own(folders: Sequence[str]) -> list[str]:
    """Cover folders by empty ones. Where the machine has no such folder, its parent is covered and built anew."""
    options: list[str] = []
    covered: set[str] = set()
    for folder in folders:
        parent = folder
        while not os.path.isdir(parent):
            parent = os.path.dirname(parent)
        if parent != folder and parent not in (*_BUILT, *covered):
            options += ["--tmpfs", parent, *_entries(parent, without=())]
        covered.add(parent)
        options += ["--tmpfs", folder] if parent == folder else ["--dir", folder]
    return options


def _hidden(path: str, visible: Sequence[str]) -> list[str]:
    """Cover a folder, unless it is invisible anyway: a mount point would be created for it."""
    invisible = _is_below(path, ("/dev", "/proc", "/run", "/tmp", "/var/tmp")) and not _is_below(path, visible)
    return ["--tmpfs", path] if os.path.isdir(path) and not invisible else []


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path == folder or path.startswith(folder + "/") for folder in folders)


def _entries(folder: str, without: Iterable[str]) -> list[str]:
    options: list[str] = []
    try:
        entries = sorted(os.scandir(folder), key=lambda entry: entry.name)
    except OSError:
        return []
    for entry in entries:
        if entry.name in without:
            continue
        if entry.is_symlink():
            options += ["--symlink", os.readlink(entry.path), entry.path]
        else:
            options += _read_only(entry.path)
    return options


def _read_only(*paths: str) -> list[str]:
    return [word for path in paths for word in ("--ro-bind-try", path, path)]


def _below_tmp(command: Sequence[str]) -> list[str]:
    """Return the folders in /tmp that the command's words are in (a virtual environment, a folder of code)."""
    folders = set()
    for word in command:
        for path in (word, os.path.realpath(word)) if os.path.isabs(word) else ():
            for top in ("/tmp", "/var/tmp"):
                if path.startswith(top + "/"):
                    folders.add(os.path.join(top, os.path.normpath(path).removeprefix(top + "/").split("/")[0]))
    return sorted(folders)


def _memory_file(words: Sequence[str]) -> BinaryIO:
    """Return a file in memory with the words, separated by NUL, at its start."""
    file = os.fdopen(os.memfd_create("hostler"), "w+b")
    file.write(b"\0".join(os.fsencode(word) for word in words))
    file.flush()
    file.seek(0)
    return file
