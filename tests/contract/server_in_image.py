"""The same container as containers_of_ours has, started as `docker run IMAGE serve`."""

from __future__ import annotations

import os
import subprocess
import time
from collections.abc import Mapping, Sequence
from pathlib import Path

from containers_of_ours import Container

import docker_rig
from our_images import our_image

BASE = "/opt/ml"
PORT, SAFE_PORTS = 8080, range(25_900, 26_000)


class ContainerInImage(Container):
    """A server in a Docker container. Scripts find this machine's `folder`, its base folder, by its own name, too."""

    in_image = at_ports = True
    port, safe_ports = PORT, SAFE_PORTS

    def __init__(
        self, folder: Path, environment: Mapping[str, str], *, packages: Path | None = None, options: Sequence[str] = ()
    ) -> None:
        """`options` are those of `docker run`, besides the folders and the environment."""
        self.folder = folder
        # A server alone has a worker for each processor; the tests count on one.
        told = {"SAGEMAKER_MODEL_SERVER_WORKERS": "1", "SAGEMAKER_BASE_DIR": BASE}
        told |= {
            "HOSTLER_PORTS": "true",
            "SAGEMAKER_SAFE_PORT_RANGE": f"{SAFE_PORTS[0]}-{SAFE_PORTS[-1]}",
            **environment,
        }
        places = {folder, *([packages] if packages else [])}
        if packages:
            told["PYTHONPATH"] = str(packages)
        words = [f"--volume={folder}:{BASE}", *(f"--volume={place}:{place}" for place in sorted(places))]
        words += [f"--env={name}={value}" for name, value in told.items()]
        words += [f"--user={os.getuid()}:{os.getgid()}", *options, our_image("hostler-server"), "serve"]
        self.process = InDocker(docker_rig.docker("run", "--detach", *words).strip())  # type: ignore[assignment]
        self.host = docker_rig.docker(
            "inspect",
            "--format",
            "{{.NetworkSettings.IPAddress}}",
            self.process.id,  # type: ignore[attr-defined]
        ).strip()

    def url(self, folder: Path | str) -> str:
        return str(folder).replace(str(self.folder), BASE)

    def output(self) -> str:
        words = ["docker", "--host", docker_rig.address(), "logs", self.process.id]  # type: ignore[attr-defined]
        done = subprocess.run(words, stdout=subprocess.PIPE, stderr=subprocess.STDOUT, check=True)
        return done.stdout.decode(errors="replace")

    def end(self) -> int:
        try:
            self.process.terminate()
            return self.process.wait(120)
        finally:
            docker_rig.docker("rm", "--force", self.process.id)  # type: ignore[attr-defined]


class InDocker:
    """What tests use of subprocess.Popen, of a Docker container's first process."""

    def __init__(self, id: str) -> None:
        self.id = id
        self.returncode: int | None = None

    @property
    def pid(self) -> int:
        return int(self._state("Pid"))

    def poll(self) -> int | None:
        if self.returncode is None:
            running, code = self._state("Running"), int(self._state("ExitCode"))
            if running != "true":
                self.returncode = 128 - code if code > 128 else code
        return self.returncode

    def wait(self, timeout: float | None = None) -> int:
        end = time.monotonic() + (timeout or 60.0)
        while (code := self.poll()) is None:
            if time.monotonic() > end:
                raise subprocess.TimeoutExpired(f"container {self.id}", timeout or 60.0)
            time.sleep(0.05)
        return code

    def send_signal(self, number: int) -> None:
        if self.poll() is None:  # it may end meanwhile, which the client calls an error
            words = ["docker", "--host", docker_rig.address(), "kill", "--signal", str(int(number)), self.id]
            subprocess.run(words, capture_output=True, check=False)

    def terminate(self) -> None:
        self.send_signal(15)

    def kill(self) -> None:
        self.send_signal(9)

    def _state(self, name: str) -> str:
        return docker_rig.docker("inspect", "--format", f"{{{{.State.{name}}}}}", self.id).strip()
