"""The labels that SageMaker needs of an image."""

from __future__ import annotations

import pytest

from hostler.engines.docker import labels
from hostler.errors import EngineError

BOTH = {labels.MULTI_MODEL: "true", labels.BIND_TO_PORT: "true"}


@pytest.mark.parametrize(
    ("has", "multi_model", "alone", "lacking"),
    [
        ({}, False, True, ()),
        ({}, True, True, (labels.MULTI_MODEL,)),
        ({}, False, False, (labels.BIND_TO_PORT,)),
        ({}, True, False, (labels.MULTI_MODEL, labels.BIND_TO_PORT)),
        ({labels.MULTI_MODEL: "false"}, True, True, (labels.MULTI_MODEL,)),
        (BOTH, True, False, ()),
    ],
)
def test_several_models_and_several_containers_need_a_label_each(
    has: dict[str, str], multi_model: bool, alone: bool, lacking: tuple[str, ...]
):
    assert labels.missing(has, multi_model=multi_model, alone=alone) == lacking


def test_the_sentence_is_awss():
    assert labels.sentence("me/it:1", (labels.MULTI_MODEL,)) == (
        "Your Ecr Image me/it:1 does not contain required com.amazonaws.sagemaker.capabilities.multi-models=true Docker"
        " label(s)."
    )


def test_what_lacks_is_warned_of_with_the_line_that_helps_and_refused_if_that_is_set():
    line = f"Its Dockerfile needs: LABEL {labels.MULTI_MODEL}=true, LABEL {labels.BIND_TO_PORT}=true"
    warning = labels.check("it:1", {}, multi_model=True, alone=False, strict=False)
    assert warning.startswith("AWS would refuse this model: Your Ecr Image it:1 does not contain")
    assert warning.endswith(line)
    with pytest.raises(EngineError, match=r"^Your Ecr Image it:1 does not contain .*\. Its Dockerfile needs: "):
        labels.check("it:1", {}, multi_model=True, alone=False, strict=True)
    assert not labels.check("it:1", BOTH, multi_model=True, alone=False, strict=True)
