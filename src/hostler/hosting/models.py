"""What the documents say of models: their containers and what these are called, how they are invoked, their weights."""

from __future__ import annotations

from typing import Literal

from hostler.store.records import Document


def definitions(model: Document) -> list[Document]:
    """A model's ContainerDefinitions, in whichever way they were given."""
    return model.get("Containers") or [model["PrimaryContainer"]]


def containers(model: Document) -> list[tuple[str, Document]]:
    """(label, ContainerDefinition) of each, in order: `primary` where there is one, else its ContainerHostname, or by
    its position container-1, container-2, ... (§2.1). One that is called by its name has that, also alone.
    """
    found = definitions(model)
    if len(found) == 1 and mode(model) == "Serial":
        return [("primary", found[0])]
    return [(one.get("ContainerHostname", f"container-{number}"), one) for number, one in enumerate(found, 1)]


def is_multi_model(definition: Document) -> bool:
    """Whether a container holds many models, each of which is called by its TargetModel."""
    return bool(definition.get("Mode") == "MultiModel")


def mode(model: Document) -> Literal["Serial", "Direct"]:
    """How its containers are invoked."""
    return "Direct" if model.get("InferenceExecutionConfig", {}).get("Mode") == "Direct" else "Serial"


def weight(variant: Document) -> float:
    """A ProductionVariant's weight: its share is this part of the sum."""
    return float(variant.get("InitialVariantWeight", 1.0))
