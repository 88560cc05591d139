"""AWS's scikit-learn images: aws/sagemaker-scikit-learn-container, a branch for each version."""

from __future__ import annotations

from hostler.servers.images.profile import Mode, Profile, version

REPOSITORIES = ("sagemaker-scikit-learn",)
VERSIONS = ((0, 20, 0), (0, 23, 1), (1, 0, 1), (1, 2, 1), (1, 4, 2))
NEWEST = VERSIONS[-1]


def profile(repository: str, tag: str) -> Profile:
    found = version(tag)
    number = found if found in VERSIONS else NEWEST
    return Profile(
        family="sklearn",
        version=number,
        framework="sklearn",
        single=Mode("containers", default_accept="application/json", transform_fn=number >= (1, 2, 1)),
        multi=Mode("inference", default_accept="application/json"),
        modules=("containers", "inference", "sklearn"),
    )
