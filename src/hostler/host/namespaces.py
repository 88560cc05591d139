"""Namespaces of a container's own process: its folder at /opt/ml, and with `isolated` no network but its own loopback.

No folder or link is made on the machine. Root needs a mount namespace alone; any other user one within a user
namespace of the user's own, in which the process keeps its user and has no capability left once all is mounted. What
is mounted ends with the last process inside. A `trial` finds out what this machine allows.
"""

from __future__ import annotations

import contextlib
import ctypes
import errno
import fcntl
import os
import socket
import struct
import sys
import tempfile
from collections.abc import Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path

import msgspec

from hostler import contract

_CLONE_NEWNS, _CLONE_NEWUSER, _CLONE_NEWNET = 0x20000, 0x10000000, 0x40000000  # <linux/sched.h>
_MS_RDONLY, _MS_REMOUNT, _MS_BIND, _MS_REC, _MS_SLAVE = 1, 32, 4096, 16384, 1 << 19  # <linux/mount.h>
_LOCKED = os.ST_NOSUID | os.ST_NODEV | os.ST_NOEXEC  # a user namespace must keep these; statvfs and mount agree on them
_PR_CAPBSET_DROP = 24
_CAPABILITIES_V3 = 0x20080522  # <linux/capability.h>
_MOST_CAPABILITIES = 64
# What root keeps in an isolated container, by number: CHOWN, DAC_OVERRIDE, FOWNER, FSETID, KILL, SETGID, SETUID. None
# of them leads into another namespace.
_KEPT = (0, 1, 3, 4, 5, 6, 7)
_SIOCSIFFLAGS, _IFF_UP = 0x8914, 1
# Below it are sockets of other programs, some of which reach the network, or a resolver. A link of NixOS stays.
_RUN, _RUN_KEPT = "/run", ("current-system",)

_libc = ctypes.CDLL(None, use_errno=True)


class View(msgspec.Struct, frozen=True):
    """What a container sees otherwise than the machine has it."""

    folder: str  # seen at /opt/ml
    artifacts: str = ""  # seen where it is, read-only; may be missing
    isolated: bool = False
    run: str = ""  # the host's run folder: isolated, a container sees nothing of it but `sockets`
    sockets: str = ""


@dataclass(frozen=True)
class Allowed:
    """What this machine allows: each is empty, or why it cannot be."""

    opt_ml: str = ""
    isolation: str = ""


def enter(view: View) -> None:
    """Move this process, which must have a single thread, into its namespaces. Raises OSError, which names the step.

    1. Unshare. Mounts of the machine still arrive, and none of ours leaves.
    2. Open what stays visible, as it may be covered next.
    3. Where there is no /opt/ml, cover /opt by an empty folder with the entries of /opt and `ml`. Bind the folder.
    4. Isolated: cover the folders of others' sockets, and start the loopback.
    5. Bind what stays visible.
    6. Give up the capabilities that would lead out, and in a user namespace all of them.
    """
    own_user = _unshare(_CLONE_NEWNS | (_CLONE_NEWNET if view.isolated else 0))  # 1.
    _mount(None, "/", None, _MS_REC | _MS_SLAVE)
    with contextlib.ExitStack() as opened:
        folder = opened.enter_context(_opened(view.folder))
        kept = [
            (path, opened.enter_context(_opened(path)), read_only)
            for path, read_only in ((view.artifacts, True), (view.sockets if view.isolated else "", False))
            if path and os.path.isdir(path)
        ]  # 2.
        if not os.path.isdir(contract.BASE_DIR):  # 3.
            base, name = os.path.split(contract.BASE_DIR)
            with _step(f"there must be a folder {base}"):
                entries = os.listdir(base)
            _cover(base, (entry for entry in entries if entry != name))  # a file, or a link to nowhere
            os.mkdir(os.path.join(base, name))
        _bind(folder, contract.BASE_DIR)
        if view.isolated:  # 4.
            for hidden in (_RUN, view.run):
                if hidden and os.path.isdir(hidden):
                    _cover(hidden, _RUN_KEPT if hidden == _RUN else ())
            _start_loopback()
        for path, source, read_only in kept:  # 5.
            os.makedirs(path, exist_ok=True)
            _bind(source, path)
            if read_only:
                _make_read_only(path)
    if own_user:  # 6.
        _drop_capabilities(())
    elif view.isolated:
        _drop_capabilities(_KEPT)


def enter_network() -> None:
    """Move this process, which must have a single thread, into a network of its own, which has a loopback alone.

    For a command that gets its mounts by bubblewrap. Raises OSError, which names the step.
    """
    _unshare(_CLONE_NEWNET)
    _start_loopback()


def trial() -> Allowed:
    """Try both kinds of view in children of this process. The second is tried only where the first is refused."""
    if below := next((path for path in _own_folders() if f"{path}/".startswith(f"{contract.BASE_DIR}/")), ""):
        reason = f"hostler itself lies in {below}"
        return Allowed(reason, reason)
    with tempfile.TemporaryDirectory(prefix="hostler-") as folder:
        isolation = _tried(View(folder, isolated=True))
        return Allowed(isolation and _tried(View(folder)), isolation)


def _own_folders() -> Iterable[str]:
    return (str(Path(__file__).parents[2]), sys.prefix, sys.base_prefix)


def _tried(view: View) -> str:
    """Return why a child could not enter; empty if it could, and its folder is at /opt/ml."""
    reading, writing = os.pipe()
    if not (pid := os.fork()):
        reason = "the system ended the trial"
        try:
            os.close(reading)
            enter(view)
            same = os.path.samestat(os.stat(contract.BASE_DIR), os.stat(view.folder))
            reason = "" if same else f"nothing can be mounted at {contract.BASE_DIR}"
        except OSError as error:
            reason = error.strerror or str(error)
        finally:
            os.write(writing, b"." + reason.encode(errors="replace")[:200])
            os._exit(0)
    os.close(writing)
    with open(reading, "rb") as file:
        answer = file.read().decode(errors="replace")
    os.waitpid(pid, 0)
    return answer[1:] if answer else "the system ended the trial"


# --- the steps --------------------------------------------------------------------------------------------------------


def _unshare(wanted: int) -> bool:
    """Unshare namespaces. Returns whether that took one of users, too, in which this process has all capabilities.

    Root takes one only where it may not unshare otherwise.
    """
    own_user = os.geteuid() != 0 or _libc.unshare(wanted) != 0
    if own_user:
        user, group = os.geteuid(), os.getegid()
        _check(_libc.unshare(wanted | _CLONE_NEWUSER), "no namespaces can be made")
        for name, text in (
            ("setgroups", "deny"),
            ("uid_map", f"{user} {user} 1"),
            ("gid_map", f"{group} {group} 1"),
        ):
            with _step("the user cannot be taken along"), open(f"/proc/self/{name}", "w") as file:
                file.write(text)
    return own_user


def _cover(folder: str, entries: Iterable[str]) -> None:
    """Cover a folder by an empty one in memory, with these of its entries as they are."""
    with _opened(folder) as covered:
        _mount("hostler", folder, "tmpfs", os.ST_NOSUID | os.ST_NODEV, "mode=755")
        for name in entries:
            source, path = f"/proc/self/fd/{covered}/{name}", os.path.join(folder, name)
            if os.path.islink(source):
                os.symlink(os.readlink(source), path)
            elif os.path.isdir(source):
                os.mkdir(path)
                _mount(source, path, None, _MS_BIND | _MS_REC)
            elif os.path.exists(source):
                os.close(os.open(path, os.O_CREAT | os.O_WRONLY, 0o644))
                _mount(source, path, None, _MS_BIND)


def _bind(source: int, path: str) -> None:
    _mount(f"/proc/self/fd/{source}", path, None, _MS_BIND | _MS_REC)


def _make_read_only(path: str) -> None:
    flags = _MS_REMOUNT | _MS_BIND | _MS_RDONLY | (os.statvfs(path).f_flag & _LOCKED)
    _mount(None, path, None, flags)


def _start_loopback() -> None:
    """Start the network namespace's only interface, which is down at first."""
    with _step("the loopback cannot be started"), socket.socket(socket.AF_INET, socket.SOCK_DGRAM) as any_socket:
        fcntl.ioctl(any_socket, _SIOCSIFFLAGS, struct.pack("16sh14x", b"lo", _IFF_UP))


def _drop_capabilities(kept: Iterable[int]) -> None:
    """Give up all capabilities but these, and for root those too that a program would get by being executed."""
    mask = sum(1 << number for number in kept)
    for number in range(_MOST_CAPABILITIES):
        if not mask >> number & 1:
            _libc.prctl(_PR_CAPBSET_DROP, number, 0, 0, 0)  # EINVAL: this system has no such capability
    header = struct.pack("Ii", _CAPABILITIES_V3, 0)
    low, high = mask & 0xFFFFFFFF, mask >> 32
    data = struct.pack("6I", low, low, 0, high, high, 0)
    _check(_libc.capset(header, data), "the capabilities cannot be given up")


@contextlib.contextmanager
def _opened(path: str) -> Iterator[int]:
    file = os.open(path, os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)
    try:
        yield file
    finally:
        os.close(file)


def _mount(source: str | None, target: str, kind: str | None, flags: int, options: str | None = None) -> None:
    encoded = [os.fsencode(text) if text else None for text in (source, target, kind)]
    data = options.encode() if options else None
    _check(_libc.mount(*encoded, ctypes.c_ulong(flags), data), f"{target} cannot be mounted")


@contextlib.contextmanager
def _step(failed: str) -> Iterator[None]:
    """Name the step in the OSError that it raises."""
    try:
        yield
    except OSError as error:
        raise OSError(error.errno, f"{failed}: {error.strerror}") from None


def _check(result: int, failed: str) -> None:
    """Raise OSError for a system call that failed."""
    if result != 0:
        number = ctypes.get_errno()
        why = "the system's limit is reached" if number == errno.ENOSPC else os.strerror(number)
        raise OSError(number, f"{failed}: {why}")
