"""Targets, or an echo, by LitServe: `python litserve_app.py PORT`."""

from __future__ import annotations

import os
import sys
from typing import Any

import litserve
from lru import LoadedModels, predict


class Targets(litserve.LitAPI):
    def setup(self, device: str) -> None:
        self._models = LoadedModels()

    def predict(self, request: dict[str, str]) -> dict[str, Any]:
        return {"prediction": predict(self._models.get(request["model"]), request["row"])}


class Echo(litserve.LitAPI):
    def setup(self, device: str) -> None:
        pass

    def predict(self, request: dict[str, str]) -> dict[str, str]:
        return request


if __name__ == "__main__":
    api = Targets() if os.environ["BENCH_KIND"] == "targets" else Echo()
    server = litserve.LitServer(api, accelerator="cpu", workers_per_device=1, fast_queue=True)
    server.run(
        host="127.0.0.1", port=int(sys.argv[1]), num_api_servers=1, log_level="error", access_log=False,
        generate_client_file=False,
    )  # fmt: skip
