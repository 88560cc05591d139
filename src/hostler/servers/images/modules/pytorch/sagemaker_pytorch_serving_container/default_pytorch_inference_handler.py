from typing import Any

from sagemaker_inference import content_types, default_inference_handler

from hostler.servers.scripts import pytorch_defaults


class DefaultPytorchInferenceHandler(default_inference_handler.DefaultInferenceHandler):
    """The functions that the PyTorch images supply, for a handler of a script's own."""

    VALID_CONTENT_TYPES = (content_types.JSON, content_types.NPY)

    def default_model_fn(self, model_dir: str) -> Any:
        return pytorch_defaults.model_fn(model_dir)

    def default_input_fn(self, input_data: Any, content_type: str) -> Any:
        return pytorch_defaults.DEFAULTS.input(input_data, content_type)

    def default_predict_fn(self, data: Any, model: Any) -> Any:
        return pytorch_defaults.predict_fn(data, model)

    def default_output_fn(self, prediction: Any, accept: str) -> str | bytes:
        return pytorch_defaults.output_fn(prediction, accept)
