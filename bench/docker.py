"""How soon images serve, and what of that is Docker's: `python bench/docker.py [--rounds 5]`.

The image is present, and its server (tests/images/hop, a small Python program) listens as soon as Python runs. Times
are seconds from CreateEndpoint to InService. Beside them, in the same rounds: one of hostler's own servers, which is a
process, and the same image by `docker run` alone, until its ping is answered.
"""

from __future__ import annotations

import json
import statistics
import subprocess
import sys
import tempfile
import time
import urllib.error
import urllib.request
from collections.abc import Callable
from pathlib import Path
from typing import Any

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))
sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests" / "e2e"))

import targets
from running import BUCKET, ROLE, Hostler, eventually, hostler_up

import arguments
import docker_rig
import report
import verdicts

XGBOOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"
ONE, FIFTEEN = 1.5, 8.0  # the goals: seconds


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--rounds", type=arguments.positive, default=5)
    rounds = parser.parse_args().rounds
    if reason := docker_rig.missing():
        sys.exit(reason)
    image = docker_rig.image("hop")
    container = {"Image": image}
    pods = [{"Image": image, "ContainerHostname": f"c{number}"} for number in range(15)]
    process = {"Image": XGBOOST, "ModelDataUrl": f"s3://{BUCKET}/model.tar.gz"}
    times: dict[str, list[float]] = {}
    with (
        tempfile.TemporaryDirectory(dir="/var/tmp") as folder,
        hostler_up(Path(folder), engine="auto", docker_host=docker_rig.address()) as hostler,
    ):
        hostler.put("model.tar.gz", targets.xgboost_target(7))
        works: dict[str, Callable[[], float]] = {
            "an endpoint of an image": lambda: _in_service(hostler, [container]),
            "an endpoint of 15 containers of an image": lambda: _in_service(hostler, pods),
            "an endpoint of a process": lambda: _in_service(hostler, [process]),
            "docker run of the image, until its ping is answered": lambda: _docker_run(image),
        }
        for number in range(rounds + 1):
            for name, work in works.items():
                seconds = work()
                if number:  # the first round warms up
                    times.setdefault(name, []).append(seconds)
    rows = [["until", "median", "least", "most"]]
    for name, seconds in times.items():
        rows.append([name, *(f"{value:.2f}" for value in (statistics.median(seconds), min(seconds), max(seconds)))])
    one, fifteen, *_ = (statistics.median(seconds) for seconds in times.values())
    goals = [
        verdicts.HEAD,
        verdicts.row("seconds until an image, present, is InService", one, ONE, at_most=True),
        verdicts.row("seconds until 15 containers of one are", fifteen, FIFTEEN, at_most=True),
    ]
    print(report.aligned("seconds", rows))
    print(report.aligned("goals", goals))


def _in_service(hostler: Hostler, containers: list[dict[str, Any]]) -> float:
    """Create an endpoint and delete it; return the seconds until it was InService."""
    sm = hostler.sm
    mode = {"InferenceExecutionConfig": {"Mode": "Direct"}} if len(containers) > 1 else {}
    sm.create_model(ModelName="m", ExecutionRoleArn=ROLE, Containers=containers, **mode)
    variant = {"VariantName": "v", "ModelName": "m", "InstanceType": "ml.m5.large", "InitialInstanceCount": 1}
    sm.create_endpoint_config(EndpointConfigName="c", ProductionVariants=[variant])
    begun = time.monotonic()
    sm.create_endpoint(EndpointName="e", EndpointConfigName="c")
    hostler.wait_in_service("e")
    seconds = time.monotonic() - begun
    sm.delete_endpoint(EndpointName="e")
    eventually(lambda: not sm.list_endpoints()["Endpoints"], 60, "the endpoint is deleted")
    sm.delete_endpoint_config(EndpointConfigName="c")
    sm.delete_model(ModelName="m")
    return seconds


def _docker_run(image: str) -> float:
    """Run the image without hostler; return the seconds until it answered a ping."""
    begun = time.monotonic()
    id = docker_rig.docker("run", "--detach", "--init", image, "serve").strip()
    try:
        settings = json.loads(docker_rig.docker("inspect", id))[0]["NetworkSettings"]
        url = f"http://{settings['IPAddress'] or next(iter(settings['Networks'].values()))['IPAddress']}:8080/ping"
        while not _answers(url):
            time.sleep(0.005)
        return time.monotonic() - begun
    finally:
        subprocess.run(["docker", "--host", docker_rig.address(), "rm", "--force", id], check=True, capture_output=True)


def _answers(url: str) -> bool:
    try:
        with urllib.request.urlopen(url, timeout=1) as answer:
            return bool(answer.status == 200)
    except (urllib.error.URLError, OSError):
        return False


if __name__ == "__main__":
    main()
