"""How a mapped command becomes a container: its one argument and the walls around it.

Two kinds of walls. Under bubblewrap the container has its own folder at /opt/ml, a root rebuilt from the machine's, its
own /tmp, and a pid namespace that ends with it. Where bubblewrap does not work, a small supervisor ends the whole tree;
then nothing is mounted, and SAGEMAKER_BASE_DIR says where the folder is. The network is shared either way.
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
from pathlib import Path
from typing import BinaryIO

from hostler import contract
from hostler.processes.spawn import spawn
from hostler.processes.tree import children, kill

log = logging.getLogger("hostler.host")

_HOSTNAME = re.compile(r"[A-Za-z0-9][A-Za-z0-9.-]{0,63}")


def served(command: Sequence[str]) -> list[str]:
    """The command with the contract's one argument (§5.1), unless it already ends in it."""
    return [*command] if command[-1] == contract.SERVE else [*command, contract.SERVE]


def bubblewrap_works() -> bool:
    """Try it once, as a container would be started."""
    if shutil.which("bwrap") is None:
        return False
    with tempfile.TemporaryDirectory() as folder:
        options = bubblewrap_options(Path(folder), Path(folder) / "nothing", ())
        with _memory_file(options) as file:
            try:
                trial = subprocess.run(
                    ["bwrap", "--args", str(file.fileno()), "true"], pass_fds=[file.fileno()], timeout=10,
                    stdin=subprocess.DEVNULL, capture_output=True, check=False,
                )  # fmt: skip
            except (OSError, subprocess.TimeoutExpired) as error:
                log.info("bubblewrap does not work here: %s", error)
                return False
    if trial.returncode:
        log.info("bubblewrap does not work here: %s", trial.stderr.decode(errors="replace").strip())
    return trial.returncode == 0


def start_wrapped(command: Sequence[str], environment: Mapping[str, str], folder: Path, output: int, data: Path) -> int:
    """Start a command under bubblewrap; its base folder is /opt/ml, its hostname the environment's HOSTNAME.

    Returns bubblewrap's pid. Raises OSError.
    """
    name = environment.get(contract.ENV_HOSTNAME, "")
    named = ["--hostname", name] if _HOSTNAME.fullmatch(name) else []
    with _memory_file([hosts_file(*named[1:])]) as hosts:
        names = [*named, "--ro-bind-data", str(hosts.fileno()), "/etc/hosts"]
        with _memory_file([*bubblewrap_options(folder, data, command), *names]) as file:
            argv = ["bwrap", "--args", str(file.fileno()), "--", *command]
            return spawn(argv, environment, output=output, keep=[file.fileno(), hosts.fileno()])


def start_supervised(
    command: Sequence[str], environment: Mapping[str, str], folder: Path, output: int, lifeline: int
) -> int:
    """Start a command under the supervisor. Returns the supervisor's pid. Raises OSError."""
    plan = json.dumps({"command": [*command], "environment": dict(environment), "folder": str(folder)})
    with _memory_file([plan]) as file:
        argv = [sys.executable, "-P", "-m", "hostler.host.shim", str(lifeline), str(file.fileno())]
        return spawn(argv, os.environ, output=output, keep=[lifeline, file.fileno()])


def expose(pid: int) -> None:
    """Short of memory, the machine is to end a container before anything of the house."""
    with contextlib.suppress(OSError):
        Path(f"/proc/{pid}/oom_score_adj").write_text("500")


def terminate_wrapped(pid: int) -> None:
    """SIGTERM to the command inside: bubblewrap itself passes no signal on.

    Bubblewrap's one child is the first process of the pid namespace, and the command is a child of that.
    """
    inner = [command for first in children(pid) for command in children(first)]
    for command in inner or [pid]:
        kill(command, signal.SIGTERM)


def wrapped_exit(code: int) -> int:
    """The command's own end, which bubblewrap tells as a shell does: 128 and the signal's number."""
    return 128 - code if 128 < code <= 128 + 64 else code


def bubblewrap_options(folder: Path, data: Path, command: Sequence[str]) -> list[str]:
    """Bubblewrap's options. Later mounts lie over earlier ones.

    The root and /etc and /opt are made of their entries, so that the container may put files of its own beside them
    (AWS's inference toolkit writes /etc/sagemaker-mms.properties) without touching the machine's.
    """
    temporary = folder / "tmp"
    temporary.mkdir(exist_ok=True)
    shown = _below_tmp(command)
    return [
        *_entries("/", without=("dev", "etc", "opt", "proc", "run", "tmp")),
        "--dir", "/etc", *_entries("/etc", without=("hosts", "sagemaker-mms.properties")),
        "--dir", "/opt", *_entries("/opt", without=("ml",)),
        # Of /run, only what other files lead to: it is full of sockets that nobody in there should reach.
        "--dir", "/run", *_seen("/run/systemd/resolve", "/run/current-system"),
        "--dev", "/dev", "--proc", "/proc", *_seen("/proc/sys"),  # root may write there without any capability
        "--bind", str(temporary), "/var/tmp", "--bind", str(temporary), "/tmp", *_seen(*shown),
        *_hidden(os.path.realpath(data), shown),
        "--bind", str(folder), contract.BASE_DIR, "--chdir", contract.BASE_DIR,
        "--unshare-pid", "--unshare-ipc", "--unshare-uts", "--die-with-parent", "--cap-drop", "ALL",
    ]  # fmt: skip


def hosts_file(*names: str) -> str:
    """The machine's /etc/hosts, in which a container finds itself, too: programs look up their own hostname."""
    try:
        known = Path("/etc/hosts").read_text(errors="replace").rstrip("\n")
    except OSError:
        known = "127.0.0.1\tlocalhost"
    return "\n".join([known, *(f"127.0.0.1\t{name}" for name in names)]) + "\n"


def _hidden(data: str, shown: Sequence[str]) -> list[str]:
    """Cover the data folder, unless it cannot be seen anyway: a mount point would be made for it."""
    gone = _is_below(data, ("/dev", "/proc", "/run", "/tmp", "/var/tmp")) and not _is_below(data, shown)
    return ["--tmpfs", data] if os.path.isdir(data) and not gone else []


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
            options += _seen(entry.path)
    return options


def _seen(*paths: str) -> list[str]:
    return [word for path in paths for word in ("--ro-bind-try", path, path)]


def _below_tmp(command: Sequence[str]) -> list[str]:
    """What of /tmp the command names, with what stands beside it (a virtual environment, a folder of code)."""
    found = set()
    for word in command:
        for path in (word, os.path.realpath(word)) if os.path.isabs(word) else ():
            for top in ("/tmp", "/var/tmp"):
                if path.startswith(top + "/"):
                    found.add(os.path.join(top, os.path.normpath(path).removeprefix(top + "/").split("/")[0]))
    return sorted(found)


def _memory_file(words: Sequence[str]) -> BinaryIO:
    """A file in memory that holds the words, each ended by NUL but the last, to be read from its start."""
    file = os.fdopen(os.memfd_create("hostler"), "w+b")
    file.write(b"\0".join(os.fsencode(word) for word in words))
    file.flush()
    file.seek(0)
    return file
