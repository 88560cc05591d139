"""What the API server adds to an object, and which objects it refuses.

Each object is compared with Kubernetes' own schema, strictly: a misspelt key is refused, as `kubectl apply` does it.
"""

from __future__ import annotations

import base64
import functools
import json
import re
from collections.abc import Callable
from importlib import resources
from typing import Any

import jsonschema
import referencing

from fake_cluster import pod_security, refusals
from fake_cluster.kinds import (
    DEPLOYMENT,
    NAMESPACE,
    POD,
    PRIORITY,
    QUOTA,
    SECRET,
    SERVICE_ACCOUNT,
    STATEFUL_SET,
    VERSION,
    Kind,
)
from fake_cluster.selectors import matches
from fake_cluster.store import Object, Store

_DNS_LABEL = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?")
_DNS_NAME = re.compile(r"[a-z0-9]([-a-z0-9]*[a-z0-9])?(\.[a-z0-9]([-a-z0-9]*[a-z0-9])?)*")
_LABEL = re.compile(r"([A-Za-z0-9]([-A-Za-z0-9_.]*[A-Za-z0-9])?)?")
_PATH_NAMES = ("roles", "rolebindings", "clusterroles", "clusterrolebindings")  # whose names may have colons
_LABEL_NAMES = ("namespaces", "services")
_TAINTS = ("node.kubernetes.io/not-ready", "node.kubernetes.io/unreachable")
_DEFAULT_TOLERATION = 300  # seconds


def admitted(store: Store, kind: Kind, document: Object, namespace: str) -> Object:
    """Return a new object with the server's defaults. Raises Refusal."""
    metadata = document.setdefault("metadata", {})
    if kind.namespaced:
        if metadata.setdefault("namespace", namespace) != namespace:
            given = metadata["namespace"]
            raise refusals.bad_request(f"the namespace of the provided object does not match the namespace sent on the request ({given} instead of {namespace})")  # fmt: skip  # noqa: E501
    else:
        metadata.pop("namespace", None)
    fits_schema(kind, document)
    named(kind, document)
    if default := _DEFAULTS.get(kind):
        default(store, document)
    if kind is POD:
        pod_is_sound(document)
        pod_security.check(store.find(NAMESPACE, "", namespace), document)
        _within_quotas(store, document)
    return document


def _within_quotas(store: Store, pod: Object) -> None:
    """Raises Refusal if there are as many pods as a quota allows. What else it bounds is not counted."""
    metadata = pod["metadata"]
    for quota in store.list(QUOTA, metadata["namespace"]):
        limit = quota["spec"].get("hard", {}).get("pods")
        pods = store.list(POD, metadata["namespace"])
        used = sum(each.get("status", {}).get("phase") not in ("Succeeded", "Failed") for each in pods)
        if limit is not None and used >= int(limit):
            counts = f"requested: pods=1, used: pods={used}, limited: pods={limit}"
            why = f"exceeded quota: {quota['metadata']['name']}, {counts}"
            raise refusals.forbidden(POD, metadata.get("name", ""), why)


def changed(store: Store, kind: Kind, before: Object, document: Object) -> Object:
    """Check an object that is to take the place of its former self. Raises Refusal."""
    fits_schema(kind, document)
    named(kind, document)
    if kind is POD:
        _only_images_differ(before, document)
    if kind.name in ("StatefulSet", "Deployment") and before["spec"]["selector"] != document["spec"]["selector"]:
        raise refusals.invalid(kind, document["metadata"]["name"], "spec.selector: Invalid value: field is immutable")
    if kind.name in ("RoleBinding", "ClusterRoleBinding") and before["roleRef"] != document["roleRef"]:
        raise refusals.invalid(kind, document["metadata"]["name"], "roleRef: Invalid value: cannot change roleRef")
    if default := _DEFAULTS.get(kind):
        default(store, document)
    return document


# --- schemas ----------------------------------------------------------------------------------------------------------


def fits_schema(kind: Kind, document: Object) -> None:
    """Raises Refusal unless the object has the shape of its kind."""
    if (document.get("apiVersion"), document.get("kind")) != (kind.api_version, kind.name):
        given = f"{document.get('apiVersion')}, Kind={document.get('kind')}"
        raise refusals.bad_request(f"the object provided is unrecognized or of another kind ({given})")
    if (validator := _validator(kind)) and (error := jsonschema.exceptions.best_match(validator.iter_errors(document))):
        where = ".".join(str(step) for step in error.absolute_path) or kind.name
        message = f"{kind.name} in version {kind.version} cannot be handled: strict decoding error: {where}: {error.message[:300]}"  # fmt: skip  # noqa: E501
        raise refusals.bad_request(message)


@functools.cache
def _validator(kind: Kind) -> Any:
    group = kind.group.split(".")[0]
    name = "-".join(filter(None, (kind.name.lower(), group, kind.version)))
    schema = _schema(f"{name}.json")
    registry = _definitions()
    return jsonschema.validators.Draft202012Validator(schema, registry=registry) if schema else None


@functools.cache
def _definitions() -> Any:
    definitions = referencing.Resource.from_contents(_schema("_definitions.json"))
    return definitions @ referencing.Registry()


def _schema(file: str) -> Any:
    folder = resources.files("kubernetes_validate") / "kubernetes-json-schema" / f"v{VERSION}.0-local-strict"
    path = folder / file
    return json.loads(path.read_text()) if path.is_file() else None


# --- names and labels -------------------------------------------------------------------------------------------------


def named(kind: Kind, document: Object) -> None:
    """Raises Refusal unless name and labels are as Kubernetes wants them."""
    metadata = document["metadata"]
    name = metadata.get("name") or metadata.get("generateName", "").rstrip("-")
    if not name:
        raise refusals.invalid(kind, "", "metadata.name: Required value: name or generateName is required")
    form, longest = (_DNS_LABEL, 63) if kind.plural in _LABEL_NAMES else (_DNS_NAME, 253)
    if kind.plural not in _PATH_NAMES and not (form.fullmatch(name) and len(name) <= longest):
        raise refusals.invalid(kind, name, f'metadata.name: Invalid value: "{name}": a lowercase RFC 1123 name must consist of lower case alphanumeric characters, "-" or "."')  # fmt: skip  # noqa: E501
    for key, value in (metadata.get("labels") or {}).items():
        if not isinstance(value, str) or len(value) > 63 or not _LABEL.fullmatch(value):
            raise refusals.invalid(kind, name, f'metadata.labels: Invalid value: "{value}": a valid label must be an empty string or consist of at most 63 alphanumeric characters, "-", "_" or "." ({key})')  # fmt: skip  # noqa: E501
        prefix, _, last = key.rpartition("/")
        if len(last) > 63 or not last or not _LABEL.fullmatch(last) or (prefix and not _DNS_NAME.fullmatch(prefix)):
            raise refusals.invalid(kind, name, f'metadata.labels: Invalid value: "{key}"')
    if sum(len(key) + len(value) for key, value in (metadata.get("annotations") or {}).items()) > 256 * 1024:
        raise refusals.invalid(kind, name, "metadata.annotations: Too long: may not be more than 262144 bytes")


# --- pods -------------------------------------------------------------------------------------------------------------


def pod_is_sound(pod: Object) -> None:
    """Raises Refusal for what the schema of a pod cannot say."""
    spec = pod["spec"]
    containers = [*(spec.get("initContainers") or ()), *spec["containers"]]
    volumes = {volume["name"] for volume in spec.get("volumes") or ()}
    for name in (every := [container["name"] for container in containers]):
        if every.count(name) > 1 or not _DNS_LABEL.fullmatch(name) or len(name) > 63:
            raise _unsound(pod, f'spec.containers: Invalid or duplicate value: "{name}"')
    if len(volumes) != len(spec.get("volumes") or ()):
        raise _unsound(pod, "spec.volumes: Duplicate value")
    for place, container in enumerate(containers):
        where = f"spec.containers[{place}]"
        if not container.get("image"):
            raise _unsound(pod, f"{where}.image: Required value")
        paths = [mount["mountPath"] for mount in container.get("volumeMounts") or ()]
        if len(set(paths)) != len(paths):
            raise _unsound(pod, f"{where}.volumeMounts: must be unique")
        for mount in container.get("volumeMounts") or ():
            if mount["name"] not in volumes:
                raise _unsound(pod, f'{where}.volumeMounts.name: Not found: "{mount["name"]}"')
            if (below := mount.get("subPath", "")).startswith("/") or ".." in below.split("/"):
                raise _unsound(pod, f"{where}.volumeMounts.subPath: Invalid value: must be a relative path")
        _resources_are_sound(pod, where, container.get("resources") or {})
        for variable in container.get("env") or ():
            if not variable["name"] or "=" in variable["name"]:
                raise _unsound(pod, f'{where}.env.name: Invalid value: "{variable["name"]}"')
            if not isinstance(variable.get("value", ""), str):
                raise _unsound(pod, f"{where}.env.value: must be a string")
    for container in spec["containers"]:
        if "restartPolicy" in container and container["restartPolicy"] not in ("Always", "Never", "OnFailure"):
            raise _unsound(pod, "spec.containers.restartPolicy: Unsupported value")
    for container in spec.get("initContainers") or ():
        sidecar = container.get("restartPolicy") == "Always"
        if not sidecar and any(f"{each}Probe" in container for each in ("startup", "readiness", "liveness")):
            raise _unsound(pod, "spec.initContainers: Forbidden: may not be set for init containers without restartPolicy=Always")  # fmt: skip  # noqa: E501
    _hostname_is_sound(pod)


def _hostname_is_sound(pod: Object) -> None:
    hostname = pod["spec"].get("hostname", "")
    if hostname and (not _DNS_LABEL.fullmatch(hostname) or len(hostname) > 63):
        raise _unsound(pod, f'spec.hostname: Invalid value: "{hostname}": a lowercase RFC 1123 label')
    for alias in pod["spec"].get("hostAliases") or ():
        for name in alias.get("hostnames") or ():
            if not _DNS_NAME.fullmatch(name):
                raise _unsound(pod, f'spec.hostAliases.hostnames: Invalid value: "{name}"')


def _resources_are_sound(pod: Object, where: str, asked: Object) -> None:
    requests, limits = asked.get("requests") or {}, asked.get("limits") or {}
    for name, value in {**requests, **limits}.items():
        try:
            quantity(value)
        except ValueError:
            raise _unsound(pod, f'{where}.resources: Invalid value: "{value}" of {name}') from None
    for name, limit in limits.items():
        wanted = requests.get(name, limit)
        if quantity(wanted) > quantity(limit):
            raise _unsound(pod, f'{where}.resources.requests: Invalid value: "{wanted}": must be less than or equal to {name} limit of {limit}')  # fmt: skip  # noqa: E501
        if "/" in name and quantity(wanted) != quantity(limit):
            raise _unsound(pod, f"{where}.resources.requests: must be equal to {name} limit")


def _only_images_differ(before: Object, document: Object) -> None:
    """Raises Refusal if more of a pod's spec is to change than the server allows."""
    kept = json.loads(json.dumps(document["spec"]))
    for list_name in ("containers", "initContainers"):
        for old, new in zip(before["spec"].get(list_name) or (), kept.get(list_name) or (), strict=False):
            new["image"] = old["image"]
    for key in ("tolerations", "activeDeadlineSeconds"):
        if key in before["spec"]:
            kept[key] = before["spec"][key]
    if kept != before["spec"]:
        raise _unsound(document, "spec: Forbidden: pod updates may not change fields other than `spec.containers[*].image`")  # fmt: skip  # noqa: E501


def _unsound(pod: Object, why: str) -> refusals.Refusal:
    return refusals.invalid(POD, pod["metadata"].get("name", ""), why)


_UNITS = {"": 1, "n": 1e-9, "u": 1e-6, "m": 1e-3, "k": 1e3, "M": 1e6, "G": 1e9, "T": 1e12}
_UNITS |= {"Ki": 2**10, "Mi": 2**20, "Gi": 2**30, "Ti": 2**40}


def quantity(value: object) -> float:
    """Return a quantity such as 500m or 2Gi as a number. Raises ValueError."""
    if not (found := re.fullmatch(r"(\d+(?:\.\d*)?|\.\d+)([numkMGTKi]{0,2})", str(value))) or found[2] not in _UNITS:
        raise ValueError(value)
    return float(found[1]) * _UNITS[found[2]]


# --- defaults ---------------------------------------------------------------------------------------------------------


def _default_pod(store: Store, pod: Object) -> None:
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    account = spec.setdefault("serviceAccountName", "default")
    if not (known := store.find(SERVICE_ACCOUNT, namespace, account)):
        why = f'error looking up service account {namespace}/{account}: serviceaccount "{account}" not found'
        raise refusals.forbidden(POD, pod["metadata"].get("name", ""), why)
    if "imagePullSecrets" in known and not spec.get("imagePullSecrets"):
        spec["imagePullSecrets"] = known["imagePullSecrets"]
    if (priority := spec.get("priorityClassName")) and not priority.startswith("system-"):
        if not (found := store.find(PRIORITY, "", priority)):
            why = f"no PriorityClass with name {priority} was found"
            raise refusals.forbidden(POD, pod["metadata"].get("name", ""), why)
        spec.setdefault("priority", found["value"])
    for key, value in {
        "restartPolicy": "Always",
        "terminationGracePeriodSeconds": 30,
        "dnsPolicy": "ClusterFirst",
        "schedulerName": "default-scheduler",
        "enableServiceLinks": True,
        "securityContext": {},
    }.items():
        spec.setdefault(key, value)
    for container in [*(spec.get("initContainers") or ()), *spec["containers"]]:
        name = str(container.get("image", "")).rsplit("/", 1)[-1]
        newest = "@" not in name and (":" not in name or name.endswith(":latest"))
        container.setdefault("imagePullPolicy", "Always" if newest else "IfNotPresent")
        asked = container.setdefault("resources", {})
        for what, limit in (asked.get("limits") or {}).items():
            asked.setdefault("requests", {}).setdefault(what, limit)
        for probe in (f"{each}Probe" for each in ("startup", "readiness", "liveness")):
            for key, value in {"timeoutSeconds": 1, "periodSeconds": 10, "failureThreshold": 3}.items():
                if probe in container:
                    container[probe].setdefault(key, value)
    _tolerate(spec)
    pod.setdefault("status", {}).setdefault("phase", "Pending")


def _tolerate(spec: Object) -> None:
    """A node that is not ready, or cannot be reached, is tolerated for five minutes, if the pod says nothing else."""
    tolerations = spec.setdefault("tolerations", [])
    for key in _TAINTS:
        if not any(
            each.get("key") in (key, None) and each.get("effect") in ("NoExecute", None) for each in tolerations
        ):
            tolerations.append(
                {"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": _DEFAULT_TOLERATION}
            )


def _default_set(store: Store, document: Object) -> None:
    spec = document["spec"]
    spec.setdefault("replicas", 1)
    strategy = "strategy" if document["kind"] == DEPLOYMENT.name else "updateStrategy"
    spec.setdefault(strategy, {}).setdefault("type", "RollingUpdate")
    own = spec["template"].setdefault("metadata", {}).get("labels") or {}
    if not matches(spec["selector"], own):
        kind = f"{document['kind']}.apps"
        message = f'{kind} "{document["metadata"]["name"]}" is invalid: spec.template.metadata.labels: Invalid value: `selector` does not match template `labels`'  # fmt: skip  # noqa: E501
        raise refusals.Refusal(422, "Invalid", message)


def _default_secret(store: Store, document: Object) -> None:
    """Text becomes data, as the server does it."""
    for key, value in (document.pop("stringData", None) or {}).items():
        document.setdefault("data", {})[key] = base64.b64encode(value.encode()).decode()
    document.setdefault("type", "Opaque")


_DEFAULTS: dict[Kind, Callable[[Store, Object], None]] = {
    POD: _default_pod,
    DEPLOYMENT: _default_set,
    STATEFUL_SET: _default_set,
    SECRET: _default_secret,
}
