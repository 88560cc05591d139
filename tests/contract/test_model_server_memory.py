"""10,000 loads and unloads: the server's memory is back where it began. `make slow` runs it; it takes a minute."""

from __future__ import annotations

import contextlib
import json
import os
from pathlib import Path

import pytest
from containers_of_ours import Container, ask, booster, running

MODELS = 10


@pytest.mark.slow
def test_memory_is_back_within_5_percent_after_10_000_loads(tmp_path: Path) -> None:
    with running(tmp_path, SAGEMAKER_MULTI_MODEL="true") as server:
        server.wait()
        for number in range(MODELS):
            booster(server.model(f"m{number}"), float(number), trees=100, features=5 + number)
        before = _after_rounds(server, 100)  # what is imported and kept for good is there by then
        assert _after_rounds(server, 10_000) < before * 1.05


def _after_rounds(server: Container, rounds: int) -> int:
    """The server's resident size (bytes) after so many loads, calls and unloads."""
    with contextlib.closing(server.connect()) as connection:
        for number in range(rounds):
            name = f"m{number % MODELS}"
            body = json.dumps({"model_name": name, "url": f"/opt/ml/models/{name}/model"}).encode()
            assert ask(connection, "POST", "/models", body).status == 200
            row = b",".join([b"1"] * (5 + number % MODELS))
            assert ask(connection, "POST", f"/models/{name}/invoke", row, content_type="text/csv").status == 200
            assert ask(connection, "DELETE", f"/models/{name}").status == 200
    with open(f"/proc/{server.process.pid}/statm") as file:
        return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")
