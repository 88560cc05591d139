"""AWS's XGBoost images: aws/sagemaker-xgboost-container, a branch for each version, and the older built-in algorithm.

What they do without a script is in their algorithm_mode/serve.py and serve_utils.py (one model), handler_service.py and
mms_patch/mms_transformer.py (many).
"""

from __future__ import annotations

from dataclasses import dataclass

from hostler.servers.images.profile import Mode, Profile, version_among

REPOSITORIES = ("sagemaker-xgboost", "xgboost")
VERSIONS = (
    (0, 90, 1), (0, 90, 2), (1, 0, 1), (1, 2, 1), (1, 2, 2), (1, 3, 1), (1, 5, 1), (1, 7, 1), (3, 0, 5),
)  # fmt: skip
NEWEST = VERSIONS[-1]
BUILT_IN = (0, 72)  # the repository `xgboost`, tags `1` and `latest`


@dataclass(frozen=True)
class Algorithm:
    """What an image does where no script says otherwise."""

    answers_by_accept: bool  # one model: the answer follows Accept; before, it is one line of CSV
    selects: bool  # one model: SAGEMAKER_INFERENCE_OUTPUT selects what is answered
    absolute_error: bool  # and that of models of this objective
    ensembles: bool  # all files at the artifact's top are models that answer together
    ignores_columns: bool  # its library does not see columns past the model's; later ones refuse them
    saved_best_trees: bool  # its library takes `best_ntree_limit` from a saved model


def profile(repository: str, tag: str) -> Profile:
    number = BUILT_IN if repository == "xgboost" else version_among(tag, VERSIONS)
    return Profile(
        family="xgboost",
        version=number,
        framework="xgboost",
        single=Mode("containers", default_accept="text/csv", transform_fn=number >= (1, 0, 1)),
        multi=Mode("inference", default_accept="application/json"),
        modules=("containers", "inference", "xgboost", "mms", "flask"),
    )


def algorithm(profile: Profile) -> Algorithm:
    """Return what an image does without a script; for an image of another family, what the newest does."""
    found = profile.version if profile.family == "xgboost" else NEWEST
    return Algorithm(
        answers_by_accept=found >= (1, 2, 2),
        selects=found >= (1, 0, 1),
        absolute_error=found >= (1, 7, 1),
        ensembles=found >= (1, 2, 2),
        ignores_columns=found < (1, 2),
        saved_best_trees=(1, 5, 1) <= found < (2,),
    )
