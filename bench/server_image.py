"""The image hostler-server beside one of Multi Model Server: `python bench/server_image.py [--rounds 3] [--seconds 5]`.

Both run as `docker run IMAGE serve`, multi-model, one worker for each model, on the same models: a linear model of
scikit-learn's and a code/inference.py, which SageMaker's inference toolkit calls in the image of Multi Model Server
(tests/images/mms). The third contender is hostler-server without the script: it serves the model's file itself.

In each round each contender in turn gets a fresh container: the time until its ping is answered, ten loads and first
calls one after the other (cold), the memory that they added (PSS), and 16 connections on the ten models (hot), after as
long a time to warm up. Answers are compared. The table has medians over the rounds. Both images stand on one base that
has the Java that Multi Model Server needs (184 MB) already; hostler-server has XGBoost and ONNX besides.
"""

from __future__ import annotations

import http.client
import json
import pickle
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, NamedTuple

sys.path.insert(0, str(Path(__file__).resolve().parents[1] / "tests"))

import numpy as np
from sklearn.linear_model import LinearRegression

import arguments
import docker_rig
import processes
import report
from hostler.processes import tree
from our_images import our_image

HERE = Path(__file__).resolve().parent
MODELS, WIDTH, CONNECTIONS = 10, 6, 16
ROW = [0.1, 0.2, 0.3, 0.4, 0.5, 0.6]
BODY = ",".join(map(str, ROW))
SCRIPT = """
import json, os, pickle
import numpy as np

def model_fn(model_dir):
    with open(os.path.join(model_dir, "model.pkl"), "rb") as file:
        return pickle.load(file)

def input_fn(body, content_type):
    text = body if isinstance(body, str) else bytes(body).decode()
    return np.array([[float(value) for value in line.split(",")] for line in text.splitlines()])

def predict_fn(rows, model):
    return model.predict(rows)

def output_fn(predictions, accept):
    return json.dumps(predictions.tolist())
"""


class Image(NamedTuple):
    name: str
    tag: str
    script: bool


class Figures(NamedTuple):
    """Of one contender in one round: seconds, bytes, and calls a second."""

    start: float
    cold: float
    memory: float
    rate: float
    p99: float
    cpu: float


def main() -> None:
    parser = arguments.parser(__doc__)
    parser.add_argument("--rounds", type=arguments.positive, default=3)
    parser.add_argument("--seconds", type=arguments.positive, default=5, help="of each measurement of hot calls")
    given = parser.parse_args()
    if reason := docker_rig.missing():
        sys.exit(reason)
    if not shutil.which("wrk"):
        sys.exit("wrk is not installed")
    ours = our_image("hostler-server")
    images = [
        Image("hostler-server, script", ours, True),
        Image("Multi Model Server, script", _mms(), True),
        Image("hostler-server, the model's file", ours, False),
    ]
    found: dict[str, list[Figures]] = {image.name: [] for image in images}
    for number in range(given.rounds):
        for image in images if number % 2 == 0 else images[::-1]:
            try:
                found[image.name].append(_measure(image, given.seconds))
            except Exception as error:
                error.add_note(f"measured: {image.name}")
                raise
    head = ["", "start s", "cold ms", "MiB a target", "calls/s", "p99 ms", "CPU µs a call", "MB above base"]
    rows = [head]
    for image in images:
        start, cold, memory, rate, p99, cpu = (
            statistics.median(values) for values in zip(*found[image.name], strict=True)
        )
        size = _size(image.tag) - _size(docker_rig.base())
        rows.append([
            image.name, f"{start:.2f}", f"{cold * 1e3:.1f}", f"{memory / 2**20:.1f}", f"{rate:.0f}", f"{p99 * 1e3:.1f}",
            f"{cpu * 1e6:.0f}", f"{size / 1e6:.0f}",
        ])  # fmt: skip
    print(report.aligned(f"{given.rounds} rounds, {CONNECTIONS} connections, {_processor()}", rows))


def _size(tag: str) -> int:
    return int(docker_rig.docker("image", "inspect", "--format", "{{.Size}}", tag))


def _processor() -> str:
    lines = Path("/proc/cpuinfo").read_text().splitlines()
    return next(
        (line.partition(":")[2].strip() for line in lines if line.startswith("model name")), "unknown processor"
    )


def _mms() -> str:
    """Build the tests' image of Multi Model Server with scikit-learn and the toolkit's own handler; return its tag."""
    parent, tag = docker_rig.image("mms"), "hostler-test/bench-mms"
    with tempfile.TemporaryDirectory() as folder:
        shutil.copy(HERE / "servers" / "mms_toolkit.py", Path(folder) / "model_handler.py")
        dockerfile = f"FROM {parent}\nRUN pip install scikit-learn\nCOPY model_handler.py /home/model-server/\n"
        (Path(folder) / "Dockerfile").write_text(dockerfile)
        docker_rig.docker("build", "--quiet", "--network", "none", "--tag", tag, folder)
    return tag


def _measure(image: Image, seconds: int) -> Figures:
    with tempfile.TemporaryDirectory(prefix="hostler-bench-", dir="/var/tmp") as base:
        folder = Path(base)
        expected = [_model(folder / f"m{number}" / "model", number, image.script) for number in range(MODELS)]
        with _container(image, folder) as (host, pid, start):
            # 1. The container alone, then with all models loaded and called, one after the other.
            before = _sum(pid, processes.memory)
            colds = []
            for number, prediction in enumerate(expected):
                begun = time.monotonic()
                url = {"model_name": f"m{number}", "url": f"/opt/ml/models/m{number}/model"}
                _ask(host, "POST", "/models", json.dumps(url), "application/json")
                answer = json.loads(_ask(host, "POST", f"/models/m{number}/invoke", BODY, "text/csv"))
                colds.append(time.monotonic() - begun)
                assert abs(answer[0] - prediction) < 1e-6, (image.name, answer, prediction)
            memory = (_sum(pid, processes.memory) - before) / MODELS
            # 2. Hot calls, after as many to warm up.
            _wrk(host, seconds, folder)
            cpu = _sum(pid, processes.cpu)
            hot = _wrk(host, seconds, folder)
            assert hot["not_2xx"] + hot["broken"] == 0, (image.name, hot)
            cpu = (_sum(pid, processes.cpu) - cpu) / hot["requests"]
            return Figures(
                start, statistics.median(colds), memory, hot["requests"] / hot["seconds"], hot["p99"] / 1e3, cpu
            )


def _model(folder: Path, number: int, script: bool) -> float:
    """Write a model into a folder; return its prediction."""
    rows = np.random.default_rng(number).random((50, WIDTH))
    fitted = LinearRegression().fit(rows, rows.sum(axis=1) + number)
    folder.mkdir(parents=True)
    (folder / "model.pkl").write_bytes(pickle.dumps(fitted))
    if script:
        (folder / "code").mkdir()
        (folder / "code" / "inference.py").write_text(SCRIPT)
    return float(fitted.predict(np.array([ROW]))[0])


@contextmanager
def _container(image: Image, folder: Path) -> Iterator[tuple[str, int, float]]:
    """Run the image; yield its address, its first process, and the seconds until its ping was answered."""
    begun = time.monotonic()
    words = ["--detach", "--env=SAGEMAKER_MULTI_MODEL=true", "--env=SAGEMAKER_MODEL_SERVER_WORKERS=1"]
    id = docker_rig.docker("run", *words, f"--volume={folder}:/opt/ml/models", image.tag, "serve").strip()
    try:
        [state] = json.loads(docker_rig.docker("inspect", id))
        host = state["NetworkSettings"]["IPAddress"]
        while True:
            try:
                _ask(host, "GET", "/ping", "", "")
                break
            except (OSError, AssertionError, http.client.HTTPException):
                assert time.monotonic() - begun < 120, docker_rig.docker("logs", id)
                time.sleep(0.02)
        yield host, state["State"]["Pid"], time.monotonic() - begun
    finally:
        docker_rig.docker("rm", "--force", id)


def _sum(pid: int, measure: Callable[[int], float]) -> float:
    return sum(measure(each) for each in [pid, *tree.descendants(pid)])


def _ask(host: str, method: str, path: str, body: str, content_type: str) -> bytes:
    connection = http.client.HTTPConnection(host, 8080, timeout=120)
    try:
        connection.request(method, path, body, {"Content-Type": content_type} if content_type else {})
        answer = connection.getresponse()
        content = answer.read()
    finally:
        connection.close()
    assert answer.status == 200, (path, answer.status, content[:500])
    return content


def _wrk(host: str, seconds: int, folder: Path) -> dict[str, Any]:
    requests = [
        f"POST /models/m{number}/invoke HTTP/1.1\r\nHost: container\r\nContent-Type: text/csv\r\n"
        f"Content-Length: {len(BODY)}\r\n\r\n{BODY}"
        for number in range(MODELS)
    ]
    (folder / "requests").write_text("".join(f"{len(request)}\n{request}" for request in requests), newline="")
    (folder / "order").write_text("".join(f"{number}\n" for number in range(MODELS)))
    words = [
        "wrk",
        "--threads",
        "1",
        "--connections",
        str(CONNECTIONS),
        "--duration",
        f"{seconds}s",
        "--timeout",
        "10s",
    ]
    words += ["--script", str(HERE / "replay.lua"), f"http://{host}:8080", "--"]
    done = subprocess.run(
        [*words, str(folder / "requests"), str(folder / "order"), "0"], capture_output=True, text=True, check=True
    )
    return next(json.loads(line) for line in done.stdout.splitlines() if line.startswith("{"))


if __name__ == "__main__":
    main()
