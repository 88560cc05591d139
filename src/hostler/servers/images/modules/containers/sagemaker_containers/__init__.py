"""What scripts import of sagemaker_containers, where it is not installed: aws/sagemaker-containers."""

from sagemaker_containers._env import training_only as training_env

__all__ = ["training_env"]
