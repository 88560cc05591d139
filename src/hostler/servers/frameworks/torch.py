"""TorchScript models, called as the default handlers of AWS's PyTorch image call them.

A request is one tensor: JSON lists and CSV as float32 (one line of CSV is one-dimensional), NPY with its own type. The
answer is JSON, CSV or NPY, by Accept. Anything else, such as a model that is no TorchScript, needs a script.
"""

from __future__ import annotations

from collections.abc import Sequence
from pathlib import Path

import torch

from hostler.servers import error_text
from hostler.servers.codecs import arrays, media, request_rows
from hostler.servers.environment import Environment
from hostler.servers.frameworks import artifact
from hostler.servers.frameworks.predictor import Call, Rejected, Reply, Unloadable


def load(folder: Path, environment: Environment) -> TorchScript:
    """Load model.pt, model.pth, or the only such file. Raises Unloadable and MemoryError."""
    torch.set_num_threads(1)  # more threads do not speed up one row
    file = artifact.model_file(folder, artifact.TORCH_FILES, artifact.TORCH_ENDINGS)
    return TorchScript(module(file), environment)


def module(file: Path) -> torch.nn.Module:
    """Load a file of TorchScript. Raises Unloadable and MemoryError."""
    artifact.check_torchscript(file)
    try:
        loaded: torch.nn.Module = torch.jit.load(str(file), map_location="cpu")
        return loaded
    except MemoryError:
        raise
    except Exception as error:
        raise Unloadable(f"{file.name} does not load: {str(error) or type(error).__name__}") from None


def tensor(body: bytes, content_type: str) -> object:
    """Return a request's tensor, typed as by AWS's default input_fn; a value that is no array of numbers unchanged."""
    import numpy as np

    array = arrays.decoded(body, content_type)
    if not isinstance(array, np.ndarray) or array.dtype.kind not in "biuf":
        return array
    if content_type != media.NPY:
        array = request_rows.float32(array)
    # torch needs it writable and in this machine's byte order.
    return torch.from_numpy(np.array(array, dtype=array.dtype.newbyteorder("="), order="C"))


class TorchScript:
    """A TorchScript module. Calls are not batched: its prediction for a row may depend on other rows."""

    max_batch = 1

    def __init__(self, module: torch.nn.Module, environment: Environment) -> None:
        self._module = module.eval()  # once: it takes as long as a call of a small model
        self._default = environment.default_accept or media.JSON

    def predict(self, calls: Sequence[Call]) -> list[Reply]:
        return [self._reply(call) for call in calls]

    def _reply(self, call: Call) -> Reply:
        content_type = media.type_of(call.content_type) or media.JSON
        data = tensor(call.body, content_type)
        if not isinstance(data, torch.Tensor):
            raise Rejected(400, "The JSON body is no list of numbers, and nothing else becomes a tensor.")
        try:
            with torch.no_grad():
                prediction = self._module(data)
        except (
            RuntimeError
        ) as error:  # the only type that TorchScript raises; a fault of the input, for the model is the same for all
            if error_text.out_of_memory(error):
                raise
            message = str(error).strip()
            described = f"{str(data.dtype).removeprefix('torch.')} of shape {tuple(data.shape)}"
            reason = message.rpartition("\n")[2].removeprefix(
                "RuntimeError: "
            )  # the last line of TorchScript's traceback
            raise Rejected(400, f"The model does not take this input, {described}: {reason}\n{message}") from None
        body, answer_type = arrays.encoded(prediction, call.accept, self._default)
        return Reply(200, body, answer_type)
