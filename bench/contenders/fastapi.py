"""A server by hand: servers/fastapi_app.py under uvicorn, with one process and with two."""

from __future__ import annotations

from contenders.aws import invocation
from contenders.contender import Call, Contender, Service, free_port


class FastAPI(Contender):
    name = "FastAPI"
    settings = (
        "uvicorn, 1 process, uvloop, httptools, no access log; async handlers; an OrderedDict of boosters;"
        " inplace_predict without feature checks. Pipeline: aiohttp with keep-alive to three echo servers"
    )
    environment = "fastapi"
    processes = 1

    def start(self, service: Service) -> None:
        stages = [self.run_echo("mark") for _ in range(3 if service.kind == "pipeline" else 0)]
        self.port = free_port()
        self.run(
            self.python(), "-m", "uvicorn", "fastapi_app:app", "--port", str(self.port),
            "--workers", str(self.processes), "--loop", "uvloop", "--http", "httptools",
            "--no-access-log", "--backlog", "4096",
            **self.served(service), BENCH_STAGES=" ".join(f"http://127.0.0.1:{port}/" for port in stages),
        )  # fmt: skip
        self.wait(lambda: self.answers("/ping"))

    def call(self, target: int, row: str) -> Call:
        return invocation("targets", row.encode(), target)

    def echo(self, body: bytes) -> Call:
        return invocation("echo", body)

    def pipeline(self, body: bytes) -> Call:
        return invocation("pipeline", body)


class FastAPITwo(FastAPI):
    name = "FastAPI-2"
    settings = "the same with 2 processes, each with an LRU and the whole room of its own"
    processes = 2
    only_workloads = ("hot", "churn", "cold", "density")
