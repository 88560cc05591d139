"""The functions that the PyTorch images supply: aws/sagemaker-pytorch-inference-toolkit,
default_pytorch_inference_handler.py.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import numpy as np
import torch

from hostler.servers.frameworks import artifact
from hostler.servers.frameworks.torch import module
from hostler.servers.scripts import inference_encoders
from hostler.servers.scripts.containers_encoders import UTF8_TYPES
from hostler.servers.scripts.loading import Defaults, Function


def model_fn(model_dir: str) -> torch.nn.Module:
    """Load model.pt, or the only file that TorchScript may be in. Raises Unloadable and MemoryError."""
    file = artifact.model_file(Path(model_dir), artifact.TORCH_FILES, artifact.TORCH_ENDINGS)
    return module(file).to(_device())


def of_decoder(decode: Function) -> Function:
    """Return an input_fn that makes tensors: of float32, but for NPY, whose arrays keep their types."""

    def input_fn(body: str | bytes, content_type: str) -> object:
        """Return a tensor. JSON that is no list stays as it is. Raises TypeError for an array of no numbers."""
        array = decode(body, content_type)
        if not isinstance(array, np.ndarray):
            return array
        if content_type in UTF8_TYPES and array.dtype.kind in "biuf":
            return torch.from_numpy(array.astype(np.float32)).to(_device())
        # torch needs it writable and in this machine's byte order.
        return torch.from_numpy(array.astype(array.dtype.newbyteorder("="), order="C")).to(_device())

    return input_fn


def predict_fn(data: Any, model: Any) -> object:
    with torch.no_grad():
        placed = model.to(_device())
        placed.eval()
        return placed(data.to(_device()))


def output_fn(prediction: Any, accept: str) -> str | bytes:
    """Return the body alone: its type is the whole Accept. Raises UnsupportedFormatError, TypeError, ValueError."""
    if type(prediction) is torch.Tensor:
        prediction = prediction.detach().cpu().numpy().tolist()
    return inference_encoders.encode_accepted(prediction, accept)[0]


def _decode(body: str | bytes, content_type: str) -> object:
    array = inference_encoders.decode(body, content_type)
    return array.item() if getattr(array, "ndim", None) == 0 and array.dtype == object else array


def _device() -> torch.device:
    return torch.device("cuda" if torch.cuda.is_available() else "cpu")


DEFAULTS = Defaults(of_decoder(_decode), predict_fn, output_fn, model=model_fn, method="")
