"""The profile of an image, by its repository and tag; and that of a framework, for an image that nobody knows."""

from __future__ import annotations

from collections.abc import Callable

from hostler.servers.images import huggingface, pytorch, refused, sklearn, xgboost
from hostler.servers.images.profile import Mode, Profile
from hostler.servers.images.refused import Refused

_FAMILIES = (xgboost, sklearn, pytorch, huggingface)
PROFILES: dict[str, Callable[[str, str], Profile]] = {
    repository: family.profile for family in _FAMILIES for repository in family.REPOSITORIES
}
_OF_FRAMEWORK = {"xgboost": "sagemaker-xgboost", "sklearn": "sagemaker-scikit-learn"}
_OF_FRAMEWORK["huggingface"] = "huggingface-pytorch-inference"
_OF_FRAMEWORK |= dict.fromkeys(("torch", "onnx"), "pytorch-inference")
_TOOLKIT = Mode("inference", default_accept="application/json")
_SCRIPT = Profile("script", (), "auto", single=_TOOLKIT, multi=_TOOLKIT, modules=("inference",))


def find(repository: str, tag: str) -> Profile | Refused | None:
    """Return the profile of an image of AWS; Refused if nothing stands in for it; None for an unknown repository.

    A tag without a known version, such as `latest`, or a digest's empty one, is the newest version's.
    """
    if repository in PROFILES:
        return PROFILES[repository](repository, tag)
    return refused.find(repository)


def of_framework(framework: str) -> Profile:
    """Return the profile that an unknown image has: that of the artifact's framework, in its newest version.

    A script's is the plain toolkit's, whose defaults follow its model.
    """
    if framework not in _OF_FRAMEWORK:
        return _SCRIPT
    repository = _OF_FRAMEWORK[framework]
    return PROFILES[repository](repository, "")
