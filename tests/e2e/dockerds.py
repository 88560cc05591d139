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
_LEFT_OUT = ("proc", "sys", "dev", "wheels", "var", "usr/lib/jvm", "usr/lib/python3", "usr/sbin", "usr/share")


class Dockerd:
    """`live_restore`: containers outlive it; may be set before each start. `machine`: this machine's address there."""

    def __init__(self, folder: Path, network: str, pool: str, machine: str) -> None:
        self.folder = folder
        self.machine = machine
        self.live_restore = True
        self.address = f"unix://{folder}/docker.sock"
        self.log = folder / "dockerd.log"
        self._pidfile = folder / "dockerd.pid"
        self._command = [
            "nsenter", f"--net=/run/netns/{network}", "dockerd",
            "--data-root", f"{folder}/data", "--exec-root", f"{folder}/exec", "--pidfile", str(self._pidfile),
            "--host", self.address, "--bridge=none", "--iptables=false", "--ip6tables=false",
            "--default-address-pool", f"base={pool},size=24",
            "--insecure-registry", f"{machine}/32",
        ]  # fmt: skip
        self._popen: subprocess.Popen[bytes] | None = None
        self._images: dict[str, str] = {}  # by name: the tags of those that are here

    def start(self) -> None:
        """Start it, also after it was killed, and wait until it answers."""
        self._pidfile.unlink(missing_ok=True)
        (self.folder / "exec" / "containerd" / "containerd.pid").unlink(missing_ok=True)
        with open(self.log, "ab") as output:
            command = [*self._command, *(["--live-restore"] if self.live_restore else [])]
            self._popen = subprocess.Popen(command, stdout=output, stderr=output, start_new_session=True)
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

    def running(self) -> dict[str, str]:
        """Return when each running container was started, by its id. One may be removed while they are looked at."""
        ids = self.docker("ps", "--quiet", "--no-trunc", "--filter", "status=running").split()
        started = {}
        for id in ids:
            try:
                started[id] = self.inspect(id)["State"]["StartedAt"]
            except AssertionError as error:
                assert "No such object" in str(error), error  # noqa: PT017  # else it is Docker that fails
        return started

    def assert_nothing_is_left(self) -> None:
        assert self.containers() == []
        assert self.docker("network", "ls", "--filter", "label=hostler.network", "--format", "{{.Name}}") == ""

    @property
    def settings(self) -> dict[str, Any]:
        """Return the settings of a hostler that runs images here."""
        return {"engine": "auto", "docker_host": self.address, "access_log": 0}

    def inspect(self, container: str) -> dict[str, Any]:
        [found] = json.loads(self.docker("inspect", container))
        return dict(found)

    def image(self, name: str) -> str:
        """Return the tag of an image of tests/images, which is here from the first call on."""
        if name not in self._images:
            self._images[name] = docker_rig.image(name)
            self.bring(self._images[name])
        return self._images[name]

    def start_with(self, *, live_restore: bool) -> None:
        """Start it anew if that is not how it was started."""
        if self.live_restore != live_restore:
            self.stop()
            self.live_restore = live_restore
            self.start()

    def bring(self, image: str, *without: str) -> None:
        """Bring an image of the machine's Docker here, as one layer without what only other images need.

        `without`: patterns of more paths, such as opt/*/large.
        """
        [found] = json.loads(docker_rig.docker("inspect", image))
        config = found["Config"]
        changes = [
            *(f"ENV {name}={json.dumps(value)}" for name, _, value in (each.partition("=") for each in config["Env"])),
            *(f"LABEL {name}={json.dumps(value)}" for name, value in (config["Labels"] or {}).items()),
            f"WORKDIR {config['WorkingDir'] or '/'}",
            f"ENTRYPOINT {json.dumps(config['Entrypoint'])}",
        ]
        packing = ["docker", "--host", docker_rig.address(), "run", "--rm", "--user", "0"]
        packing += ["--network", "none", "--entrypoint", "tar"]
        left_out = [f"--exclude=./{path}" for path in (*_LEFT_OUT, *without)]
        importing = [word for change in changes for word in ("--change", change)]
        with subprocess.Popen([*packing, image, "-C", "/", *left_out, "-c", "."], stdout=subprocess.PIPE) as packed:
            words = self._client("import", *importing, "-", image)
            subprocess.run(words, stdin=packed.stdout, stdout=subprocess.DEVNULL, timeout=600, check=True)
        assert packed.returncode == 0

    def empty(self) -> None:
        """Remove all containers and networks."""
        if ids := self.docker("ps", "--all", "--quiet").split():
            self.docker("rm", "--force", "--volumes", *ids)
        if ids := self.docker("network", "ls", "--quiet", "--filter", "type=custom").split():
            self.docker("network", "rm", *ids)

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
            self.empty()
        self.kill()


@contextlib.contextmanager
def dockerd(disk: str = "") -> Iterator[Dockerd]:
    """Run a dockerd. `disk`: the size of a disk of its own, such as 64m."""
    _needed()
    folder = Path(tempfile.mkdtemp(prefix="hostler-dockerd-", dir="/var/tmp"))
    with contextlib.ExitStack() as stack:
        stack.callback(shutil.rmtree, folder, ignore_errors=True)
        stack.callback(_unmount, folder)
        if disk:
            (folder / "data").mkdir()
            subprocess.run(["mount", "-t", "tmpfs", "-o", f"size={disk}", "disk", f"{folder}/data"], check=True)
        own = Dockerd(folder, *stack.enter_context(_network()))
        stack.callback(own.destroy)
        own.start()
        yield own


@contextlib.contextmanager
def _network() -> Iterator[tuple[str, str, str]]:
    """Make a network namespace; yield its name, the addresses in it to which this machine has a route, and its own."""
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
        yield name, f"10.{number}.0.0/16", f"10.{number}.255.1"
    finally:
        subprocess.run(["ip", "netns", "delete", name], check=False, timeout=30)


def _unmount(folder: Path) -> None:
    """Unmount what a killed dockerd has left mounted."""
    mounts = [line.split()[4] for line in Path("/proc/self/mountinfo").read_text().splitlines()]
    for mount in sorted((mount for mount in mounts if mount.startswith(f"{folder}/")), reverse=True):
        subprocess.run(["umount", "--lazy", mount], check=False)


def _needed() -> None:
    """Skip the test if no dockerd can be started here; to root it may be missing nowhere where Docker is required."""
    if os.geteuid() != 0:
        pytest.skip("root alone can start a dockerd")
    for program in ("dockerd", "docker", "ip", "nsenter"):
        if not shutil.which(program):
            required = "docker" in os.environ.get("HOSTLER_TEST_REQUIRE", "").split(",")
            (pytest.fail if required else pytest.skip)(f"{program} is not installed")
