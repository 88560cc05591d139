"""AWS's PyTorch images: aws/sagemaker-pytorch-inference-toolkit, on sagemaker_inference.

Up to PyTorch 1.5 they run on Multi Model Server (its branch 1.x), then on TorchServe.
"""

from __future__ import annotations

from hostler.servers.images.profile import Mode, Profile, version

REPOSITORIES = ("pytorch-inference", "pytorch-inference-graviton", "pytorch-inference-arm64", "sagemaker-pytorch")
NEWEST = (2, 6, 0)
_TORCHSERVE = (1, 6)  # the first version on it
_VARIABLES = {  # pytorch/inference/docker/*/Dockerfile.cpu in aws/deep-learning-containers
    "SAGEMAKER_SERVING_MODULE": "sagemaker_pytorch_serving_container.serving:main",
    "DLC_CONTAINER_TYPE": "inference",
}


def profile(repository: str, tag: str) -> Profile:
    found = version(tag) or NEWEST
    mode = Mode("inference", default_accept="application/json")
    return Profile(
        family="pytorch",
        version=found,
        framework="torch",
        single=mode,
        multi=mode,
        modules=("inference", "pytorch", "torchserve" if found >= _TORCHSERVE else "mms"),
        server_version="0.12.0" if found >= _TORCHSERVE else "1.1.11",
        default_model=(".pt", ".pth"),
        variables=_VARIABLES,
    )
