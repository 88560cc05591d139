"""XGBoost's old binary form of a model, as versions before 3.1 save it, and its conversion into UBJSON.

The form is that of dmlc/xgboost up to its release 3.0, the same since 0.4 (little-endian; sizes in bytes):

| part | content |
|---|---|
| header | `binf`, since 1.0 |
| learner | 136: base_score, num_feature, num_class, are there attributes, are there metrics, version, num_target |
| names | of the objective, and of the booster: gbtree, dart or gblinear |
| gbtree, dart | 160: num_trees, num_parallel_tree; the trees; the output to which each adds; of dart their weights |
| a tree | 148: num_nodes, num_deleted, num_feature, size_leaf_vector; the nodes, 20 each; their statistics, 16 each |
| gblinear | 136 that say nothing; the weights |
| attributes | pairs of texts; since 1.0 `objective` has the objective's configuration as JSON |

A text, a list of pairs or of weights begins with its length in 8 bytes. Sources: src/learner.cc, src/gbm/*.cc and
include/xgboost/tree_model.h of the releases 0.90, 1.0.2 and 1.7.6.

Every size is checked against the file, and every index against what it counts: the library trusts both, so a damaged
model would end the process, or never return.
"""

from __future__ import annotations

import functools
import json
import math
import struct
from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import numpy as np

HEADER = b"binf"
_LEARNER = struct.Struct("<fIiiiIIi104x")
_FOREST = struct.Struct("<ii152x")
_TREE = struct.Struct("<4xii4xIi124x")
_LINEAR_SIZE = 136
_COUNT = struct.Struct("<Q")
_NODE = np.dtype([("parent", "<u4"), ("left", "<i4"), ("right", "<i4"), ("split", "<u4"), ("value", "<f4")])
_STATISTICS = np.dtype([("loss", "<f4"), ("hessian", "<f4"), ("weight", "<f4"), ("leaves", "<i4")])
_FLAG = 0x8000_0000  # beside a parent: it is the left child; beside a split: missing values go left
_DELETED = 0xFFFF_FFFF
_WRITTEN_AS = (3, 0, 5)  # the last version that had both forms
_MANY = 2**31 - 1
_EMPTY_OUTPUTS = 10_000  # of a model without trees, which nothing else bounds

# What the objectives need to be made again, of models before 1.0, which have no configuration. None of it changes a
# prediction.
_PARAMETERS: dict[str, tuple[str, Mapping[str, str]]] = {
    "multi:softmax": ("softmax_multiclass_param", {}),
    "multi:softprob": ("softmax_multiclass_param", {}),
    "count:poisson": ("poisson_regression_param", {"max_delta_step": "0.7"}),
    "reg:tweedie": ("tweedie_regression_param", {"tweedie_variance_power": "1.5"}),
}
_RAW = "binary:logitraw"
_LOGISTIC = ("reg:logistic", "binary:logistic")
_EXPONENTIAL = ("count:poisson", "reg:gamma", "reg:tweedie", "survival:cox")


class Damaged(ValueError):
    """The file is cut off, or no such model; the text says where."""


def looks_binary(data: bytes | bytearray) -> bool:
    """Return whether data begins as a model in the old form does: a header, or a plausible learner and two names."""
    if data.startswith(HEADER):
        return True
    try:
        reader = _Reader(data)
        reader.unpack(_LEARNER, "learner")
        return ":" in reader.name("objective") and reader.name("booster") in _BOOSTERS
    except Damaged:
        return False


def convert(data: bytes | bytearray, parallel: int = 0) -> bytearray:
    """Convert a model in the old form into the UBJSON that every newer version loads. Raises Damaged.

    `parallel`: the trees a round and output, of a version that did not write it into the model; 0: it did.
    """
    reader = _Reader(data, len(HEADER) if data.startswith(HEADER) else 0)
    base, features, classes, has_attributes, _, major, minor, targets = reader.unpack(_LEARNER, "learner")
    objective, booster = reader.name("objective"), reader.name("booster")
    groups = max(1, classes, targets)
    if classes < 0 or targets < 0 or groups > _MANY or features > _MANY or booster not in _BOOSTERS:
        raise Damaged("its learner is no model's")
    model = _BOOSTERS[booster](reader, features, groups, parallel)
    attributes = reader.pairs() if has_attributes else {}
    configuration = _configuration(attributes.pop(b"objective", b""), objective, groups)
    attributes = {
        name: text for name, text in attributes.items() if name != b"metrics" and name[:12] != b"SAVED_PARAM_"
    }
    if major < 1:
        attributes.pop(b"count_poisson_max_delta_step", None)
        base = _probability(base, str(configuration["name"]))
    elif (major, minor) < (1, 3) and configuration["name"] == _RAW:
        base = raw_margin(base)
    learner = {
        "attributes": attributes,
        "feature_names": [],
        "feature_types": [],
        "gradient_booster": model,
        "learner_model_param": {
            "base_score": f"{base:.9g}",
            "num_class": str(classes),
            "num_feature": str(features),
            "num_target": str(max(1, targets)),
        },
        "objective": configuration,
    }
    parts: list[bytes] = []
    _put(parts, {"learner": learner, "version": [*_WRITTEN_AS]})
    return bytearray().join(parts)


class _Reader:
    """Reads the parts of a file in order. Each method raises Damaged instead of reading past the end."""

    def __init__(self, data: bytes | bytearray, at: int = 0) -> None:
        self._data = data
        self._at = at

    def skip(self, size: int, part: str) -> int:
        """Skip `size` bytes; return where they begin."""
        at = self._at
        if size > len(self._data) - at:
            raise Damaged(f"it ends within its {part}")
        self._at = at + size
        return at

    def unpack(self, form: struct.Struct, part: str) -> tuple[Any, ...]:
        return form.unpack_from(self._data, self.skip(form.size, part))

    def array(self, dtype: np.dtype | str, count: int, part: str) -> np.ndarray:
        dtype = np.dtype(dtype)
        at = self.skip(dtype.itemsize * count, part)
        return np.frombuffer(self._data, dtype, count, at) if count else np.empty(0, dtype)

    def count(self, part: str) -> int:
        number: int = self.unpack(_COUNT, part)[0]
        return number

    def text(self, part: str) -> bytes:
        size = self.count(part)
        at = self.skip(size, part)
        return bytes(self._data[at : at + size])

    def name(self, part: str) -> str:
        name = self.text(part)
        if len(name) > 100 or not name.isascii():
            raise Damaged(f"it has no {part}")
        return name.decode()

    def pairs(self) -> dict[bytes, bytes]:
        return {self.text("attributes"): self.text("attributes") for _ in range(self.count("attributes"))}


# --- boosters -------------------------------------------------------------------------------------------------------


def _gbtree(reader: _Reader, features: int, groups: int, parallel: int) -> dict[str, object]:
    """Read a forest. Its nodes are checked and turned for all trees at once."""
    count, written = reader.unpack(_FOREST, "booster")
    parallel = parallel or written
    if count < 0:
        raise Damaged("its booster is no forest")
    heads: list[tuple[int, int]] = []
    nodes: list[np.ndarray] = []
    statistics: list[np.ndarray] = []
    for number in range(count):
        part = f"tree {number}"
        size, deleted, _, vector = reader.unpack(_TREE, part)
        if size < 1 or vector not in (0, 1):  # one output a leaf; releases from 2.0 on count it
            raise Damaged(f"its {part} is no tree")
        heads.append((size, deleted))
        nodes.append(reader.array(_NODE, size, part))
        statistics.append(reader.array(_STATISTICS, size, part))
    outputs = reader.array("<i4", count, "trees' outputs")
    if count and not 0 <= outputs.min() <= outputs.max() < groups:
        raise Damaged("a tree adds to an output that the model has not")
    if groups != (int(outputs.max()) + 1 if count else min(groups, _EMPTY_OUTPUTS)):
        raise Damaged("it has an output to which no tree adds")
    parallel = parallel if parallel > 0 and count % (parallel * groups) == 0 else 1
    return {
        "name": "gbtree",
        "model": {
            "gbtree_model_param": {"num_trees": str(count), "num_parallel_tree": str(parallel)},
            "tree_info": outputs.tolist(),
            "trees": _trees(heads, np.concatenate(nodes), np.concatenate(statistics), features) if count else [],
        },
    }


def _dart(reader: _Reader, features: int, groups: int, parallel: int) -> dict[str, object]:
    forest = _gbtree(reader, features, groups, parallel)
    trees = len(forest["model"]["tree_info"])  # type: ignore[index]
    weights = reader.array("<f4", reader.count("weights") if trees else 0, "weights")
    if len(weights) != trees:
        raise Damaged("it has not one weight a tree")
    return {"name": "dart", "gbtree": forest, "weight_drop": weights.tolist()}


def _gblinear(reader: _Reader, features: int, groups: int, parallel: int) -> dict[str, object]:
    reader.skip(_LINEAR_SIZE, "booster")
    weights = reader.array("<f4", reader.count("weights"), "weights")
    if len(weights) != (features + 1) * groups:
        raise Damaged("it has not one weight a feature")
    return {
        "name": "gblinear",
        "model": {
            "boosted_rounds": 1,  # they are not in the file; to the library 0 says that base_score is a margin
            "weights": _Encoded([b"[$d#", _length(len(weights)), weights.astype(">f4").tobytes()]),
        },
    }


_BOOSTERS = {"gbtree": _gbtree, "dart": _dart, "gblinear": _gblinear}


def _trees(heads: Sequence[tuple[int, int]], nodes: np.ndarray, statistics: np.ndarray, features: int) -> _Encoded:
    """Check the nodes of all trees, and return the trees as they are written."""
    sizes = np.array([size for size, _ in heads])
    ends = np.cumsum(sizes)
    first: np.ndarray = np.repeat(ends - sizes, sizes)  # of each node, the root of its tree
    parent = nodes["parent"] & ~np.uint32(_FLAG)
    split = nodes["split"] & ~np.uint32(_FLAG)
    left, right = nodes["left"], nodes["right"]
    deleted = nodes["split"] == _DELETED
    root = np.arange(len(nodes)) == first
    inner = np.flatnonzero((left != -1) & (root | ~deleted))
    own, base = inner - first[inner], first[inner]
    # 1. A node is the child of the one that it has as its parent, and no root is a child: so no path has a circle.
    room = np.repeat(sizes, sizes)[inner]
    for children in (left[inner], right[inner]):
        if not ((children > 0) & (children < room)).all():
            raise Damaged("a node has a child that is not in its tree")
        at = base + children
        if deleted[at].any() or not (parent[at] == own).all():
            raise Damaged("a node has a child of another node")
    if (left[inner] == right[inner]).any():
        raise Damaged("a node has one child twice")
    # 2. A split looks at a feature of the model's.
    if not (split[inner] < features).all():
        raise Damaged("a node splits by a feature that the model has not")
    # 3. The library follows the parent of each node but the roots, of deleted ones, too, where it may be anything.
    parent = np.where(~root & (parent >= np.repeat(sizes, sizes)), 0, parent)
    columns = [
        _Column("base_weights", "d", statistics["weight"].astype(">f4").tobytes(), 4),
        _Column("default_left", "U", (nodes["split"] >> 31).astype("u1").tobytes(), 1),
        _Column("left_children", "l", left.astype(">i4").tobytes(), 4),
        _Column("loss_changes", "d", statistics["loss"].astype(">f4").tobytes(), 4),
        _Column("parents", "l", parent.astype(">i4").tobytes(), 4),
        _Column("right_children", "l", right.astype(">i4").tobytes(), 4),
        _Column("split_conditions", "d", nodes["value"].astype(">f4").tobytes(), 4),
        _Column("split_indices", "l", split.astype(">i4").tobytes(), 4),
        _Column("sum_hessian", "d", statistics["hessian"].astype(">f4").tobytes(), 4),
    ]
    keys = [_encoded_key(column.name) + b"[$" + column.kind.encode() + b"#" for column in columns]
    parts: list[bytes] = [b"[#", _length(len(heads))]
    for number, ((size, removed), end) in enumerate(zip(heads, ends.tolist(), strict=True)):
        length = _length(size)
        parts.append(b"{")
        for key, (_, _, data, width) in zip(keys, columns, strict=True):
            parts += (key, length, data[(end - size) * width : end * width])
        parts += (_ID, number.to_bytes(8), _tree_param(size, removed, features), b"}")
    return _Encoded(parts)


class _Column(NamedTuple):
    """A value of every node, big-endian, and its name and type in UBJSON."""

    name: str
    kind: str
    data: bytes
    width: int  # bytes


@functools.lru_cache(maxsize=1024)
def _tree_param(size: int, deleted: int, features: int) -> bytes:
    parts = [_encoded_key("tree_param")]
    values = {"num_deleted": deleted, "num_feature": features, "num_nodes": size, "size_leaf_vector": 0}
    _put(parts, {name: str(value) for name, value in values.items()})
    return b"".join(parts)


# --- the learner's texts --------------------------------------------------------------------------------------------


def _configuration(saved: bytes, name: str, groups: int) -> Mapping[str, object]:
    """Return the objective's configuration: as it was saved, else what its name needs."""
    if saved:
        try:
            configuration = json.loads(saved)
        except (ValueError, RecursionError):
            configuration = None
        if not isinstance(configuration, dict) or not isinstance(configuration.get("name"), str):
            raise Damaged("its objective is none")
        return configuration
    name = name.removeprefix("gpu:")
    if name not in _PARAMETERS:
        return {"name": name}
    key, parameters = _PARAMETERS[name]
    return {"name": name, key: {"num_class": str(groups)} if name.startswith("multi:") else parameters}


def _probability(margin: float, objective: str) -> float:
    """Return the base score that a version before 1.0 had turned into a margin, as the nearest float32."""
    try:
        if objective in _LOGISTIC:
            return float(np.float32(1.0 / (1.0 + math.exp(-margin))))
        if objective in _EXPONENTIAL:
            return float(np.float32(math.exp(margin)))
    except OverflowError:
        raise Damaged("its base score is none") from None
    return margin


def raw_margin(score: float) -> float:
    """Return the margin of a base score of binary:logitraw, as versions before 1.3.1 took it. Raises Damaged."""
    if not 0.0 < score < 1.0:
        raise Damaged("its base score is no probability")
    return float(np.float32(-math.log(1.0 / score - 1.0)))


# --- UBJSON ---------------------------------------------------------------------------------------------------------


class _Encoded(NamedTuple):
    """A value that is UBJSON already."""

    parts: Sequence[bytes]


def _put(parts: list[bytes], value: object) -> None:
    """Append a value's bytes. Integers are of 64 bits, numbers of 32."""
    match value:
        case _Encoded(encoded):
            parts += encoded
        case dict():
            parts.append(b"{")
            for key, member in value.items():
                parts.append(_encoded_key(key))
                _put(parts, member)
            parts.append(b"}")
        case list():
            parts += (b"[#", _length(len(value)))
            for element in value:
                _put(parts, element)
        case str() | bytes():
            text = value if isinstance(value, bytes) else value.encode()
            parts += (b"S", _length(len(text)), text)
        case bool() | None:
            parts.append(b"Z" if value is None else b"T" if value else b"F")
        case int():
            parts += (b"L", value.to_bytes(8, signed=True))
        case float():
            parts += (b"d", struct.pack(">f", value))
        case _:
            raise TypeError(type(value))


def _encoded_key(key: str | bytes) -> bytes:
    name = key if isinstance(key, bytes) else key.encode()
    return _length(len(name)) + name


@functools.lru_cache(maxsize=1024)
def _length(size: int) -> bytes:
    return b"L" + size.to_bytes(8)


_ID = _encoded_key("id") + b"L"
