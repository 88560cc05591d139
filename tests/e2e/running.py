"""A real `hostler up` for a test: its own data folder and port, its processes by role, AWS clients that point at it.

Tests drive it through AWS's API and through signals, and find its processes from outside, as a person at a terminal
does.
"""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import sys
import time
import urllib.request
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, TypeVar

import psutil
from aws_clients import ROLE, Clients

from hostler.testing.process import HostlerProcess, NotReady, up

T = TypeVar("T")

REPOSITORY = Path(__file__).resolve().parents[2]
BUCKET = "models"
ANY_IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine:1"


class Hostler(Clients):
    """A `hostler up`. Start it with `hostler_up`."""

    def __init__(self, folder: Path, settings: dict[str, Any]) -> None:
        self.folder = folder
        self.data = folder / "data"
        self.output = folder / "output.txt"
        self.settings = {"engine": "process", **settings}  # so that no test depends on the machine's Docker by accident
        self.source = REPOSITORY / "src"
        self.url = ""
        self.ready_after = 0.0  # seconds
        self._seen: dict[tuple[int, float], psutil.Process] = {}
        self._run_folders: set[Path] = set()

    # --- start and stop -------------------------------------------------------------------------------------------

    def start(self, port: int = 0) -> Hostler:
        """Start it and wait until it is ready."""
        self.folder.mkdir(parents=True, exist_ok=True)
        environment = {
            "PATH": os.environ.get("PATH", "/usr/bin:/bin"),
            "HOME": str(self.folder),
            "PYTHONPATH": str(self.source),
            **{f"HOSTLER_{name.upper()}": str(value) for name, value in self.settings.items()},
        }
        begun = time.monotonic()
        started = HostlerProcess(self.command(port), environment, self.folder, self.output)
        self._popen = started.popen
        self.host = psutil.Process(self._popen.pid)
        try:
            self.url = started.wait_until_ready(120)
        except NotReady as error:
            raise AssertionError(f"hostler up: {error}:\n{self.tail()}") from None
        self.ready_after = time.monotonic() - begun
        self.processes()
        return self

    def command(self, port: int) -> list[str]:
        """Return the command that starts it."""
        return up(self.data, port)

    def stop(self, grace: float = 40) -> None:
        """Send SIGTERM; it must end with code 0 within `grace` seconds and leave nothing behind."""
        self.processes()
        self._popen.send_signal(signal.SIGTERM)
        code = self._popen.wait(grace)
        assert code == 0, f"hostler up ended with {code}"
        self.assert_no_remains()

    def assert_no_remains(self, within: float = 20) -> None:
        """Wait until no process of it, no process that names its folders and no run folder remains."""
        eventually(lambda: not self.remains(), within, "all processes have ended", lambda: str(self.remains()))
        assert not [path for path in self._run_folders if path.exists()], "the run folder is still there"

    def destroy(self) -> None:
        """Kill every process that still runs."""
        for process in [self.host, *self._seen.values()]:
            with contextlib.suppress(psutil.Error):
                process.kill()
        with contextlib.suppress(Exception):
            self._popen.wait(5)

    def tail(self, lines: int = 80) -> str:
        """Return the last lines of its output and of each log, for a failure's report."""
        texts = [self.output, *sorted(self.data.glob("logs/**/*.log"))]
        parts = (f"--- {path}\n" + "\n".join(_last_lines(path, lines)) for path in texts if path.exists())
        return "\n".join(parts)

    # --- its processes --------------------------------------------------------------------------------------------

    def processes(self) -> list[psutil.Process]:
        """Return the host's descendants. They are remembered, so that those that outlive the host are known, too."""
        try:
            descendants = self.host.children(recursive=True)
        except psutil.NoSuchProcess:
            return []
        for process in descendants:
            with contextlib.suppress(psutil.Error):
                self._seen[process.pid, process.create_time()] = process
            command = _command_line(process)
            if "--run" in command:
                self._run_folders.add(Path(command[command.index("--run") + 1]))
        return descendants

    @property
    def control(self) -> psutil.Process:
        return self.named("hostler.control.main")[0]

    @property
    def gateways(self) -> list[psutil.Process]:
        return self.named("hostler.gateway.main")

    @property
    def containers(self) -> list[psutil.Process]:
        """The containers' first processes. Ours listen on a unix socket `c/{id}/s` below the run folder."""
        return [process for process in self.processes() if _listens(process, re.compile(r"/c/[^/]+/s$"))]

    def named(self, part: str) -> list[psutil.Process]:
        """Return its processes that have `part` in a word of their command line."""
        return [process for process in self.processes() if any(part in word for word in _command_line(process))]

    def logs(self) -> Iterator[str]:
        """Return what each container has printed."""
        return (log.read_text() for log in self.data.rglob("logs/**/*.log"))

    def assert_nothing_runs(self) -> None:
        """Wait until no container is left."""
        eventually(lambda: not [*(self.data / "containers").iterdir()], 60, "all containers are removed")
        eventually(lambda: not self.containers, 60, "all containers' processes have ended")

    def remains(self) -> list[str]:
        """Describe its processes that still run: descendants seen before, and any that names one of its folders.

        Those of containers in Docker are in Docker's own list.
        """
        pids = {process.pid for process in self._seen.values() if not has_ended(process)}
        names = [str(self.data), *map(str, self._run_folders)]
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                texts = [process.cwd(), *process.cmdline(), *process.environ().values()]
                if any(name in text for name in names for text in texts) and not _is_in_docker(process.pid):
                    pids.add(process.pid)
        described = []
        for pid in pids - {os.getpid()}:
            with contextlib.suppress(psutil.Error):
                process = psutil.Process(pid)
                if process.status() != psutil.STATUS_ZOMBIE:
                    described.append(f"{pid} {' '.join(process.cmdline())[:120]}")
        return described

    # --- endpoints ------------------------------------------------------------------------------------------------

    def create_endpoint(
        self, name: str, *, prefix: str = "", count: int = 1, image: str = ANY_IMAGE, wait: float = 180, **more: Any
    ) -> None:
        """Create a multi-model endpoint over `s3://models/{prefix or name}/` and wait until it is InService.

        `more` goes into the container's definition, e.g. Environment.
        """
        data = f"s3://{BUCKET}/{prefix or name}/"
        container = {"Image": image, "ModelDataUrl": data, "Mode": "MultiModel", **more}
        self.sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, Containers=[container])
        variant = {
            "VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m4.xlarge",
            "InitialInstanceCount": count, "InitialVariantWeight": 1,
        }  # fmt: skip
        self.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        self.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)
        self.wait_in_service(name, wait)

    def deploy(self, name: str, container: dict[str, Any], **model: Any) -> None:
        """Create an endpoint of a model with this container alone, and do not wait. `model`: more of CreateModel."""
        self.sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container, **model)
        variant = {"VariantName": "v", "ModelName": name, "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1}
        self.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
        self.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)

    def settled(self, name: str, within: float = 180) -> str:
        """Wait until the endpoint is no longer Creating; return its FailureReason, empty if it is InService."""

        def settled() -> dict[str, Any] | None:
            description: dict[str, Any] = self.sm.describe_endpoint(EndpointName=name)
            return description if description["EndpointStatus"] != "Creating" else None

        return str(eventually(settled, within, f"{name} is settled").get("FailureReason", ""))

    def wait_in_service(self, name: str, within: float = 180) -> None:
        def in_service() -> dict[str, Any] | None:
            description: dict[str, Any] = self.sm.describe_endpoint(EndpointName=name)
            assert description["EndpointStatus"] != "Failed", description.get("FailureReason")
            return description if description["EndpointStatus"] == "InService" else None

        eventually(in_service, within, f"{name} is InService")

    def variables(self, environment: dict[str, str], *options: str) -> dict[str, str]:
        """Return the variables that `hostler env` prints with these options in such a shell."""
        words = [sys.executable, "-m", "hostler.cli", "env", "--json", "--data", str(self.data), *options]
        done = subprocess.run(words, env=environment, capture_output=True, text=True, check=True, timeout=60)
        printed: dict[str, str] = json.loads(done.stdout)
        return printed

    def put(self, key: str, content: bytes) -> None:
        """Put an object into the embedded S3: a file into its folder, as a person may do."""
        path = self.data / "s3" / BUCKET / key
        path.parent.mkdir(parents=True, exist_ok=True)
        path.write_bytes(content)

    def remove_bucket(self, name: str) -> None:
        """Remove a bucket of the embedded S3 with all that is in it."""
        shutil.rmtree(self.data / "s3" / name)

    def invoke(self, endpoint: str, target: str, body: bytes = b"1,2", **more: Any) -> bytes:
        """Invoke the endpoint through boto3 and return the answer's body."""
        answer = self.runtime.invoke_endpoint(
            EndpointName=endpoint, TargetModel=target, Body=body, **{"ContentType": "text/csv", **more}
        )
        content: bytes = answer["Body"].read()
        return content

    # --- metrics --------------------------------------------------------------------------------------------------

    def metric(self, name: str, **labels: str) -> float:
        """Return a metric of /_hostler/metrics, summed over the series with these labels. Raises KeyError."""
        with urllib.request.urlopen(f"{self.url}/_hostler/metrics", timeout=60) as answer:
            text = answer.read().decode()
        pairs = [f'{label}="{value}"' for label, value in labels.items()]
        values = []
        for line in text.splitlines():
            match = re.fullmatch(r"([a-zA-Z_:]\w*)(?:\{(.*)\})? (\S+)", line)
            if match and match[1] == name and all(pair in (match[2] or "") for pair in pairs):
                values.append(float(match[3]))
        if not values and f"# TYPE {name.removesuffix('_total')}" not in text:
            raise KeyError(f"{name} is not among the metrics:\n{text[:4000]}")
        return sum(values)


@contextlib.contextmanager
def hostler_up(folder: Path, **settings: Any) -> Iterator[Hostler]:
    """Run a hostler on `folder/data`; settings are HOSTLER_* by their lower-case names.

    When the test has ended, it is stopped and must leave nothing behind; then its data, which may be large, is removed.
    """
    with kept_up(Hostler(folder, settings)) as hostler:
        yield hostler


@contextlib.contextmanager
def kept_up(hostler: Hostler) -> Iterator[Hostler]:
    """Start a hostler, and end it as `hostler_up` does."""
    try:
        yield hostler.start()
        if not has_ended(hostler.host):
            hostler.stop()
    except BaseException:
        print(hostler.tail())
        raise
    finally:
        if hasattr(hostler, "_popen"):
            hostler.destroy()
        shutil.rmtree(hostler.data, ignore_errors=True)


def eventually(
    look: Callable[[], T | None], within: float, what: str, why: Callable[[], str] = lambda: "", pause: float = 0.02
) -> T:
    """Return the first truthy value of `look`, called every `pause` s. Raises AssertionError after `within` seconds."""
    deadline = time.monotonic() + within
    while not (value := look()):
        assert time.monotonic() < deadline, f"not within {within} s: {what} {why()}"
        time.sleep(pause)
    return value


def has_ended(process: psutil.Process) -> bool:
    """Return whether the process runs no more; its parent may not have asked for its exit code yet.

    While others of its threads end, its first one is a zombie already, and its connections are still open.
    """
    try:
        if not process.is_running():
            return True
        return process.status() == psutil.STATUS_ZOMBIE and len(os.listdir(f"/proc/{process.pid}/task")) == 1
    except (psutil.NoSuchProcess, FileNotFoundError, ProcessLookupError):
        return True


def _is_in_docker(pid: int) -> bool:
    return "/docker/" in Path(f"/proc/{pid}/cgroup").read_text()


def _command_line(process: psutil.Process) -> list[str]:
    """Return the command line; empty if the process has ended."""
    try:
        command: list[str] = process.cmdline()
    except psutil.Error:
        return []
    return command


def _listens(process: psutil.Process, path: re.Pattern[str]) -> bool:
    try:
        connections = process.net_connections("unix")
    except psutil.Error:
        return False
    return any(isinstance(c.laddr, str) and path.search(c.laddr) for c in connections)


def _last_lines(path: Path, lines: int) -> list[str]:
    return path.read_bytes()[-20_000:].decode(errors="replace").splitlines()[-lines:]
