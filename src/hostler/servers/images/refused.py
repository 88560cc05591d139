"""AWS's images that nothing here stands in for, by repository name, with advice."""

from __future__ import annotations

import re
from dataclasses import dataclass


@dataclass(frozen=True)
class Refused:
    """`advice`: what the image is, and what may be done instead; whole sentences."""

    advice: str


_ONNX = (
    "Export the model to ONNX: an archive with a model.onnx is served under the name pytorch-inference, or under any"
    " image name that nobody knows."
)
REFUSED = (
    (
        re.compile(r"(?:sagemaker-)?tritonserver"),
        "Triton Inference Server is not among hostler's servers, and a model repository is not read. Where its model is"
        " model.onnx or TorchScript (model.pt), put that at the top of an archive: it is served under the name"
        " pytorch-inference, or under any image name that nobody knows.",
    ),
    (
        re.compile(r"(?:sagemaker-)?mxnet(?:-inference|-serving)?(?:-eia)?"),
        f"Apache MXNet is retired, and not among hostler's servers. {_ONNX}",
    ),
    (
        re.compile(r"(?:sagemaker-tensorflow(?:-serving|-scriptmode)?|tensorflow-inference)(?:-eia|-graviton|-arm64)?"),
        "TensorFlow Serving is not among hostler's servers, and its scripts' handlers are not the toolkit's."
        f" {_ONNX} A script with model_fn and predict_fn is served there, too.",
    ),
)


def find(repository: str) -> Refused | None:
    return next((Refused(advice) for pattern, advice in REFUSED if pattern.fullmatch(repository)), None)
