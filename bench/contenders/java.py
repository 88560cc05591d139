"""The common part of Multi Model Server and its descendant TorchServe: a Java front, a process for each model."""

from __future__ import annotations

import json
import zipfile
from pathlib import Path
from typing import Any, ClassVar

from contenders.contender import CSV, PEER_CONNECTIONS, SERVERS, Call, Client, Contender, Failed, Service, free_port

LOGGING = """<?xml version="1.0" encoding="UTF-8"?>
<Configuration status="off"><Loggers><Root level="off"/></Loggers></Configuration>
"""


class JavaServer(Contender):
    programs = ("java",)
    unsupported: ClassVar = {
        "churn": "loads and unloads only by calls of its API",
        "pipeline": "cannot chain containers",
    }
    connections = PEER_CONNECTIONS
    on_demand = False
    warm_up = 8.0  # until Java has compiled the hot code

    main_class: ClassVar[str]
    jars: ClassVar[str]  # below site-packages
    arguments: ClassVar[tuple[str, ...]] = ()
    properties: ClassVar[dict[str, str]] = {}

    def start(self, service: Service) -> None:
        folder = self.workspace.folder
        self.port, self._management = free_port(), free_port()
        packages = next((self.python().parent.parent / "lib").glob("python*/site-packages"))
        properties = {
            "inference_address": f"http://127.0.0.1:{self.port}",
            "management_address": f"http://127.0.0.1:{self._management}",
            "model_store": str(folder), "default_workers_per_model": "1", "job_queue_size": "1000",
            "max_request_size": "8000000", "max_response_size": "8000000", **self.properties,
        }  # fmt: skip
        (folder / "config.properties").write_text("".join(f"{name}={value}\n" for name, value in properties.items()))
        (folder / "log4j2.xml").write_text(LOGGING)
        self.run(
            "java", f"-Dmodel_server_home={packages}", f"-Dlog4j.configurationFile=file://{folder}/log4j2.xml",
            f"-Djava.io.tmpdir={folder}", "-cp", f"{packages / self.jars}/*", self.main_class,
            "--python", self.python(), "-f", folder / "config.properties", "-s", folder, *self.arguments,
            PYTHONPATH=packages, TEMP=folder, TMPDIR=folder,
        )  # fmt: skip
        self.wait(lambda: self.answers("/ping"))
        if service.kind == "echo":
            self._archive("echo", SERVERS / "java_echo.py", {})
            self._register("echo")
        for target in range(service.loaded):
            self.load(target)

    def load(self, target: int) -> None:
        self._archive(f"m{target}", SERVERS / "java_xgboost.py", {"xgboost-model": self.workspace.models.file(target)})
        self._register(f"m{target}")

    def call(self, target: int, row: str) -> Call:
        return Call(f"/predictions/m{target}", row.encode(), {"Content-Type": CSV})

    def echo(self, body: bytes) -> Call:
        return Call("/predictions/echo", body, {"Content-Type": "application/octet-stream"})

    def manifest(self, name: str) -> dict[str, Any]:
        """Return the manifest of a model archive whose handler is handler.py."""
        model = {"modelName": name, "modelVersion": "1.0", "handler": "handler.py:handle"}
        return {"runtime": "python", "model": model, "modelServerVersion": "1.0", "specificationVersion": "1.0",
                "implementationVersion": "1.0", "archiverVersion": "0.12.0", "createdOn": "2026"}  # fmt: skip

    def _archive(self, name: str, handler: Path, files: dict[str, Path]) -> None:
        with zipfile.ZipFile(self.workspace.folder / f"{name}.mar", "w") as archive:
            archive.writestr("MAR-INF/MANIFEST.json", json.dumps(self.manifest(name)))
            archive.write(handler, "handler.py")
            for inside, path in files.items():
                archive.write(path, inside)

    def _register(self, name: str) -> None:
        query = f"url={name}.mar&model_name={name}&initial_workers=1&synchronous=true&batch_size=1"
        status, body = Client(self._management).send(Call(f"/models?{query}", b""))
        if status != 200:
            raise Failed(f"{name} was not loaded: {status} {body[:150]!r}")
