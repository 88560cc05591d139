"""Puts pods on nodes: requests must fit; selectors, affinities, taints and spread are as Kubernetes has them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Sequence

from fake_cluster.admission import quantity
from fake_cluster.selectors import matches
from fake_cluster.store import Object
from fake_cluster.translation import containers, is_sidecar

_ENDED = ("Succeeded", "Failed")


def requests(pod: Object) -> dict[str, float]:
    """Return what a pod requests: all its containers, and those of its beginning that stay."""
    spec = pod["spec"]
    total: Counter[str] = Counter({"pods": 1})
    for container in containers(spec):
        if container in spec["containers"] or is_sidecar(container):
            for name, value in ((container.get("resources") or {}).get("requests") or {}).items():
                total[name] += quantity(value)  # type: ignore[assignment]
    return dict(total)


def choose(pod: Object, nodes: Sequence[Object], pods: Sequence[Object]) -> tuple[str, str]:
    """Return (node, ""), or ("", why none fits) for a pod. `pods`: all of the cluster."""
    placed = [each for each in pods if each["spec"].get("nodeName") and each["status"].get("phase") not in _ENDED]
    why: Counter[str] = Counter()
    fitting = []
    for node in nodes:
        if reason := _against(pod, node, nodes, placed):
            why[reason] += 1
        else:
            fitting.append(node)
    if fitting:
        return min(fitting, key=lambda node: _crowd(pod, node, nodes, placed))["metadata"]["name"], ""
    reasons = ", ".join(f"{count} {reason}" for reason, count in sorted(why.items()))
    help_ = "preemption: 0/{0} nodes are available: {0} Preemption is not helpful for scheduling".format(len(nodes))
    return "", f"0/{len(nodes)} nodes are available: {reasons}. {help_}."


def _against(pod: Object, node: Object, nodes: Sequence[Object], placed: Sequence[Object]) -> str:
    """Return why a pod cannot be on a node; empty if it can."""
    spec, labels = pod["spec"], node["metadata"].get("labels") or {}
    if node["spec"].get("unschedulable"):
        return "node(s) were unschedulable"
    for taint in node["spec"].get("taints") or ():
        if taint["effect"] != "PreferNoSchedule" and not tolerates(pod, taint):
            return f"node(s) had untolerated taint {{{taint['key']}: {taint.get('value', '')}}}"
    wanted = (((spec.get("affinity") or {}).get("nodeAffinity") or {}).get(_REQUIRED) or {}).get("nodeSelectorTerms")
    if any(labels.get(key) != value for key, value in (spec.get("nodeSelector") or {}).items()) or (
        wanted and not any(_selected(node, each) for each in wanted)
    ):
        return "node(s) didn't match Pod's node affinity/selector"
    used: Counter[str] = Counter()
    for each in _on(node, placed):
        used.update(requests(each))
    for name, value in requests(pod).items():
        capacity = quantity(node["status"]["allocatable"].get(name, "0"))
        if value and used[name] + value > capacity:
            return "Too many pods" if name == "pods" else f"Insufficient {name}"
    for each in ((spec.get("affinity") or {}).get("podAntiAffinity") or {}).get(_REQUIRED) or ():
        here = _in_domain(node, nodes, placed, each["topologyKey"])
        if any(_same(pod, other, each["labelSelector"]) for other in here):
            return "node(s) didn't match pod anti-affinity rules"
    for each in spec.get("topologySpreadConstraints") or ():
        if each["whenUnsatisfiable"] == "DoNotSchedule":
            counts = _domains(pod, each, nodes, placed)
            domain = labels.get(each["topologyKey"])
            if domain is None or counts[domain] + 1 - min(counts.values()) > each["maxSkew"]:
                return "node(s) didn't match pod topology spread constraints"
    return ""


def _selected(node: Object, term: Object) -> bool:
    """Return whether a term of a node selector is true of a node."""
    labels, fields = node["metadata"].get("labels") or {}, {"metadata.name": node["metadata"]["name"]}
    return matches({"matchExpressions": term.get("matchExpressions") or []}, labels) and matches(
        {"matchExpressions": term.get("matchFields") or []}, fields
    )


_REQUIRED = "requiredDuringSchedulingIgnoredDuringExecution"


def tolerates(pod: Object, taint: Object) -> bool:
    for each in pod["spec"].get("tolerations") or ():
        key_fits = each.get("key") in (None, taint["key"])
        value_fits = each.get("operator") == "Exists" or each.get("value", "") == taint.get("value", "")
        if key_fits and value_fits and each.get("effect") in (None, taint["effect"]):
            return True
    return False


def _crowd(pod: Object, node: Object, nodes: Sequence[Object], placed: Sequence[Object]) -> tuple[int, int, str]:
    """Return how crowded a node is for a pod: by its soft spread first, then by all pods."""
    labels = node["metadata"].get("labels") or {}
    spread = sum(
        _domains(pod, each, nodes, placed)[labels.get(each["topologyKey"], "")]
        for each in pod["spec"].get("topologySpreadConstraints") or ()
    )
    return spread, len(list(_on(node, placed))), node["metadata"]["name"]


def _domains(pod: Object, constraint: Object, nodes: Sequence[Object], placed: Sequence[Object]) -> Counter[str]:
    """Return how many pods like this one each domain of a spread has."""
    key = constraint["topologyKey"]
    selector = dict(constraint.get("labelSelector") or {})
    own = pod["metadata"].get("labels") or {}
    keys = {each: own[each] for each in constraint.get("matchLabelKeys") or () if each in own}
    selector["matchLabels"] = {**(selector.get("matchLabels") or {}), **keys}
    where = {node["metadata"]["name"]: (node["metadata"].get("labels") or {}).get(key) for node in nodes}
    counts = Counter({domain: 0 for domain in where.values() if domain is not None})
    for other in placed:
        domain = where.get(other["spec"]["nodeName"])
        if domain is not None and _same(pod, other, selector) and "deletionTimestamp" not in other["metadata"]:
            counts[domain] += 1
    return counts


def _in_domain(node: Object, nodes: Sequence[Object], placed: Sequence[Object], key: str) -> Iterable[Object]:
    domain = (node["metadata"].get("labels") or {}).get(key)
    names = {each["metadata"]["name"] for each in nodes if (each["metadata"].get("labels") or {}).get(key) == domain}
    return [each for each in placed if each["spec"]["nodeName"] in names]


def _on(node: Object, placed: Sequence[Object]) -> Iterable[Object]:
    return (each for each in placed if each["spec"]["nodeName"] == node["metadata"]["name"])


def _same(pod: Object, other: Object, selector: Object | None) -> bool:
    same_namespace = other["metadata"].get("namespace") == pod["metadata"].get("namespace")
    return same_namespace and matches(selector, other["metadata"].get("labels"))
