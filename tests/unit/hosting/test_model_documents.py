"""What the documents say of models."""

from __future__ import annotations

import pytest

from hostler.hosting import model_documents
from hostler.store.records import Document

A, B, BARE = {"ContainerHostname": "a"}, {"ContainerHostname": "b"}, {"Image": "i"}
DIRECT = {"InferenceExecutionConfig": {"Mode": "Direct"}}


@pytest.mark.parametrize(
    ("model", "mode", "labels"),
    [
        ({"PrimaryContainer": A}, "Serial", ["primary"]),
        ({"Containers": [A]}, "Serial", ["primary"]),
        ({"Containers": [A, B]}, "Serial", ["a", "b"]),
        ({"Containers": [BARE, BARE]}, "Serial", ["container-1", "container-2"]),
        ({"Containers": [A, B], **DIRECT}, "Direct", ["a", "b"]),
        ({"Containers": [A], **DIRECT}, "Direct", ["a"]),
        ({"PrimaryContainer": A, **DIRECT}, "Direct", ["a"]),
    ],
)
def test_a_containers_label_is_the_name_that_requests_use(model: Document, mode: str, labels: list[str]) -> None:
    assert model_documents.mode(model) == mode
    assert [label for label, _ in model_documents.containers(model)] == labels


def test_a_variant_weighs_one_unless_it_says_otherwise() -> None:
    assert model_documents.weight({}) == 1.0
    assert model_documents.weight({"InitialVariantWeight": 0.0}) == 0.0
