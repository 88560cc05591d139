"""A script as sagemaker_containers calls it, on the scikit-learn and XGBoost images, for one model."""

from __future__ import annotations

from pathlib import Path

from hostler.servers.environment import Environment
from hostler.servers.scripts import inference_toolkit


def load(folder: Path, environment: Environment) -> inference_toolkit.Script:
    """Import the script and load its model. Raises Unloadable, and whatever the script raises."""
    return inference_toolkit.load(folder, environment)
