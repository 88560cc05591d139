"""A dockerd of a test's own, which the test may kill, stop and hang; and its images, which come from the shared one.

It shares nothing with the machine's Docker but the kernel. Folders and socket are its own, and so is its network
namespace: a dockerd sets firewall rules and removes `docker0` as if it were the only one. The machine reaches the
containers by a route into that namespace.
"""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import docker_rig

READY = 60.0  # seconds


class Dockerd:
    """`live_restore`: containers outlive it."""

    def __init__(self, folder: Path, network: str, pool: str, *, live_restore: bool) -> None:
        self.folder = folder
        self.address = f"unix://{folder}/docker.sock"
        self.log = folder / "dockerd.log"
        self._pidfile = folder / "dockerd.pid"
        self._command = [
            "nsenter", f"--net=/run/netns/{network}", "dockerd",
            "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", str(self._pidfile),
            "--host", self.address, "--bridge=none", "--iptables=false", "--ip6tables=false",
            "--default-address-pool", f"base={pool},size=24", *(["--live-restore"] if live_restore else []),
        ]  # fmt: skip
        self._popen: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, also after it was killed, and wait until it answers."""
        self._pidfile.unlink(missing_ok=True)
        (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)
        with open(self.log, "ab") as output:
            self._popen = subprocess.Popen(self._command, stdout=output, stderr=output, start_new_session=True)
        deadline = time.monotonic() + READY
        while not self.answers():
            assert self._popen.poll() is None, self.tail()
            assert time.monotonic() < deadline, self.tail()
            time.sleep(0.1)

    def signal(self, number: int) -> None:
        assert self._popen is not None
        self._popen.send_signal(number)

    def kill(self) -> None:
        """Kill it, and its containerd, which a machine's own would outlive it."""
        self.signal(signal.SIGKILL)
        assert self._popen is not None
        self._popen.wait(30)

    def stop(self) -> None:
        self.signal(signal.SIGTERM)
        assert self._popen is not None
        self._popen.wait(60)

    def answers(self) -> bool:
        return subprocess.run(self._client("version"), capture_output=True, timeout=60, check=False).returncode == 0

    def docker(self, *words: str, stdin: bytes = b"") -> str:
        """Return what `docker` prints for these words; it must succeed."""
        return docker_rig.docker(*words, host=self.address, stdin=stdin).strip()

    def containers(self) -> list[str]:
        """Return the names of all containers, also of those that do not run."""
        return sorted(self.docker("ps", "--all", "--format", "{{.Names}}").splitlines())

    def inspect(self, container: str) -> dict[str, Any]:
        [found] = json.loads(self.docker("inspect", container))
        return dict(found)

    def load(self, image: str) -> None:
        """Bring an image of the machine's Docker here."""
        with subprocess.Popen(["docker", "save", image], stdout=subprocess.PIPE) as saving:
            subprocess.run(self._client("load"), stdin=saving.stdout, stdout=subprocess.PIPE, timeout=600, check=True)
        assert saving.returncode == 0

    def tail(self) -> str:
        return self.log.read_text(errors="replace")[-4000:]

    def _client(self, *words: str) -> list[str]:
        return ["docker", "--host", self.address, *words]

    def destroy(self) -> None:
        """End it with all its containers, whatever state it is in."""
        if self._popen is None:
            return
        if self._popen.poll() is None:
            self.signal(signal.SIGCONT)
        else:
            self.start()
        with contextlib.suppress(AssertionError, subprocess.SubprocessError):
            if ids := self.docker("ps", "--all", "--quiet").split():
                self.docker("rm", "--force", "--volumes", *ids)
            if names := self.docker("network", "ls", "--quiet", "--filter", "type=custom").split():
                self.docker("network", "rm", *names)
        self.stop()


@contextlib.contextmanager
def dockerd(*images: str, live_restore: bool = False) -> Iterator[Dockerd]:
    """Run a dockerd that has these images."""
    needed()
    folder = Path(tempfile.mkdtemp(prefix="hostler-dockerd-", dir="/var/tmp"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(_unmount, folder)
        own = Dockerd(folder, *stack.enter_context(_network()), live_restore=live_restore)
        stack.callback(own.destroy)
        own.start()
        for image in images:
            own.load(image)
        yield own


@contextlib.contextmanager
def _network() -> Iterator[tuple[str, str]]:
    """Make a network namespace; yield its name and the addresses in it to which the machine has a route."""
    for number in range(200, 250):
        name = f"hostler-dockerd-{number}"
        if subprocess.run(["ip", "netns", "add", name], capture_output=True, check=False).returncode == 0:
            break
    else:
        raise AssertionError("no network namespace can be made")
    try:
        here, there, inside = f"hd{number}", f"hd{number}n", ["ip", "-netns", name]
        for words in (
            ["ip", "link", "add", here, "type", "veth", "peer", "name", there, "netns", name],
            ["ip", "address", "add", f"10.{number}.255.1/30", "dev", here],
            ["ip", "link", "set", here, "up"],
            [*inside, "link", "set", "lo", "up"],
            [*inside, "address", "add", f"10.{number}.255.2/30", "dev", there],
            [*inside, "link", "set", there, "up"],
            [*inside, "route", "add", "default", "via", f"10.{number}.255.1"],
            ["ip", "route", "add", f"10.{number}.0.0/16", "via", f"10.{number}.255.2"],
        ):
            subprocess.run(words, check=True, timeout=30)
        yield name, f"10.{number}.0.0/16"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, timeout=30)


def _unmount(folder: Path) -> None:
    """Unmount what a killed dockerd has left mounted."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)


def needed() -> None:
    """Skip the test if no dockerd can be started here; fail it where HOSTLER_TEST_REQUIRE has `docker`."""
    if reason := _missing():
        if "docker" in os.environ.get("HOSTLER_TEST_REQUIRE", "").split(","):
            pytest.fail(reason)
        pytest.skip(reason)


def _missing() -> str:
    if missing := [program for program in ("dockerd", "docker", "ip", "nsenter") if not shutil.which(program)]:
        return f"{missing[0]} is not installed"
    return "" if os.geteuid() == 0 else "root alone can start a dockerd"
