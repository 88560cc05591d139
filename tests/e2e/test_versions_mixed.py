"""Control of one version with gateways of the one before, and the other way round: both speak the same link.

The host is of the version before: it outlives an upgrade of the package, and starts the processes of the new one.
"""

from __future__ import annotations

import subprocess
import sys
import tarfile
from pathlib import Path

import psutil
import pytest
import targets
from running import REPOSITORY, Hostler, eventually, has_ended, kept_up

BEFORE = "bed9b739de8d10cf43ff652c66a191296b8da4b0"  # of the links' messages without a version
HOST = """
import sys
from pathlib import Path
from hostler import settings
from hostler.host.main import Programs, run
port, data, control, gateway = sys.argv[1:]

def program(source, module):
    return "/usr/bin/env", "PYTHONPATH=" + source, sys.executable, "-P", "-m", module

programs = Programs(program(control, "hostler.control.main"), program(gateway, "hostler.gateway.main"))
sys.exit(run(settings.load({"port": port, "data": data}), programs))
"""


class Mixed(Hostler):
    """A hostler whose processes are of several versions, by their source."""

    def __init__(self, folder: Path, host: Path, control: Path, gateway: Path) -> None:
        super().__init__(folder, {"gateways": 2})
        self.source, self._control, self._gateway = host, control, gateway

    def command(self, port: int) -> list[str]:
        return [sys.executable, "-c", HOST, *map(str, (port, self.data, self._control, self._gateway))]


@pytest.fixture(scope="module")
def before(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The source of the version before."""
    folder = tmp_path_factory.mktemp("before")
    with (folder / "src.tar").open("wb") as packed:
        subprocess.run(["git", "archive", BEFORE, "src"], cwd=REPOSITORY, stdout=packed, check=True)
    with tarfile.open(folder / "src.tar") as archive:
        archive.extractall(folder, filter="data")
    return folder / "src"


@pytest.mark.require("history")
@pytest.mark.parametrize("new", ["control", "gateway"])
def test_a_version_speaks_with_the_one_before(tmp_path: Path, before: Path, new: str) -> None:
    now = REPOSITORY / "src"
    control, gateway = (now, before) if new == "control" else (before, now)
    with kept_up(Mixed(tmp_path, before, control, gateway)) as hostler:
        for number in range(6):
            hostler.put(f"mixed/{number}.tar.gz", targets.xgboost_target(number))
        hostler.create_endpoint("mixed", count=2)
        call_all(hostler)

        # Each is killed, and links again; while control is away, residents are served.
        killed = hostler.control
        killed.kill()
        call_all(hostler)
        eventually(lambda: has_ended(killed) and hostler.named("hostler.control.main"), 60, "there is another control")
        first = hostler.gateways[0]
        first.kill()
        eventually(lambda: has_ended(first) and len(hostler.gateways) == 2, 60, "there is another gateway")
        call_all(hostler)

        # An update withdraws, drains and stops: all messages of the link are needed for that.
        containers = hostler.containers
        hostler.sm.update_endpoint(EndpointName="mixed", EndpointConfigName=config(hostler))
        hostler.wait_in_service("mixed", 120)
        call_all(hostler)
        eventually(lambda: all(map(has_ended, containers)), 120, "the old instances have ended")
        assert {source_of(process) for process in hostler.gateways} == {str(gateway)}
        assert source_of(hostler.control) == str(control)
        hostler.sm.delete_endpoint(EndpointName="mixed")
        eventually(lambda: not hostler.containers, 60, "nothing is left")
        assert "Traceback" not in hostler.output.read_text()


def call_all(hostler: Hostler) -> None:
    for number in range(6):
        assert targets.number(hostler.invoke("mixed", f"{number}.tar.gz")) == number


def config(hostler: Hostler) -> str:
    """Another config like that of the endpoint."""
    given = hostler.sm.describe_endpoint_config(EndpointConfigName="mixed")
    hostler.sm.create_endpoint_config(EndpointConfigName="next", ProductionVariants=given["ProductionVariants"])
    return "next"


def source_of(process: psutil.Process) -> str:
    return str(process.environ()["PYTHONPATH"])
