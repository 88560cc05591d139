"""Our own model server as a process, driven from outside through its unix socket, or its ports, and artifacts made on
the spot.
"""

from __future__ import annotations

import contextlib
import http.client
import json
import os
import pickle
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
import textwrap
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from pathlib import Path
from typing import Any, NamedTuple

import forking

from hostler.host.ports import Ports, ports_environment

SOURCE = Path(__file__).parents[2] / "src"

# The stage of conftest.py: what `running` starts.
in_image = False  # a container of our image
at_ports = False  # a server that listens on ports


Place = str | int  # of a process: its socket's name, or its port
_ports = Ports()


class Answer(NamedTuple):
    status: int
    body: bytes
    content_type: str

    @property
    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def text(self) -> str:
        return self.body.decode()


class _UnixConnection(http.client.HTTPConnection):
    def __init__(self, path: str, timeout: float) -> None:
        super().__init__("localhost", timeout=timeout)
        self._path = path

    def connect(self) -> None:
        self.sock = socket.socket(socket.AF_UNIX)
        self.sock.settimeout(self.timeout)
        self.sock.connect(self._path)


class Container:
    """One server process. `folder` is its base folder, /opt/ml to whoever asks."""

    host = "127.0.0.1"
    in_image = False
    at_ports = False
    safe_ports = range(0)

    def __init__(
        self,
        folder: Path,
        environment: Mapping[str, str],
        *,
        options: Sequence[str] = (),
        packages: Path | None = None,
        keep: Sequence[int] = (),
        cold: bool = False,
    ) -> None:
        """`packages` is one more folder to import from.

        The server is forked (see forking.py), unless it must be a Python of its own: a `cold` one, one with Python's
        `options`, and one that gets descriptors to `keep`.
        """
        self.folder = folder
        self.sockets = Path(tempfile.mkdtemp(prefix="hs-", dir="/tmp"))
        self.log = folder / "log"
        told = {"HOSTLER_SOCKET": str(self.sockets / "s"), "SAGEMAKER_BASE_DIR": str(folder)}
        if at_ports:
            self.at_ports, self.port = True, _ports.take()
            self.safe_ports = range(self.port + 1, self.port + 50)
            told |= {"HOSTLER_SOCKET": "", "HOSTLER_PORTS": "true", **ports_environment(self.port)}
        told |= environment
        path = os.pathsep.join(map(str, [SOURCE, *([packages] if packages else [])]))
        variables = {"PATH": os.environ["PATH"], "PYTHONPATH": path, **told}
        self.process: subprocess.Popen[bytes] | forking.Forked
        if not (cold or options or keep):
            self.process = forking.fork(variables, self.log, packages)
            return
        command = [sys.executable, *options, "-m", "hostler.servers", "serve"]
        with self.log.open("wb") as log:
            self.process = subprocess.Popen(command, env=variables, stdout=log, stderr=log, pass_fds=keep)

    def wait(self, seconds: float = 120.0) -> Container:
        """Return when /ping answers 200. Raises AssertionError after `seconds`, a guard against hangs."""
        end = time.monotonic() + seconds
        while time.monotonic() < end:
            if self.process.poll() is not None:
                raise AssertionError(f"the server has ended: {self.output()}")
            with contextlib.suppress(OSError):
                if self.ask("GET", "/ping").status == 200:
                    return self
            time.sleep(0.02)
        raise AssertionError(f"no ping in {seconds} s: {self.output()}")

    def connect(self, to: Place = "s", timeout: float = 60.0) -> http.client.HTTPConnection:
        """A connection to the server, or to one of its processes by its socket's name or its port."""
        if self.at_ports:
            return http.client.HTTPConnection(self.host, self.port if to == "s" else int(to), timeout=timeout)
        return _UnixConnection(str(self.sockets / str(to)), timeout)

    def own(self, told: Mapping[str, Any]) -> list[Place]:
        """Where processes of its own take a target's calls, by the server's answer to its load, or to a ping."""
        kind = "port" if self.at_ports else "socket"
        return [*told.get(f"{kind}s", [told[kind]] if kind in told else [])]

    def place(self, told: Mapping[str, Any]) -> Place:
        """The first of these, or else the server."""
        return next(iter(self.own(told)), "s")

    def refuses(self, to: Place) -> bool:
        """Whether nobody listens there."""
        with contextlib.closing(self.connect(to)) as connection:
            try:
                connection.connect()
            except (ConnectionRefusedError, FileNotFoundError):
                return True
            return False

    def ask(self, method: str, path: str, body: bytes = b"", *, to: Place = "s", **headers: str) -> Answer:
        """One request on a connection of its own; header names with _ for -."""
        with contextlib.closing(self.connect(to)) as connection:
            return ask(connection, method, path, body, **headers)

    def load(self, name: str, folder: Path | None = None) -> Answer:
        return self.register(name, self.url(folder or self.folder / "models" / name / "model"))

    def url(self, folder: Path | str) -> str:
        """The url of a folder below the base, as the server sees it."""
        return str(folder)

    def register(self, name: str, url: str) -> Answer:
        return self.ask("POST", "/models", json.dumps({"model_name": name, "url": url}).encode())

    def loaded(self, name: str) -> dict[str, Any]:
        answer = self.load(name)
        assert answer.status == 200, answer
        return answer.json

    def invoke(self, name: str, body: bytes, content_type: str = "text/csv", **headers: str) -> Answer:
        return self.ask("POST", f"/models/{name}/invoke", body, content_type=content_type, **headers)

    def model(self, name: str) -> Path:
        """A new, empty folder for a target's artifact."""
        folder = self.folder / "models" / name / "model"
        shutil.rmtree(folder, ignore_errors=True)
        folder.mkdir(parents=True)
        return folder

    def output(self) -> str:
        return self.log.read_text(errors="replace")

    def end(self) -> int:
        """SIGTERM; the exit code."""
        if self.process.poll() is None:
            self.process.send_signal(signal.SIGTERM)
        try:
            return self.process.wait(120)
        finally:
            if self.process.poll() is None:
                self.process.kill()
                self.process.wait()
            if self.at_ports:
                _ports.release(self.port)
            shutil.rmtree(self.sockets, ignore_errors=True)


def ask(connection: http.client.HTTPConnection, method: str, path: str, body: bytes = b"", **headers: str) -> Answer:
    connection.request(method, path, body, {name.replace("_", "-"): value for name, value in headers.items()})
    response = connection.getresponse()
    return Answer(response.status, response.read(), response.headers.get("Content-Type", ""))


def status_of(connection: http.client.HTTPConnection) -> int:
    """The status of a request that was sent already; the connection is closed."""
    with contextlib.closing(connection), connection.getresponse() as response:
        return response.status


@contextlib.contextmanager
def running(
    folder: Path, *, options: Sequence[str] = (), packages: Path | None = None, cold: bool = False, **environment: str
) -> Iterator[Container]:
    if in_image:
        from server_in_image import ContainerInImage

        assert not options, "the image's entry point has the options"
        container: Container = ContainerInImage(folder, environment, packages=packages)
    else:
        container = Container(folder, environment, options=options, packages=packages, cold=cold)
    try:
        yield container
    finally:
        container.end()


# --- artifacts ----------------------------------------------------------------------------------------------------


def script(folder: Path, text: str, name: str = "inference.py") -> Path:
    (folder / "code").mkdir(exist_ok=True)
    (folder / "code" / name).write_text(textwrap.dedent(text))
    return folder


class Gate:
    """A point in a model's code at which it waits until the test opens it."""

    def __init__(self, folder: Path, name: str) -> None:
        self._reached, self._open = folder / f"{name}-reached", folder / f"{name}-open"
        waiting = f"while not os.path.exists({str(self._open)!r}): time.sleep(0.01)"
        self.statements = f"import os, time\nopen({str(self._reached)!r}, 'w').close()\n{waiting}"
        self.code = f"exec({self.statements!r})"  # an expression, for a script

    def __reduce__(self) -> tuple[Callable[[str], None], tuple[str]]:
        """Have a load of this object's pickle wait."""
        return exec, (self.statements,)

    def reached(self) -> bool:
        return self._reached.exists()

    def open(self) -> None:
        self._open.touch()


def until(there: Callable[[], object]) -> None:
    """Return when it is there. Raises AssertionError after two minutes, a guard against hangs."""
    end = time.monotonic() + 120
    while not there():
        assert time.monotonic() < end
        time.sleep(0.01)


def booster(
    folder: Path, answer: float = 0.0, *, trees: int = 5, features: int = 3, seed: int = 0, **params: Any
) -> Any:
    """A tiny XGBoost model around `answer`, trained on the spot, saved as xgboost-model; the booster."""
    import numpy as np
    import xgboost

    random = np.random.default_rng(seed)
    rows = random.normal(size=(200, features)).astype(np.float32)
    rows[random.random(rows.shape) < 0.1] = np.nan
    labels = np.nan_to_num(rows[:, 0]) + answer
    if classes := params.get("num_class"):
        labels = random.integers(0, classes, 200)
    told = {"max_depth": 3, "nthread": 1, "base_score": answer if not classes else 0.5, **params}
    trained = xgboost.train(told, xgboost.DMatrix(rows, labels), trees)
    trained.save_model(folder / "xgboost-model.ubj")
    (folder / "xgboost-model.ubj").rename(folder / "xgboost-model")
    return trained


def said_by(trained: Any, rows: list[list[float]]) -> list[Any]:
    """What the booster itself predicts, as Python floats."""
    import numpy as np
    import xgboost

    return trained.predict(xgboost.DMatrix(np.array(rows, dtype=np.float32))).tolist()


def torchscript(folder: Path, answer: float = 0.0, *, features: int = 3, padding: int = 0) -> Any:
    """A TorchScript model.pt that gives a row's sum and `answer`, with a weight of `padding` bytes; the module."""
    import torch

    class Sum(torch.nn.Module):
        def __init__(self) -> None:
            super().__init__()
            self.weight = torch.nn.Parameter(torch.ones(features, 1))
            self.register_buffer("answer", torch.tensor(answer))
            self.register_buffer("padding", torch.zeros(padding, dtype=torch.uint8))

        def forward(self, rows: torch.Tensor) -> torch.Tensor:
            return rows @ self.weight + self.answer

    module = Sum()
    torch.jit.save(torch.jit.script(module), folder / "model.pt")
    return module


def onnx_model(folder: Path, answer: float = 0.0, *, features: int = 3, padding: int = 0) -> None:
    """A model.onnx that gives the sum of each row of `x` and `answer`, with a weight of `padding` bytes."""
    import numpy as np
    from onnx import TensorProto, helper, numpy_helper, save

    weights = {
        "weight": np.ones((features, 1), np.float32),
        "answer": np.float32([answer]),
        "padding": np.zeros(padding, np.uint8),
    }
    nodes = [helper.make_node("MatMul", ["x", "weight"], ["sum"]), helper.make_node("Add", ["sum", "answer"], ["y"])]
    graph = helper.make_graph(
        nodes,
        "sums",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", features])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")


def estimator(folder: Path, name: str = "model.joblib") -> Any:
    """A linear model of two features, saved by joblib or pickle; the estimator."""
    import joblib
    import numpy as np
    from sklearn.linear_model import LinearRegression

    rows = np.random.default_rng(1).normal(size=(50, 2))
    fitted = LinearRegression().fit(rows, rows @ np.array([2.0, -1.0]) + 3.0)
    if name.endswith(".joblib"):
        joblib.dump(fitted, folder / name)
    else:
        (folder / name).write_bytes(pickle.dumps(fitted))
    return fitted
