from typing import NoReturn

from sagemaker_inference.default_inference_handler import DefaultInferenceHandler


class Transformer:
    """With it a script makes a handler service of its own, which no script's server calls: it calls the functions."""

    def __init__(self, default_inference_handler: DefaultInferenceHandler | None = None) -> None:
        self._default_inference_handler = default_inference_handler or DefaultInferenceHandler()

    def transform(self, data: object, context: object) -> NoReturn:
        raise NotImplementedError("hostler calls a script's functions itself, and no Transformer")

    def validate_and_initialize(self, model_dir: str = "/opt/ml/model", context: object = None) -> NoReturn:
        raise NotImplementedError("hostler calls a script's functions itself, and no Transformer")
