"""AWS's own service models (botocore's service-2.json) as the schema of the APIs that we serve.

The files are read without importing botocore's machinery, which costs a quarter of a second, and only the shapes that
the served operations reach are kept. Our deviations from the models stand in `patches.json`. This module knows nothing
of requests; `check.py` and the protocols use the shapes.
"""

from __future__ import annotations

import gzip
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from importlib import resources
from importlib.resources.abc import Traversable
from typing import Any

import msgspec


@dataclass(eq=False)
class Shape:
    """One shape of the model: the constraints of a value. The bounds are of length, value or size, by type."""

    name: str
    type: str  # structure, list, map, string, integer, float, boolean, timestamp or blob
    bits: int = 32  # of an integer or a float
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
    wrapper: str = ""  # the element around the output in the query protocol


@dataclass(frozen=True)
class Service:
    operations: Mapping[str, Operation]  # that we serve
    names: frozenset[str]  # every operation that AWS has
    namespace: str = ""  # of the query protocol's XML
    query_codes: Mapping[str, str] = field(default_factory=dict)  # exception -> its code in the query protocol


def load(service: str, served: Iterable[str]) -> Service:
    """Load the newest model of `service` (such as `sagemaker`), without the operations that it does not have.

    An older botocore has fewer operations, members and values: a request with one of the others is refused by its name.
    """
    model = _model(service)
    patches = msgspec.json.decode((resources.files("hostler.aws") / "patches.json").read_bytes())
    reader = _Reader(model["shapes"], patches["java"], patches["also"])
    operations = {name: reader.operation(model["operations"][name]) for name in served if name in model["operations"]}
    codes = {
        name: shape["error"]["code"] for name, shape in model["shapes"].items() if "code" in shape.get("error", ())
    }
    return Service(operations, frozenset(model["operations"]), model["metadata"].get("xmlNamespace", ""), codes)


def has_path(service: str, method: str, path: str) -> bool:
    """Return whether an operation of a service that speaks REST has this method, and a path like this one."""
    for operation in _model(service)["operations"].values():
        http = operation["http"]
        template = http["requestUri"].partition("?")[0]
        pattern = _LABEL.sub(lambda label: ".+" if label[1] else "[^/]+", re.escape(template))
        if http["method"] == method and re.fullmatch(pattern, path):
            return True
    return False


def model_file(folder: Traversable) -> Traversable:
    """Return the newest model of a service's folder. Raises ValueError if it has none."""
    newest = max((version for version in folder.iterdir() if version.is_dir()), key=lambda version: version.name)
    packed = newest / "service-2.json.gz"
    return packed if packed.is_file() else newest / "service-2.json"


def _model(service: str) -> dict[str, Any]:
    text = model_file(resources.files("botocore") / "data" / service).read_bytes()
    model: dict[str, Any] = msgspec.json.decode(gzip.decompress(text) if text.startswith(b"\x1f\x8b") else text)
    return model


_LABEL = re.compile(r"\\\{[^}]*?(\\\+)?\\\}")  # of an escaped template; greedy ones, `{key+}`, have slashes in them
_WIDE = {"long": "integer", "double": "float"}
_NO_INPUT = Shape("", "structure")


class _Reader:
    """Reads shapes. `java`: pieces of Java's patterns -> Python's. `also`: shape -> pattern that we accept besides."""

    def __init__(self, shapes: Mapping[str, Any], java: Mapping[str, str], also: Mapping[str, str]) -> None:
        self._raw = shapes
        self._java = java
        self._also = also
        self._shapes: dict[str, Shape] = {}

    def operation(self, raw: Mapping[str, Any]) -> Operation:
        given, output = raw.get("input"), raw.get("output")
        return Operation(
            raw["name"],
            self.shape(given) if given else _NO_INPUT,
            self.shape(output) if output else None,
            (output or {}).get("resultWrapper", ""),
        )

    def shape(self, reference: Mapping[str, Any]) -> Shape:
        name = reference["shape"]
        if name in self._shapes:
            return self._shapes[name]
        raw = self._raw[name]
        shape = self._shapes[name] = Shape(  # before its members, which may refer to it
            name,
            _WIDE.get(raw["type"], raw["type"]),
            64 if raw["type"] in _WIDE else 32,
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
