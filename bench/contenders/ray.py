"""Ray Serve: model multiplexing, and a pipeline of deployments."""

from __future__ import annotations

from contenders.contender import CSV, PEER_CONNECTIONS, SERVERS, Call, Contender, Service, free_port


class RayServe(Contender):
    name = "Ray"
    settings = (
        "Ray Serve; 1 proxy, 1 replica for each deployment, @serve.multiplexed, RAY_SERVE_THROUGHPUT_OPTIMIZED,"
        " dashboard, usage statistics and access log off; held by a signal while it is not its turn, because its"
        " daemons never rest, then 1 s under load"
    )
    environment = "ray"
    connections = PEER_CONNECTIONS
    pause_between_turns = True
    rewarm = 1.0
    start_within = 180.0

    def start(self, service: Service) -> None:
        self.port = free_port()
        self.run(
            self.python(), SERVERS / "ray_app.py", str(self.port), self.workspace.folder / "ray",
            **self.served(service), RAY_USAGE_STATS_ENABLED="0", RAY_SERVE_THROUGHPUT_OPTIMIZED="1",
        )  # fmt: skip
        self.wait(lambda: self.answers("/-/healthz"))

    def call(self, target: int, row: str) -> Call:
        return Call("/", row.encode(), {"Content-Type": CSV, "serve_multiplexed_model_id": str(target)})

    def echo(self, body: bytes) -> Call:
        return Call("/", body, {"Content-Type": "text/plain"})
