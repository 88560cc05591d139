"""Selectors of labels and of fields, as requests and objects have them."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from typing import Any

from fake_cluster.refusals import bad_request

Object = dict[str, Any]

_SET = re.compile(r"(?P<key>[^\s!=,()]+)\s+(?P<operator>in|notin)\s*\((?P<values>[^)]*)\)")
_EQUAL = re.compile(r"(?P<key>[^\s!=,()]+)\s*(?P<operator>==|=|!=)\s*(?P<values>[^\s,()]*)")
_EXISTS = re.compile(r"(?P<absent>!)?\s*(?P<key>[^\s!=,()]+)")


def labels(text: str) -> Callable[[Object], bool]:
    """Return whether an object's labels are as a request's labelSelector has it. Raises Refusal."""
    tests = [_requirement(part) for part in _split(text)]

    def fits(document: Object) -> bool:
        own = document["metadata"].get("labels") or {}
        return all(test(own) for test in tests)

    return fits


def fields(text: str) -> Callable[[Object], bool]:
    """Return whether an object's fields are as a request's fieldSelector has it. Raises Refusal."""
    wanted = []
    for part in filter(None, text.split(",")):
        if not (found := _EQUAL.fullmatch(part.strip())):
            raise bad_request(f"invalid field selector: {part}")
        wanted.append((found["key"].split("."), found["operator"] != "!=", found["values"]))

    def fits(document: Object) -> bool:
        return all((_field(document, path) == value) == equal for path, equal, value in wanted)

    return fits


def matches(selector: Mapping[str, Any] | None, own: Mapping[str, str] | None) -> bool:
    """Return whether labels are as an object's selector has it: a LabelSelector, or a Service's. None fits none."""
    if selector is None:
        return False
    own = own or {}
    if not (selector.keys() & {"matchLabels", "matchExpressions"}):
        return all(own.get(key) == value for key, value in selector.items())
    if any(own.get(key) != value for key, value in (selector.get("matchLabels") or {}).items()):
        return False
    tests = {
        "In": lambda key, values: own.get(key) in values,
        "NotIn": lambda key, values: own.get(key) not in values,
        "Exists": lambda key, values: key in own,
        "DoesNotExist": lambda key, values: key not in own,
    }
    expressions = selector.get("matchExpressions") or []
    return all(tests[each["operator"]](each["key"], each.get("values") or []) for each in expressions)


def _split(text: str) -> list[str]:
    """Split at commas outside brackets."""
    return [part.strip() for part in re.split(r",(?![^(]*\))", text) if part.strip()]


def _requirement(part: str) -> Callable[[Mapping[str, str]], bool]:
    if found := _SET.fullmatch(part):
        key, values = found["key"], {value.strip() for value in found["values"].split(",")}
        if found["operator"] == "in":
            return lambda own: own.get(key) in values
        return lambda own: own.get(key) not in values
    if found := _EQUAL.fullmatch(part):
        key, value = found["key"], found["values"]
        if found["operator"] == "!=":
            return lambda own: own.get(key) != value
        return lambda own: own.get(key) == value
    if found := _EXISTS.fullmatch(part):
        key, absent = found["key"], bool(found["absent"])
        return lambda own: (key in own) != absent
    raise bad_request(f"unable to parse requirement: {part}")


def _field(document: Object, path: list[str]) -> str:
    value: Any = document
    for name in path:
        value = value.get(name) if isinstance(value, dict) else None
    return "" if value is None else str(value)
