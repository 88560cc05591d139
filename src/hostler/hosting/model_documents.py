"""Reads models' documents: their containers and these' labels, how they are invoked, the weights of variants."""

from __future__ import annotations

from typing import Literal

from hostler.store.records import Document


def definitions(model: Document) -> list[Document]:
    """Return a model's ContainerDefinitions: Containers, or the PrimaryContainer alone."""
    return model.get("Containers") or [model["PrimaryContainer"]]


def containers(model: Document) -> list[tuple[str, Document]]:
    """Return (label, ContainerDefinition) of each container, in order (§2.1).

    The label of a single Serial container is `primary`; of any other its ContainerHostname, or by its position
    container-1, container-2, ...
    """
    defined = definitions(model)
    if len(defined) == 1 and mode(model) == "Serial":
        return [("primary", defined[0])]
    return [(each.get("ContainerHostname", f"container-{number}"), each) for number, each in enumerate(defined, 1)]


def is_multi_model(definition: Document) -> bool:
    """Whether a container holds many models, each invoked by its TargetModel."""
    return bool(definition.get("Mode") == "MultiModel")


def mode(model: Document) -> Literal["Serial", "Direct"]:
    """How the model's containers are invoked: one after the other, or each by its hostname."""
    return "Direct" if model.get("InferenceExecutionConfig", {}).get("Mode") == "Direct" else "Serial"


def weight(variant: Document) -> float:
    """Return a ProductionVariant's weight. Its share of the requests is its part of the sum of all weights."""
    return float(variant.get("InitialVariantWeight", 1.0))
