"""The CPU time of an invocation in one of our model servers, by kind of model and width of turn.

    python bench/servers_alone.py [--kinds xgboost,onnx] [--turns 1,4,16,64] [--repeat 30]

A turn is a number of requests, each on a connection of its own, that arrive in one turn of the loop; with `targets`
they are spread over ten models. Sockets are left out: bytes enter at the connection and leave at its transport, so this
measures parsing, the target's lookup, the body, the prediction and the answer. The figure is the least of many repeats,
in µs for each request: other programs can only add to it. Needs the frameworks (`make test` installs them).
"""

from __future__ import annotations

import asyncio
import os
import pickle
import tempfile
import time
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

os.environ.setdefault("OMP_NUM_THREADS", "1")

import numpy as np

import arguments
from hostler.servers import environment
from hostler.servers.frameworks import registry
from hostler.servers.frameworks.predictor import Predictor
from hostler.servers.http_api import ContainerApi
from hostler.servers.loop import new_loop
from hostler.servers.model_registry import LoadedModel, ModelRegistry
from hostler.servers.runners.inline import InlineLoader, InlineRunner
from hostler.wire.http_reader import ConnectionLimits
from hostler.wire.http_server import Server, _Connection, plain_refusal

MODELS = 10
WIDTH = 6
ROW = b"0.1,0.2,0.3,0.4,0.5,0.6"
HEAD = (
    b"POST /models/%s/invoke HTTP/1.1\r\nHost: container\r\nContent-Type: text/csv\r\nAccept: */*\r\n"
    b"X-Amzn-SageMaker-Target-Model: %s.tar.gz\r\nContent-Length: %d\r\n\r\n%s"
)


def data() -> tuple[Any, Any]:
    random = np.random.default_rng(1)
    rows = random.random((400, WIDTH)).astype(np.float32)
    return rows, rows @ random.random(WIDTH) + random.normal(0, 1, 400)


def xgboost(folder: Path) -> None:
    import xgboost

    rows, labels = data()
    parameters = {"max_depth": 5, "eta": 0.1, "max_bin": 16, "min_child_weight": 0, "nthread": 1}
    xgboost.train(parameters, xgboost.DMatrix(rows, label=labels), 100).save_model(folder / "model.ubj")
    (folder / "model.ubj").rename(folder / "xgboost-model")


def _pickled(folder: Path, estimator: Any, classes: bool = False) -> None:
    rows, labels = data()
    (folder / "model.pkl").write_bytes(pickle.dumps(estimator.fit(rows, labels > labels.mean() if classes else labels)))


def linear(folder: Path) -> None:
    from sklearn.linear_model import LinearRegression

    _pickled(folder, LinearRegression())


def pipeline(folder: Path) -> None:
    from sklearn.linear_model import LogisticRegression
    from sklearn.pipeline import make_pipeline
    from sklearn.preprocessing import StandardScaler

    _pickled(folder, make_pipeline(StandardScaler(), LogisticRegression()), classes=True)


def forest(folder: Path) -> None:
    from sklearn.ensemble import RandomForestRegressor

    _pickled(folder, RandomForestRegressor(20, max_depth=5, random_state=1))


def onnx(folder: Path) -> None:
    from onnx import TensorProto, helper, numpy_helper, save

    random = np.random.default_rng(1)
    weights = {"w1": random.random((WIDTH, 32), np.float32), "w2": random.random((32, 1), np.float32)}
    nodes = [("MatMul", ["x", "w1"], ["a"]), ("Relu", ["a"], ["b"]), ("MatMul", ["b", "w2"], ["y"])]
    graph = helper.make_graph(
        [helper.make_node(*node) for node in nodes],
        "graph",
        [helper.make_tensor_value_info("x", TensorProto.FLOAT, ["rows", WIDTH])],
        [helper.make_tensor_value_info("y", TensorProto.FLOAT, ["rows", 1])],
        [numpy_helper.from_array(weight, name) for name, weight in weights.items()],
    )
    save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 17)], ir_version=8), folder / "model.onnx")


def torch(folder: Path) -> None:
    import torch
    from torch import nn

    module = nn.Sequential(nn.Linear(WIDTH, 32), nn.ReLU(), nn.Linear(32, 1))
    torch.jit.save(torch.jit.trace(module, torch.zeros(1, WIDTH)), folder / "model.pt")


KINDS: dict[str, tuple[Callable[[Path], None], int]] = {  # kind -> (maker of a model, number of models)
    "xgboost": (xgboost, 1),
    "xgboost targets": (xgboost, MODELS),
    "sklearn linear": (linear, 1),
    "sklearn pipeline": (pipeline, 1),
    "sklearn forest": (forest, 1),
    "onnx": (onnx, 1),
    "torch": (torch, 1),
}


class RecordingTransport(asyncio.Transport):
    """A connection's transport, which records the answers."""

    def __init__(self) -> None:
        super().__init__()
        self.written: list[bytes] = []

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.written.append(bytes(data))

    def is_closing(self) -> bool:
        return False


async def release(predictor: Predictor, size: int) -> None:
    """No model is unloaded here."""


async def measured(kind: str, turns: list[int], repeat: int, requests: int) -> list[float]:
    make, models = KINDS[kind]
    settings = environment.read({"SAGEMAKER_MULTI_MODEL": "true"})
    registry_of_models = ModelRegistry(settings, InlineLoader(settings))
    long_calls = ThreadPoolExecutor(1)
    with tempfile.TemporaryDirectory() as folder:
        make(Path(folder))
        for number in range(models):
            predictor = registry.load(Path(folder), kind.partition(" ")[0], settings)
            loaded = LoadedModel("", InlineRunner(predictor, 0, settings, long_calls, release))
            registry_of_models.models[str(number)] = loaded
    server = Server(ContainerApi(settings, registry_of_models).handle, ConnectionLimits(), plain_refusal)
    transports = [RecordingTransport() for _ in range(max(turns))]
    connections = [_Connection(server) for _ in transports]
    for transport, connection in zip(transports, connections, strict=True):
        connection.connection_made(transport)
    requests_sent = [
        HEAD % (b"%d" % (number % models), b"%d" % (number % models), len(ROW), ROW) for number in range(max(turns))
    ]
    figures = []
    for turn in turns:
        least = float("inf")
        for _ in range(repeat):
            begun = time.process_time_ns()
            for _ in range(max(1, requests // turn)):
                for number in range(turn):
                    connections[number].data_received(requests_sent[number])
                while not transports[turn - 1].written:  # noqa: ASYNC110 - a turn of the loop is measured
                    await asyncio.sleep(0)
                for number in range(turn):
                    assert transports[number].written[0].startswith(b"HTTP/1.1 200 ")
                    transports[number].written.clear()
            spent = time.process_time_ns() - begun
            least = min(least, spent / (max(1, requests // turn) * turn) / 1000)
        figures.append(least)
    server._sweeper.cancel()  # type: ignore[union-attr]
    return figures


def main() -> None:
    parser = arguments.parser(__doc__)
    names = {kind: kind for kind in KINDS}
    parser.add_argument("--kinds", type=arguments.subset(names), default=",".join(KINDS), help="names")
    parser.add_argument(
        "--turns", type=arguments.positive_list, default="1,4,16,64", help="requests that arrive at once"
    )
    parser.add_argument("--repeat", type=arguments.positive, default=30, help="the least time counts")
    parser.add_argument("--requests", type=arguments.positive, default=256, help="of one repeat")
    options = parser.parse_args()
    turns = options.turns
    print(f"{'µs a request':20}" + "".join(f"{turn:>8}" for turn in turns))
    for kind in options.kinds:
        with asyncio.Runner(loop_factory=new_loop) as runner:
            figures = runner.run(measured(kind, turns, options.repeat, options.requests))
        print(f"{kind:20}" + "".join(f"{value:8.1f}" for value in figures), flush=True)


if __name__ == "__main__":
    main()
