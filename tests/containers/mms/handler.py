"""The handler that Multi Model Server runs, one process a target: it answers with the target's own id.

At most ROOM targets (10) are loaded at a time; the next load raises MemoryError. A target locks one of ROOM files; the
lock ends with its process.
"""

import fcntl
import os
from pathlib import Path
from typing import Any, TextIO

from sagemaker_inference.default_handler_service import DefaultHandlerService
from sagemaker_inference.default_inference_handler import DefaultInferenceHandler
from sagemaker_inference.transformer import Transformer

ROOM = int(os.environ.get("ROOM", "10"))
SLOTS = Path("/tmp/slots")


class Target:
    def __init__(self, folder: str) -> None:
        self.id = (Path(folder) / "id").read_text().strip()
        self.slot = take_slot()


def take_slot() -> TextIO:
    """Return an open, locked file. Raises MemoryError if all are locked."""
    SLOTS.mkdir(exist_ok=True)
    for number in range(ROOM):
        slot = (SLOTS / str(number)).open("w")
        try:
            fcntl.flock(slot, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError:
            slot.close()
        else:
            return slot
    raise MemoryError(f"all {ROOM} slots are taken")


class Handlers(DefaultInferenceHandler):  # type: ignore[misc]
    def default_model_fn(self, model_dir: str, context: Any = None) -> Target:
        return Target(model_dir)

    def default_input_fn(self, input_data: Any, content_type: str, context: Any = None) -> Any:
        return input_data

    def default_predict_fn(self, data: Any, model: Target, context: Any = None) -> dict[str, Any]:
        return {"id": model.id, "process": os.getpid()}


_service = DefaultHandlerService(Transformer(Handlers()))


def handle(data: Any, context: Any) -> Any:
    """Load the target (MMS passes no data first), then answer each batch.

    Only from such a function does MMS turn MemoryError into a 507.
    """
    if data is None:
        _service.initialize(context)
        return None
    return _service.handle(data, context)
