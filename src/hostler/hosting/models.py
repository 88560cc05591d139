"""A model's document, read: its containers with the names that people know them by, and how they are invoked."""

from __future__ import annotations

from typing import Literal

from hostler.store.records import Document


def containers(model: Document) -> list[tuple[str, Document]]:
    """(label, ContainerDefinition) of each, in order: `primary` where there is one, else its ContainerHostname, or by
    its position container-1, container-2, ... (§2.1).
    """
    found = model.get("Containers") or [model["PrimaryContainer"]]
    if len(found) == 1:
        return [("primary", found[0])]
    return [(one.get("ContainerHostname", f"container-{number}"), one) for number, one in enumerate(found, 1)]


def mode(model: Document) -> Literal["Serial", "Direct"]:
    """How several containers are invoked; a container that is alone is never chosen by name."""
    direct = model.get("InferenceExecutionConfig", {}).get("Mode") == "Direct"
    return "Direct" if direct and len(model.get("Containers", ())) > 1 else "Serial"
