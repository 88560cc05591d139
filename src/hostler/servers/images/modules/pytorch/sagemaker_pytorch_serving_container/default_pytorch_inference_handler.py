from pathlib import Path
from typing import Any

import torch
from sagemaker_inference import content_types, decoder, default_inference_handler, encoder, errors, utils

from hostler.servers.frameworks.artifact import TORCH_ENDINGS, TORCH_FILES, model_file


class DefaultPytorchInferenceHandler(default_inference_handler.DefaultInferenceHandler):
    """The functions that the PyTorch images supply, for a handler of a script's own."""

    VALID_CONTENT_TYPES = (content_types.JSON, content_types.NPY)

    def default_model_fn(self, model_dir: str) -> Any:
        return torch.jit.load(model_file(Path(model_dir), TORCH_FILES[:1], TORCH_ENDINGS), map_location="cpu")

    def default_input_fn(self, input_data: Any, content_type: str) -> Any:
        array = decoder.decode(input_data, content_type)
        return torch.FloatTensor(array) if content_type in content_types.UTF8_TYPES else torch.from_numpy(array)

    def default_predict_fn(self, data: Any, model: Any) -> Any:
        with torch.no_grad():
            return model.eval()(data)

    def default_output_fn(self, prediction: Any, accept: str) -> str | bytes:
        values = prediction.detach().cpu().tolist() if isinstance(prediction, torch.Tensor) else prediction
        for content_type in utils.parse_accept(accept):
            if content_type in encoder.SUPPORTED_CONTENT_TYPES:
                return encoder.encode(values, content_type)
        raise errors.UnsupportedFormatError(accept)
