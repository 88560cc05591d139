"""AWS's own service model (botocore's service-2.json) as the schema of the API that we serve.

The file is read without importing botocore's machinery, which costs a quarter of a second, and only the shapes that
the served operations reach are kept. Our deviations from the model stand in `patches.json`. This module knows nothing
of requests; `check.py` uses the shapes.
"""

from __future__ import annotations

import gzip
import json
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any


@dataclass(eq=False)
class Shape:
    """One shape of the model: the constraints of a value. The bounds are of length, value or size, by type."""

    name: str
    type: str  # structure, list, map, string, integer, float, boolean or timestamp
    minimum: float | None = None
    maximum: float | None = None
    enum: tuple[str, ...] = ()
    pattern: str = ""  # as messages show it
    matches: re.Pattern[str] | None = None  # the same, for matching a whole value
    required: tuple[str, ...] = ()
    members: dict[str, Shape] = field(default_factory=dict)  # of a structure, in the model's order
    key: Shape | None = None  # of a map
    element: Shape | None = None  # of a list; of a map, its values


@dataclass(frozen=True)
class Operation:
    name: str
    input: Shape
    output: Shape | None  # None: the answer has an empty body (§1.3)


@dataclass(frozen=True)
class Service:
    operations: Mapping[str, Operation]  # that we serve
    names: frozenset[str]  # every operation that AWS has


def load(service: str, served: Iterable[str]) -> Service:
    """Load the newest model of `service` (such as `sagemaker`). Raises KeyError for an operation it does not have."""
    model = _model(resources.files("botocore") / "data" / service)
    patches = json.loads((resources.files("hostler.aws") / "patches.json").read_text())
    reader = _Reader(model["shapes"], patches["java"], patches["also"])
    operations = {name: reader.operation(model["operations"][name]) for name in served}
    return Service(operations, frozenset(model["operations"]))


def _model(folder: Traversable) -> dict[str, Any]:
    newest = max((version for version in folder.iterdir() if version.is_dir()), key=lambda version: version.name)
    packed = newest / "service-2.json.gz"
    text = gzip.decompress(packed.read_bytes()) if packed.is_file() else (newest / "service-2.json").read_bytes()
    model: dict[str, Any] = json.loads(text)
    return model


class _Reader:
    """Reads shapes. `java`: pieces of Java's patterns -> Python's. `also`: shape -> pattern that we accept besides."""

    def __init__(self, shapes: Mapping[str, Any], java: Mapping[str, str], also: Mapping[str, str]) -> None:
        self._raw = shapes
        self._java = java
        self._also = also
        self._shapes: dict[str, Shape] = {}

    def operation(self, raw: Mapping[str, Any]) -> Operation:
        output = raw.get("output")
        return Operation(raw["name"], self.shape(raw["input"]), self.shape(output) if output else None)

    def shape(self, reference: Mapping[str, Any]) -> Shape:
        name = reference["shape"]
        if name in self._shapes:
            return self._shapes[name]
        raw = self._raw[name]
        shape = self._shapes[name] = Shape(  # before its members, which may refer to it
            name,
            {"long": "integer", "double": "float"}.get(raw["type"], raw["type"]),
            raw.get("min"),
            raw.get("max"),
            tuple(raw.get("enum", ())),
            required=tuple(raw.get("required", ())),
        )
        if "pattern" in raw:
            shape.pattern = "^" + raw["pattern"].removeprefix("^")  # the service shows this anchor (§1.3)
            shape.matches = self._compile("|".join(filter(None, (raw["pattern"], self._also.get(name)))))
        shape.members = {member: self.shape(target) for member, target in raw.get("members", {}).items()}
        if shape.type == "map":
            shape.key, shape.element = self.shape(raw["key"]), self.shape(raw["value"])
        elif shape.type == "list":
            shape.element = self.shape(raw["member"])
        return shape

    def _compile(self, pattern: str) -> re.Pattern[str]:
        """Compile a Java pattern: its classes such as \\s and \\d mean ASCII, unless it names Unicode's by \\p."""
        python = pattern
        for java, equivalent in self._java.items():
            python = python.replace(java, equivalent)
        return re.compile(python, re.ASCII if python == pattern else 0)
