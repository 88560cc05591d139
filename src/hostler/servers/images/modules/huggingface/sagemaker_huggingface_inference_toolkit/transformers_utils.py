import importlib
import importlib.util
import os
from pathlib import Path
from typing import Any

from hostler.servers.frameworks import huggingface


def _is_gpu_available() -> bool:
    return importlib.util.find_spec("torch") is not None and importlib.import_module("torch").cuda.is_available()


def get_pipeline(task: str, device: int, model_dir: Path, **kwargs: Any) -> Any:
    """Return transformers' pipeline of a model's folder."""
    processor = "feature_extractor" if task in huggingface.EXTRACTED else "tokenizer"
    transformers = importlib.import_module("transformers")
    arguments = {"model": str(model_dir), processor: str(model_dir), "device": device, **kwargs}
    return transformers.pipeline(task=task, **arguments)


def infer_task_from_model_architecture(model_config_path: str, architecture_index: int = 0) -> str:
    """Return the task of a config.json, and set HF_TASK to it."""
    os.environ["HF_TASK"] = huggingface.task_of(Path(model_config_path).parent, {})
    return os.environ["HF_TASK"]
