"""BentoML, with our LRU in its service; its pipeline consists of services that depend on each other."""

from __future__ import annotations

import json

from contenders.contender import JSON, PEER_CONNECTIONS, SERVERS, Call, Contender, Service, free_port


class BentoML(Contender):
    name = "BentoML"
    settings = (
        "1 worker for each service, async API, access log, metrics and tracing off; JSON; the LRU is ours; connections"
        " between services are kept (runner_connection), as by default a part of the calls fails"
    )
    environment = "bentoml"
    connections = PEER_CONNECTIONS
    start_within = 120.0
    workers = 1

    def start(self, service: Service) -> None:
        self.port = free_port()
        self.run(
            self.python(), "-m", "bentoml", "serve", f"bentoml_app:{service.kind.title()}", "--host", "127.0.0.1",
            "--port", str(self.port), "--working-dir", SERVERS,
            **self.served(service), BENCH_WORKERS=str(self.workers), BENTOML_DO_NOT_TRACK="True",
            BENTOML_HOME=self.workspace.folder, TMPDIR=self.workspace.folder,
        )  # fmt: skip
        self.wait(lambda: self.answers("/readyz"))

    def call(self, target: int, row: str) -> Call:
        return Call("/predict", json.dumps({"model": str(target), "row": row}).encode(), {"Content-Type": JSON})

    def echo(self, body: bytes) -> Call:
        return Call("/echo", json.dumps({"body": body.decode()}).encode(), {"Content-Type": JSON})


class BentoMLTwo(BentoML):
    name = "BentoML-2"
    settings = "the same with 2 workers, each with an LRU and the whole room of its own"
    workers = 2
    only_workloads = ("hot", "churn")
