import os

from hostler.servers.scripts import huggingface_encoders, huggingface_toolkit
from sagemaker_huggingface_inference_toolkit.transformers_utils import (
    _is_gpu_available,
    get_pipeline,
    infer_task_from_model_architecture,
)


class HuggingFaceHandlerService:
    """The functions that the image supplies, for a script to call; no script's server calls them here."""

    def get_device(self) -> int:
        return 0 if _is_gpu_available() else -1

    def load(self, model_dir: str, context: object = None) -> object:
        task = os.environ.get("HF_TASK") or infer_task_from_model_architecture(f"{model_dir}/config.json")
        return get_pipeline(task=task, device=self.get_device(), model_dir=model_dir)

    def preprocess(self, input_data: object, content_type: str, context: object = None) -> object:
        return huggingface_toolkit.input_fn(input_data, content_type)

    def predict(self, data: object, model: object, context: object = None) -> object:
        return huggingface_toolkit.predict_fn(data, model)

    def postprocess(self, prediction: object, accept: str, context: object = None) -> object:
        return huggingface_encoders.encode(prediction, accept)

    def transform_fn(
        self, model: object, input_data: object, content_type: str, accept: str, context: object = None
    ) -> object:
        return self.postprocess(self.predict(self.preprocess(input_data, content_type), model), accept)
