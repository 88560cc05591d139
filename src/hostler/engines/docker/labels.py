"""The labels that SageMaker needs of an image: for several models, and for standing beside other containers. Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hostler.errors import EngineError

MULTI_MODEL = "com.amazonaws.sagemaker.capabilities.multi-models"
BIND_TO_PORT = "com.amazonaws.sagemaker.capabilities.accept-bind-to-port"


class LabelsMissing(EngineError):
    """An image lacks labels. The message is AWS's sentence, and what helps."""


def missing(labels: Mapping[str, str], *, multi_model: bool, alone: bool) -> tuple[str, ...]:
    """Return the names of the labels that a container's image lacks (§3, rule 8)."""
    needed = [MULTI_MODEL] if multi_model else []
    if not alone:
        needed.append(BIND_TO_PORT)
    return tuple(label for label in needed if labels.get(label, "").lower() != "true")


def sentence(image: str, lacking: tuple[str, ...]) -> str:
    """Return AWS's sentence for an image that lacks labels."""
    named = ", ".join(f"{label}=true" for label in lacking)
    return f"Your Ecr Image {image} does not contain required {named} Docker label(s)."


def check(image: str, labels: Mapping[str, str], *, multi_model: bool, alone: bool, strict: bool) -> str:
    """Return a warning of labels that a container's image lacks; empty for none. Raises LabelsMissing if `strict`."""
    lacking = missing(labels, multi_model=multi_model, alone=alone)
    if not lacking:
        return ""
    text = f"{sentence(image, lacking)} Its Dockerfile needs: {', '.join(f'LABEL {label}=true' for label in lacking)}"
    if strict:
        raise LabelsMissing(text)
    return f"AWS would refuse this model: {text}"
