"""The handler, one process a model: a model is a file `weights`, numbers, and a prediction their product with a row.

It holds as many MiB as the file `megabytes` says, so that a test can say how much memory a model takes.
"""

import csv
from pathlib import Path
from typing import Any


class ModelHandler:
    def __init__(self) -> None:
        self.weights: list[float] | None = None
        self.memory = b""

    def initialize(self, context: Any) -> None:
        folder = Path(context.system_properties["model_dir"])
        self.weights = [float(weight) for weight in (folder / "weights").read_text().split(",")]
        size = folder / "megabytes"
        self.memory = bytearray(b"x" * (int(size.read_text()) << 20)) if size.exists() else b""

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[str]:
        return [self._answer(bytes(request["body"]).decode(), context) for request in data]

    def _answer(self, body: str, context: Any) -> str:
        assert self.weights is not None
        context.set_response_content_type(0, "text/csv")
        rows = csv.reader(body.splitlines())
        return "\n".join(f"{sum(w * float(x) for w, x in zip(self.weights, row, strict=True)):g}" for row in rows)


_service = ModelHandler()


def handle(data: Any, context: Any) -> Any:
    if _service.weights is None:
        _service.initialize(context)
    return _service.handle(data, context) if data else None
