"""The handler, one process a model: a model is a file `weights`, and a prediction the product of these and a row.

A model holds as many MiB as its file `megabytes` says. Beyond MODELS processes, if that is set, there is no memory.
"""

import csv
import fcntl
import json
import os
from pathlib import Path
from typing import Any, TextIO

SLOTS = Path("/tmp/slots")


class ModelHandler:
    def __init__(self) -> None:
        self.weights: list[float] | None = None
        self.memory = bytearray()
        self.slot: TextIO | None = None

    def initialize(self, context: Any) -> None:
        folder = Path(context.system_properties["model_dir"])
        if "MODELS" in os.environ:
            self.slot = take_slot(int(os.environ["MODELS"]))
        if (size := folder / "megabytes").exists():
            self.memory = bytearray(b"x" * (int(size.read_text()) << 20))
        self.weights = [float(weight) for weight in (folder / "weights").read_text().split(",")]

    def handle(self, data: list[dict[str, Any]], context: Any) -> list[str]:
        return [self._answer(bytes(request["body"]).decode(), context) for request in data]

    def _answer(self, body: str, context: Any) -> str:
        assert self.weights is not None
        context.set_response_content_type(0, "application/json")
        rows = csv.reader(body.splitlines())
        return json.dumps([sum(w * float(x) for w, x in zip(self.weights, row, strict=True)) for row in rows])


def take_slot(number: int) -> TextIO:
    """Return an open file, locked until this process ends. Raises MemoryError if all are locked."""
    SLOTS.mkdir(exist_ok=True)
    for each in range(number):
        slot = (SLOTS / str(each)).open("w")
        try:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            slot.close()
        else:
            return slot
    raise MemoryError(f"{number} models are loaded")


_service = ModelHandler()


def handle(data: Any, context: Any) -> Any:
    """Load the model at the first call, for which there are no data yet; then answer each batch."""
    if _service.weights is None:
        _service.initialize(context)
    return _service.handle(data, context) if data else None
