"""AWS's PyTorch images: aws/sagemaker-pytorch-inference-toolkit, on sagemaker_inference."""

from __future__ import annotations

from hostler.servers.images.profile import Mode, Profile, version

REPOSITORIES = ("pytorch-inference", "pytorch-inference-graviton", "pytorch-inference-arm64", "sagemaker-pytorch")
NEWEST = (2, 6, 0)


def profile(repository: str, tag: str) -> Profile:
    mode = Mode("inference", default_accept="application/json")
    return Profile(
        family="pytorch",
        version=version(tag) or NEWEST,
        framework="torch",
        single=mode,
        multi=mode,
        modules=("inference", "pytorch"),
    )
