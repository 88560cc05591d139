"""MLServer with its XGBoost runtime, over the V2 protocol."""

from __future__ import annotations

import json
import shutil
from typing import ClassVar

from contenders.contender import (
    JSON,
    PEER_CONNECTIONS,
    SERVERS,
    Call,
    Client,
    Contender,
    Failed,
    Service,
    free_port,
    member,
)


class MLServer(Contender):
    name = "MLServer"
    settings = (
        "mlserver-xgboost; models in the server's process (parallel_workers 0, faster here than the default pool);"
        " access log and metrics off; V2 JSON. Its repository holds only what is loaded"
    )
    environment = "mlserver"
    unsupported: ClassVar = {
        "churn": "loads and unloads only by calls of its API",
        "pipeline": "cannot chain models but by code within one of them",
    }
    connections = PEER_CONNECTIONS
    on_demand = False
    most_targets = 51
    start_within = 120.0

    def start(self, service: Service) -> None:
        self.port = free_port()
        settings = {
            "host": "127.0.0.1", "http_port": self.port, "grpc_port": free_port(), "parallel_workers": 0,
            "debug": False, "metrics_endpoint": None, "load_models_at_startup": False, "use_structured_logging": False,
        }  # fmt: skip
        (self.workspace.folder / "settings.json").write_text(json.dumps(settings))
        self.run(self.python().with_name("mlserver"), "start", self.workspace.folder, PYTHONPATH=SERVERS)
        self.wait(lambda: self.answers("/v2/health/live"))
        if service.kind == "echo":
            self._add("echo", "mlserver_echo.Echo", {})
        for target in range(service.loaded):
            self.load(target)

    def load(self, target: int) -> None:
        folder = self.workspace.folder / f"m{target}"
        folder.mkdir()
        shutil.copyfile(self.workspace.models.file(target), folder / "model.ubj")
        self._add(f"m{target}", "mlserver_xgboost.XGBoostModel", {"uri": "./model.ubj"})

    def call(self, target: int, row: str) -> Call:
        data = [float(value) for value in row.split(",")]
        return self._infer(f"m{target}", {"name": "rows", "shape": [1, len(data)], "datatype": "FP32", "data": data})

    def echo(self, body: bytes) -> Call:
        return self._infer("echo", {"name": "body", "shape": [1], "datatype": "BYTES", "data": [body.decode()]})

    def prediction(self, answer: bytes) -> float:
        return float(str(member(answer, "outputs", 0, "data", 0)))

    def echoed(self, answer: bytes) -> bytes:
        return str(member(answer, "outputs", 0, "data", 0)).encode()

    def _infer(self, model: str, given: dict[str, object]) -> Call:
        return Call(f"/v2/models/{model}/infer", json.dumps({"inputs": [given]}).encode(), {"Content-Type": JSON})

    def _add(self, name: str, runtime: str, parameters: dict[str, str]) -> None:
        folder = self.workspace.folder / name
        folder.mkdir(exist_ok=True)
        model = {"name": name, "implementation": runtime, "parameters": parameters}
        (folder / "model-settings.json").write_text(json.dumps(model))
        status, body = Client(self.port).send(Call(f"/v2/repository/models/{name}/load", b""))
        if status != 200:
            raise Failed(f"{name} was not loaded: {status} {body[:150]!r}")
