"""The handler of a Multi Model Server image: SageMaker's inference toolkit runs each model's code/inference.py."""

from __future__ import annotations

import sys
from typing import Any

from sagemaker_inference.default_handler_service import DefaultHandlerService

_service = DefaultHandlerService()
_initialized = False


def handle(data: list[dict[str, Any]] | None, context: Any) -> Any:
    global _initialized
    if not _initialized:
        # As in AWS's image of scikit-learn: the toolkit itself sets a variable, which comes too late for this process.
        sys.path.insert(0, f"{context.system_properties['model_dir']}/code")
        _service.initialize(context)
        _initialized = True
    return _service.handle(data, context) if data else None
