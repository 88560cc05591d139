"""AWS's scikit-learn images: aws/sagemaker-scikit-learn-container, a branch for each version."""

from __future__ import annotations

from hostler.servers.images.profile import Mode, Profile, version_among

REPOSITORIES = ("sagemaker-scikit-learn",)
VERSIONS = ((0, 20, 0), (0, 23, 1), (1, 0, 1), (1, 2, 1), (1, 4, 2))
_MANY = (0, 23, 1)  # the first version that serves many models
# docker/*/final/Dockerfile.cpu
_VARIABLES = {
    "SAGEMAKER_SERVING_MODULE": "sagemaker_sklearn_container.serving:main",
    "SAGEMAKER_TRAINING_MODULE": "sagemaker_sklearn_container.training:main",
}
_OF_MANY = {
    "SM_MODEL_DIR": "/opt/ml/model",
    "SM_INPUT": "/opt/ml/input",
    "SM_INPUT_TRAINING_CONFIG_FILE": "/opt/ml/input/config/hyperparameters.json",
    "SM_INPUT_DATA_CONFIG_FILE": "/opt/ml/input/config/inputdataconfig.json",
    "SM_CHECKPOINT_CONFIG_FILE": "/opt/ml/input/config/checkpointconfig.json",
}


def profile(repository: str, tag: str) -> Profile:
    number = version_among(tag, VERSIONS)
    with_many = number >= _MANY
    return Profile(
        family="sklearn",
        version=number,
        framework="sklearn",
        single=Mode("containers", default_accept="application/json", transform_fn=number >= (1, 2, 1)),
        multi=Mode("inference", default_accept="application/json"),
        modules=("containers", "sklearn", "flask", *(("inference", "mms") if with_many else ())),
        variables={**_VARIABLES, **(_OF_MANY if with_many else {})},
    )
