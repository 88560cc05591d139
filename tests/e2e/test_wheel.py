"""hostler installed from its wheel, as strangers install it, and run from an empty folder, without the repository."""

from __future__ import annotations

import os
import subprocess
import sys
from pathlib import Path

import psutil
import pytest

from distribution import build
from hostler import __version__

pytestmark = pytest.mark.slow  # it installs packages from the index

TESTS = """
import boto3, numpy, xgboost

def test_a_model_of_ones_own_answers(hostler):
    data = xgboost.DMatrix(numpy.array([[1.0], [2.0]]), label=[1.0, 2.0])
    model = xgboost.train({"max_depth": 1, "eta": 1}, data)
    hostler.endpoint("mine", model)
    answer = boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName="mine", ContentType="text/csv", Body="2")
    assert float(answer["Body"].read()) == model.predict(data)[1]

def test_it_is_the_wheel_that_runs(hostler):
    import hostler as package
    assert "site-packages" in package.__file__
"""


class Stranger:
    """An environment with hostler's wheel and what it requires, and an empty folder that is its user's home."""

    def __init__(self, folder: Path, wheel: Path) -> None:
        self.bin = folder / "venv/bin"
        self.home = folder / "home"
        self.home.mkdir()
        subprocess.run([sys.executable, "-m", "venv", folder / "venv"], check=True, timeout=300)
        packages = [f"hostler[demo] @ {wheel.as_uri()}", "pytest"]
        lock = Path(__file__).resolve().parents[2] / "requirements/test.txt"
        install = [self.bin / "python", "-m", "pip", "install", "--quiet", "--constraint", lock, *packages]
        subprocess.run(install, check=True, timeout=600, env={**os.environ, "PIP_USER": "0"})

    def run(self, *command: str, **variables: str) -> str:
        environment = {"PATH": f"{self.bin}:/usr/bin:/bin", "HOME": str(self.home), "LANG": "C.UTF-8", **variables}
        ran = subprocess.run(
            command, cwd=self.home, env=environment, text=True, timeout=300, check=False,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip
        assert ran.returncode == 0, ran.stdout
        return ran.stdout

    def processes(self) -> list[psutil.Process]:
        return [
            each for each in psutil.process_iter(["cmdline"]) if str(self.bin) in " ".join(each.info["cmdline"] or [])
        ]


@pytest.fixture(scope="module")
def stranger(tmp_path_factory: pytest.TempPathFactory) -> Stranger:
    return Stranger(tmp_path_factory.mktemp("stranger"), build(tmp_path_factory.mktemp("dist")).wheel)


def test_its_requirements_are_met_and_it_says_its_version(stranger: Stranger) -> None:
    stranger.run("python", "-m", "pip", "check")
    assert stranger.run("hostler", "--version") == f"hostler {__version__}\n"


def test_the_demo_serves_real_predictions(stranger: Stranger) -> None:
    output = stranger.run("hostler", "demo")
    assert "my-endpoint is InService" in output
    assert "Houston_TX.tar.gz" in output
    assert stranger.processes() == []


def test_the_pytest_plugin_serves_a_model(stranger: Stranger) -> None:
    (stranger.home / "test_mine.py").write_text(TESTS)
    assert "2 passed" in stranger.run("python", "-m", "pytest", "-q", "-W", "error", "test_mine.py")
    assert stranger.processes() == []


@pytest.mark.parametrize("shell", ["bash", "zsh", "fish"])
def test_the_shells_complete_its_commands(stranger: Stranger, shell: str) -> None:
    assert "_HOSTLER_COMPLETE" in stranger.run("hostler", _HOSTLER_COMPLETE=f"{shell}_source")
