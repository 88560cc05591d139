"""A machine without Docker: what needs none works, and what needs it says so."""

from __future__ import annotations

import socket
from pathlib import Path

import pytest
import targets
from running import BUCKET, Hostler, hostler_up

UNKNOWN = "registry.example/team/model:1"
XGBOOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"
ELSE = (
    "Start it (systemctl start docker, or open Docker Desktop), or name another address with docker_host in"
    ' hostler.toml; with engine = "process" no image runs.'
)
REFUSED = (
    f"Nothing here can run the image {UNKNOWN}, and there is no model data to serve. Map it to a command in"
    ' hostler.toml: under [images], "registry.example/team/model" = "/path/to/program".'
)


def served(hostler: Hostler, name: str) -> float:
    answer = hostler.runtime.invoke_endpoint(EndpointName=name, Body=b"1,2", ContentType="text/csv")
    return float(answer["Body"].read())


@pytest.mark.parametrize("ended", [False, True])
def test_without_docker_processes_serve_and_an_image_fails_with_what_helps(tmp_path: Path, ended: bool) -> None:
    path = tmp_path / "docker.sock"
    if ended:  # a daemon that has ended leaves its socket
        with socket.socket(socket.AF_UNIX) as daemon:
            daemon.bind(str(path))
    with hostler_up(tmp_path / "up", engine="auto", docker_host=f"unix://{path}") as hostler:
        hostler.put("model.tar.gz", targets.xgboost_target(7))
        data = f"s3://{BUCKET}/model.tar.gz"
        hostler.deploy("ours", {"Image": XGBOOST, "ModelDataUrl": data})
        hostler.deploy("unknown", {"Image": UNKNOWN, "ModelDataUrl": data})
        hostler.deploy("image", {"Image": UNKNOWN})
        assert not hostler.settled("ours")
        assert not hostler.settled("unknown"), "hostler's own server stands in"
        assert served(hostler, "ours") == served(hostler, "unknown") == 7
        why = (
            "the socket is there, but nothing listens on it: the daemon does not run."
            if ended
            else "there is no such socket, so Docker does not run, or is not installed."
        )
        away = f"Docker cannot be reached at unix://{path}: {why} {ELSE}"
        assert hostler.settled("image") == f"{away} {REFUSED}"
        warning = f"{away} hostler's own server runs its model data instead."
        assert hostler.output.read_text().count(warning) == 1
        assert any(f"hostler: {warning}\n" in log.read_text() for log in hostler.data.glob("logs/*/v/*.log"))
        assert not (hostler.data / "house").exists()
