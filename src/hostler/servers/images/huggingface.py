"""AWS's Hugging Face images: aws/sagemaker-huggingface-inference-toolkit, on sagemaker_inference."""

from __future__ import annotations

from hostler.servers.images.profile import Mode, Profile, version

REPOSITORIES = ("huggingface-pytorch-inference", "huggingface-tensorflow-inference")
NEWEST = (2, 6, 0)  # of PyTorch


def profile(repository: str, tag: str) -> Profile:
    mode = Mode("huggingface", default_accept="application/json")
    return Profile(
        family="huggingface",
        version=version(tag) or NEWEST,
        framework="torch" if repository == "huggingface-pytorch-inference" else "auto",
        single=mode,
        multi=mode,
        modules=("inference", "huggingface", "mms"),
    )
