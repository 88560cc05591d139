"""`hostler lint --image`: images are started in Docker as an endpoint would start them, and nothing of that stays."""

from __future__ import annotations

import json
import os
import subprocess
import sys
import tarfile
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

import docker_rig
from image_registry import Registry, registry

pytestmark = pytest.mark.docker

MODELS = "com.amazonaws.sagemaker.capabilities.multi-models"


@pytest.fixture(autouse=True)
def nothing_stays(tmp_path: Path) -> Iterator[None]:
    yield
    mine = [name for name in docker_rig.docker("ps", "--all", "--format", "{{.Names}} ").split() if "-lint.1" in name]
    assert not mine
    assert not [*tmp_path.glob("hostler-lint-*")]


def lint(folder: Path, *words: str, **environment: str) -> tuple[int, dict[str, Any]]:
    """Return the exit code and the report."""
    clean = {name: value for name, value in os.environ.items() if not name.startswith("HOSTLER_")}
    done = subprocess.run(
        [sys.executable, "-m", "hostler.cli", "lint", "--json", *words], capture_output=True, text=True, timeout=120,
        env={**clean, "TMPDIR": str(folder), "HOSTLER_CONFIG": "", **environment}, cwd=folder, check=False,
    )  # fmt: skip
    assert done.returncode in (0, 1), done.stderr
    return done.returncode, json.loads(done.stdout)


def lines(report: dict[str, Any]) -> list[str]:
    return [f"{finding['level']}: {finding['where']}: {finding['what']}" for finding in report["findings"]]


@pytest.fixture(scope="module")
def flask() -> str:
    return docker_rig.image("flask")


def test_an_image_that_does_as_it_should_is_served_beside_another_with_its_model(tmp_path: Path, flask: str) -> None:
    (tmp_path / "factor").write_text("3")
    with tarfile.open(archive := tmp_path / "model.tar.gz", "w:gz") as tar:
        tar.add(tmp_path / "factor", "factor")
    code, report = lint(tmp_path, str(archive), "--image", flask, "--start", "--of-several")
    assert (code, report["findings"]) == (0, [])
    assert report["server"].startswith("Docker (linux/")
    assert "user root): it answered its pings after " in report["server"]


@pytest.mark.slow
def test_an_image_for_one_model_lacks_the_label_and_the_api_for_many(tmp_path: Path, flask: str) -> None:
    code, report = lint(tmp_path, "--image", flask, "--multi-model")
    label, start = lines(report)
    assert code == 1
    assert label == (
        f"warning: labels: Your Ecr Image {flask} does not contain required {MODELS}=true Docker label(s). In its"
        f" Dockerfile: LABEL {MODELS}=true"
    )
    assert "GET /models was answered with 404 instead of 200" in start


@pytest.mark.slow
@pytest.mark.parametrize(
    ("mistake", "reason"),
    [
        ("crash", "The container exited with code 3 before it answered a ping."),
        ("wrong-port", "not on 8080"),
        ("ping-404", "GET /ping was answered with 404"),
    ],
)
def test_what_goes_wrong_at_the_start_is_said_as_an_endpoints_failure_reason_says_it(
    tmp_path: Path, mistake: str, reason: str
) -> None:
    faulty = docker_rig.image("faulty")
    code, report = lint(tmp_path, "--image", faulty, "--env", f"MISTAKE={mistake}", HOSTLER_STARTUP_TIMEOUT="20")
    (line,) = lines(report)
    assert code == 1
    assert line.startswith(f"error: {faulty}: ")
    assert reason in line
    assert "did not pass the ping health check" not in line


@pytest.fixture(scope="module")
def shop(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Registry]:
    with registry(tmp_path_factory.mktemp("registry")) as running:
        yield running


@pytest.mark.require("docker-registry")
def test_what_an_image_is_shows_before_its_start_and_an_image_that_is_nowhere_is_said(
    tmp_path: Path, shop: Registry
) -> None:
    shop.put("arm:1", architecture="s390x", user="me:us")
    image = f"{shop.address}/arm:1"
    try:
        code, report = lint(tmp_path, "--image", image, "--of-several", HOSTLER_STRICT_LABELS="true")
    finally:
        docker_rig.docker("rmi", "--force", image)
    label, architecture, user, start = lines(report)
    assert code == 1
    assert label.startswith("error: labels: ")
    assert architecture.startswith("warning: architecture: It is for linux/s390x, and Docker's machine is linux/")
    assert user.startswith("warning: user: It runs as me:us. ")
    assert start.startswith(f"error: {image}: ")
    code, report = lint(tmp_path, "--image", f"{shop.address}/none")
    assert code == 1
    assert "has none either, or none without a login" in lines(report)[0]


@pytest.mark.parametrize(
    ("image", "server"),
    [
        ("683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1", "hostler's own server, in place of"),
        ("Me/Mine", ""),
    ],
)
def test_what_docker_is_not_asked_for_is_not_started(tmp_path: Path, image: str, server: str) -> None:
    code, report = lint(tmp_path, "--image", image, DOCKER_HOST="unix:///nowhere.sock")
    assert (code, report["server"].startswith(server)) == (int(not server), True)
    if not server:
        assert lines(report) == [
            "error: --image: Me/Mine is no reference to an image: 'Me' has capital letters, which only a registry and a"
            " tag may have."
        ]


def test_without_docker_the_command_says_why_and_is_no_verdict_on_the_image(tmp_path: Path) -> None:
    words = [sys.executable, "-m", "hostler.cli", "lint", "--image", "me/mine"]
    environment = {**os.environ, "DOCKER_HOST": "unix:///nowhere.sock"}
    done = subprocess.run(words, capture_output=True, text=True, timeout=60, env=environment, cwd=tmp_path, check=False)
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("hostler: Docker cannot be reached at unix:///nowhere.sock: ")
