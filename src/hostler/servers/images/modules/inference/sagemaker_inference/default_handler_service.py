from typing import Any

from sagemaker_inference.transformer import Transformer


class DefaultHandlerService:
    def __init__(self, transformer: Transformer | None = None) -> None:
        self._service = transformer or Transformer()

    def handle(self, data: object, context: object) -> object:
        return self._service.transform(data, context)

    def initialize(self, context: Any) -> None:
        self._service.validate_and_initialize(context.system_properties.get("model_dir"), context)
