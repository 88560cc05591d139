"""How objects go: pods with their grace, evictions within a budget, what an owner leaves, namespaces with all of it."""

from __future__ import annotations

import contextlib

from fake_cluster import refusals
from fake_cluster.kinds import BUDGET, BY_NAME, KINDS, NAMESPACE, POD, Kind, Place
from fake_cluster.refusals import Refusal
from fake_cluster.selectors import matches
from fake_cluster.store import Change, Object, Store, copied

_DEFAULT_NAMESPACES = ("default", "kube-system", "kube-public")


def delete(store: Store, kind: Kind, before: Object, options: Object) -> Object:
    """Delete an object, or say that it is to go. Raises Refusal."""
    metadata = before["metadata"]
    wanted = options.get("preconditions") or {}
    for key in ("uid", "resourceVersion"):
        if key in wanted and wanted[key] != metadata[key]:
            why = f"Precondition failed: {key} in precondition: {wanted[key]}, {key} in object meta: {metadata[key]}"
            raise refusals.conflict(kind, metadata["name"], why)
    if kind is POD:
        return _delete_pod(store, before, options.get("gracePeriodSeconds"))
    if kind is NAMESPACE:
        return _delete_namespace(store, before)
    if metadata.get("finalizers"):
        return store.mark_deleted(kind, before, 0)
    orphan = options.get("propagationPolicy") == "Orphan" or options.get("orphanDependents")
    if orphan:
        for each in list(_owned(store, metadata["uid"])):
            store.patch(each, lambda document: document["metadata"].pop("ownerReferences"))
    return store.remove(kind, store.get(kind, metadata.get("namespace", ""), metadata["name"]))


def _delete_pod(store: Store, before: Object, grace: int | None) -> Object:
    metadata, spec = before["metadata"], before["spec"]
    given = spec.get("terminationGracePeriodSeconds", 30) if grace is None else grace
    ended = before["status"].get("phase") in ("Succeeded", "Failed")
    seconds = 0 if not spec.get("nodeName") or ended else given if given >= 0 else 1
    if seconds == 0:
        return store.remove(POD, before)
    if "deletionTimestamp" in metadata and metadata["deletionGracePeriodSeconds"] <= seconds:
        return before
    return store.mark_deleted(POD, before, seconds)


def _delete_namespace(store: Store, before: Object) -> Object:
    name = before["metadata"]["name"]
    if name in _DEFAULT_NAMESPACES:
        raise refusals.forbidden(NAMESPACE, name, "this namespace may not be deleted")
    marked = store.mark_deleted(NAMESPACE, before, 0)
    for kind in KINDS:
        for each in store.list(kind, name) if kind.namespaced else ():
            with contextlib.suppress(Refusal):
                delete(store, kind, each, {})
    empty_namespace_goes(store, name)
    return marked


def empty_namespace_goes(store: Store, name: str) -> None:
    """Remove a namespace that is to go and holds nothing any more."""
    found = store.find(NAMESPACE, "", name)
    if not found or "deletionTimestamp" not in found["metadata"]:
        return
    if not any(store.list(kind, name) for kind in KINDS if kind.namespaced):
        store.remove(NAMESPACE, found)


def collect(store: Store, change: Change) -> None:
    """Delete what has no owner any more, as Kubernetes' garbage collector does it: also a new object without one."""
    if change.after is None and change.before is not None:
        metadata = change.before["metadata"]
        if store.owners.pop(metadata["uid"], 0) > 0:
            for each in _owned(store, metadata["uid"]):
                _orphaned(store, each)
        if namespace := metadata.get("namespace"):
            empty_namespace_goes(store, namespace)
    elif change.before is None and change.after is not None and change.after["metadata"].get("ownerReferences"):
        _orphaned(store, change.after)


def _owned(store: Store, uid: str) -> list[Object]:
    return [
        each
        for each in store.all()
        if any(reference["uid"] == uid for reference in each["metadata"].get("ownerReferences") or ())
    ]


def _orphaned(store: Store, document: Object) -> None:
    metadata = document["metadata"]
    for reference in metadata.get("ownerReferences") or ():
        kind = BY_NAME.get((reference["apiVersion"], reference["kind"]))
        namespace = metadata.get("namespace", "") if kind and kind.namespaced else ""
        owner = store.find(kind, namespace, reference["name"]) if kind else None
        if owner and owner["metadata"]["uid"] == reference["uid"]:
            return
    kind = BY_NAME[document["apiVersion"], document["kind"]]
    if (now := store.find(kind, metadata.get("namespace", ""), metadata["name"])) is not None:
        delete(store, kind, now, {})


# --- evictions --------------------------------------------------------------------------------------------------------


def evict(store: Store, place: Place, body: Object) -> Object:
    """Delete a pod, if its budgets allow it. Raises Refusal (429)."""
    pod = store.get(POD, place.namespace, place.name)
    if pod["status"].get("phase") not in ("Succeeded", "Failed", "Pending"):
        budgets = [
            each for each in store.list(BUDGET, place.namespace)
            if matches(each["spec"].get("selector"), pod["metadata"].get("labels"))
        ]  # fmt: skip
        if len(budgets) > 1:
            raise Refusal(500, "InternalError", "This pod has more than one PodDisruptionBudget, which the eviction subresource does not support.")  # fmt: skip  # noqa: E501
        for budget in budgets:
            if is_ready(pod) and disruptions_allowed(store, budget) <= 0:
                raise Refusal(429, "TooManyRequests", "Cannot evict pod as it would violate the pod's disruption budget.")  # fmt: skip  # noqa: E501
    delete(store, POD, pod, body.get("deleteOptions") or {})
    return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def disruptions_allowed(store: Store, budget: Object) -> int:
    """Return how many of a budget's pods may be evicted now.

    Pods of no controller with a scale have only `minAvailable` as a number, as Kubernetes has it: with anything else
    none may be evicted.
    """
    spec, namespace = budget["spec"], budget["metadata"]["namespace"]
    pods = [
        each for each in store.list(POD, namespace) if matches(spec.get("selector"), each["metadata"].get("labels"))
    ]
    healthy = sum(is_ready(each) and "deletionTimestamp" not in each["metadata"] for each in pods)
    wanted = spec.get("minAvailable")
    if isinstance(wanted, int):
        return max(0, healthy - wanted)
    if (expected := _expected(store, pods)) is None:
        return 0
    if wanted is not None:
        return max(0, healthy - -(-expected * int(str(wanted).rstrip("%")) // 100))
    most = spec.get("maxUnavailable", 1)
    allowed = most if isinstance(most, int) else -(-expected * int(str(most).rstrip("%")) // 100)
    return max(0, healthy - (expected - allowed))


def _expected(store: Store, pods: list[Object]) -> int | None:
    """Return how many pods their controllers want; None if one of them has none with a scale."""
    owners: dict[str, int] = {}
    for pod in pods:
        reference = next(
            (each for each in pod["metadata"].get("ownerReferences") or () if each.get("controller")), None
        )
        kind = BY_NAME.get((reference["apiVersion"], reference["kind"])) if reference else None
        if not reference or not kind or "scale" not in kind.subresources:
            return None
        owner = store.find(kind, pod["metadata"]["namespace"], reference["name"])
        owners[reference["uid"]] = owner["spec"].get("replicas", 1) if owner else 0
    return sum(owners.values())


def is_ready(pod: Object) -> bool:
    conditions = pod.get("status", {}).get("conditions") or ()
    return any(each["type"] == "Ready" and each["status"] == "True" for each in conditions)


# --- scale ------------------------------------------------------------------------------------------------------------


def scale(document: Object) -> Object:
    """Return the subresource `scale` of a set of pods."""
    metadata = {key: document["metadata"][key] for key in ("name", "namespace", "uid", "resourceVersion")}
    selector = (document["spec"].get("selector") or {}).get("matchLabels") or {}
    replicas = document.get("status", {}).get("replicas", 0)
    return copied(
        {
            "kind": "Scale",
            "apiVersion": "autoscaling/v1",
            "metadata": metadata,
            "spec": {"replicas": document["spec"].get("replicas", 1)},
            "status": {"replicas": replicas, "selector": ",".join(f"{key}={value}" for key, value in selector.items())},
        }
    )
