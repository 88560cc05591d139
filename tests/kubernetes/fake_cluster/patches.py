"""The patches that the API server takes: JSON patch, merge patch, strategic merge patch, and server-side apply.

A strategic merge puts lists of things with names (containers, volumes, …) together by name; Kubernetes has a key for
each list, which for those is the name. Server-side apply keeps what each manager applied, and removes what one no
longer does.
"""

from __future__ import annotations

from typing import Any

from fake_cluster.refusals import bad_request
from fake_cluster.store import Object, copied

_KEYS = ("name", "mountPath", "containerPort", "port", "ip", "uid", "key")
_DIRECTIVE = "$patch"


def merged(value: Any, patch: Any) -> Any:
    """Apply a merge patch (RFC 7386)."""
    if not isinstance(patch, dict):
        return patch
    result = dict(value) if isinstance(value, dict) else {}
    for key, change in patch.items():
        if change is None:
            result.pop(key, None)
        else:
            result[key] = merged(result.get(key), change)
    return result


def strategic(value: Any, patch: Any) -> Any:
    """Apply a strategic merge patch."""
    if isinstance(patch, dict):
        if patch.get(_DIRECTIVE) == "replace":
            return {key: change for key, change in patch.items() if key != _DIRECTIVE}
        result = dict(value) if isinstance(value, dict) else {}
        for key, change in patch.items():
            if key.startswith("$"):
                continue  # an order, or what a list of plain values loses
            if change is None:
                result.pop(key, None)
            else:
                result[key] = strategic(result.get(key), change)
        return result
    if isinstance(patch, list) and isinstance(value, list) and (key := _key(value, patch)):
        return _by_key(value, patch, key)
    return patch


def _key(value: list[Any], patch: list[Any]) -> str:
    """Return the key by which the elements of both lists are told apart; empty if there is none."""
    elements = [*value, *patch]
    for key in _KEYS:
        if elements and all(isinstance(element, dict) and key in element for element in elements):
            return key
    return ""


def _by_key(value: list[Any], patch: list[Any], key: str) -> list[Any]:
    result = {element[key]: element for element in value}
    for element in patch:
        if element.get(_DIRECTIVE) == "delete":
            result.pop(element[key], None)
        else:
            result[element[key]] = strategic(result.get(element[key]), element)
    return list(result.values())


def applied(value: Object | None, before: Object, wanted: Object) -> Object:
    """Apply what a manager wants now, and remove what it applied before and no longer wants."""
    result = copied(value) if value else {}
    _remove(result, before, wanted)
    return strategic(result, wanted)  # type: ignore[no-any-return]


def _remove(result: Any, before: Any, wanted: Any) -> None:
    if isinstance(before, dict) and isinstance(result, dict):
        for key, old in before.items():
            if not isinstance(wanted, dict) or key not in wanted:
                result.pop(key, None)
            elif key in result:
                _remove(result[key], old, wanted[key])
    elif isinstance(before, list) and isinstance(result, list) and isinstance(wanted, list):
        key = _key(before, [*result, *wanted])
        if key:
            gone = {element[key] for element in before} - {element[key] for element in wanted}
            result[:] = [element for element in result if element[key] not in gone]
            for element in result:
                old = next((each for each in before if each[key] == element[key]), None)
                new = next((each for each in wanted if each[key] == element[key]), None)
                if old is not None and new is not None:
                    _remove(element, old, new)


def operations(document: Object, patch: list[Any]) -> Object:
    """Apply a JSON patch (RFC 6902): add, remove, replace, test. Raises Refusal."""
    result = copied(document)
    for step in patch:
        path = [part.replace("~1", "/").replace("~0", "~") for part in step["path"].split("/")[1:]]
        holder: Any = result
        try:
            for part in path[:-1]:
                holder = holder[int(part)] if isinstance(holder, list) else holder[part]
            _operation(holder, path[-1], step)
        except (KeyError, IndexError, ValueError, TypeError):
            raise bad_request(f"the server rejected our request due to an error in our request: {step}") from None
    return result


def _operation(holder: Any, last: str, step: Object) -> None:
    place: Any = last
    if isinstance(holder, list):
        place = len(holder) if last == "-" else int(last)
    if step["op"] == "add" and isinstance(holder, list):
        holder.insert(place, step["value"])
    elif step["op"] == "add":
        holder[place] = step["value"]
    elif step["op"] == "replace":
        holder[place]  # it must be there
        holder[place] = step["value"]
    elif step["op"] == "remove":
        del holder[place]
    elif step["op"] == "test":
        if holder[place] != step["value"]:
            raise ValueError(step)
    else:
        raise ValueError(step)
