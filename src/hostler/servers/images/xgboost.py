"""AWS's XGBoost images: aws/sagemaker-xgboost-container, a branch for each version."""

from __future__ import annotations

from hostler.servers.images.profile import Mode, Profile, version

REPOSITORIES = ("sagemaker-xgboost", "xgboost")
VERSIONS = (
    (0, 90, 1), (0, 90, 2), (1, 0, 1), (1, 2, 1), (1, 2, 2), (1, 3, 1), (1, 5, 1), (1, 7, 1), (3, 0, 5),
)  # fmt: skip
NEWEST = VERSIONS[-1]


def profile(repository: str, tag: str) -> Profile:
    found = version(tag)
    number = found if found in VERSIONS else NEWEST
    return Profile(
        family="xgboost",
        version=number,
        framework="xgboost",
        single=Mode(
            "containers", default_accept="text/csv", transform_fn=number >= (1, 0, 1), flask=3 if number >= (3,) else 1
        ),
        multi=Mode("inference", default_accept="text/csv"),
        modules=("containers", "inference", "xgboost"),
    )
