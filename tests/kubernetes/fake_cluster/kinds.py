"""The kinds of objects that the API server has, and its documents of discovery, by which clients find them."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Any

VERSION = "1.36"  # of Kubernetes: its schemas, and what the server says of itself

_CRUD = ("create", "delete", "deletecollection", "get", "list", "patch", "update", "watch")


@dataclass(frozen=True)
class Kind:
    """A kind of object. `subresources` are below an object's path, such as `status`."""

    group: str
    version: str
    name: str
    plural: str
    namespaced: bool = True
    subresources: tuple[str, ...] = ()
    verbs: tuple[str, ...] = _CRUD
    short: tuple[str, ...] = ()

    @property
    def api_version(self) -> str:
        return f"{self.group}/{self.version}" if self.group else self.version

    @property
    def qualified(self) -> str:
        """Its plural as the server's sentences have it, with the group."""
        return f"{self.plural}.{self.group}" if self.group else self.plural


_RBAC, _STORAGE = "rbac.authorization.k8s.io", "storage.k8s.io"
_ASKED = ("create",)  # the answer to a question, of which nothing is kept

POD = Kind("", "v1", "Pod", "pods", subresources=("status", "log", "eviction"), short=("po",))
EVENT = Kind("", "v1", "Event", "events", short=("ev",))
NAMESPACE = Kind("", "v1", "Namespace", "namespaces", namespaced=False, subresources=("status",), short=("ns",))
NODE = Kind("", "v1", "Node", "nodes", namespaced=False, subresources=("status",), short=("no",))
SECRET = Kind("", "v1", "Secret", "secrets")
CONFIG_MAP = Kind("", "v1", "ConfigMap", "configmaps", short=("cm",))
SERVICE_ACCOUNT = Kind("", "v1", "ServiceAccount", "serviceaccounts", subresources=("token",), short=("sa",))
SERVICE = Kind("", "v1", "Service", "services", subresources=("status",), short=("svc",))
CLAIM = Kind("", "v1", "PersistentVolumeClaim", "persistentvolumeclaims", subresources=("status",), short=("pvc",))
QUOTA = Kind("", "v1", "ResourceQuota", "resourcequotas", subresources=("status",), short=("quota",))
DEPLOYMENT = Kind("apps", "v1", "Deployment", "deployments", subresources=("status", "scale"), short=("deploy",))
STATEFUL_SET = Kind("apps", "v1", "StatefulSet", "statefulsets", subresources=("status", "scale"), short=("sts",))
REPLICA_SET = Kind("apps", "v1", "ReplicaSet", "replicasets", subresources=("status", "scale"), short=("rs",))
BUDGET = Kind("policy", "v1", "PodDisruptionBudget", "poddisruptionbudgets", subresources=("status",), short=("pdb",))
SCALER = Kind(
    "autoscaling", "v2", "HorizontalPodAutoscaler", "horizontalpodautoscalers", subresources=("status",), short=("hpa",)
)
POLICY = Kind("networking.k8s.io", "v1", "NetworkPolicy", "networkpolicies", short=("netpol",))
INGRESS = Kind("networking.k8s.io", "v1", "Ingress", "ingresses", subresources=("status",), short=("ing",))
ROLE = Kind(_RBAC, "v1", "Role", "roles")
BINDING = Kind(_RBAC, "v1", "RoleBinding", "rolebindings")
CLUSTER_ROLE = Kind(_RBAC, "v1", "ClusterRole", "clusterroles", namespaced=False)
CLUSTER_BINDING = Kind(_RBAC, "v1", "ClusterRoleBinding", "clusterrolebindings", namespaced=False)
PRIORITY = Kind("scheduling.k8s.io", "v1", "PriorityClass", "priorityclasses", namespaced=False, short=("pc",))
STORAGE = Kind(_STORAGE, "v1", "StorageClass", "storageclasses", namespaced=False, short=("sc",))
LEASE = Kind("coordination.k8s.io", "v1", "Lease", "leases")
JOB = Kind("batch", "v1", "Job", "jobs", subresources=("status",))
TOKEN_REVIEW = Kind("authentication.k8s.io", "v1", "TokenReview", "tokenreviews", namespaced=False, verbs=_ASKED)
SELF_REVIEW = Kind(
    "authorization.k8s.io", "v1", "SelfSubjectAccessReview", "selfsubjectaccessreviews", namespaced=False, verbs=_ASKED
)
ACCESS_REVIEW = Kind(
    "authorization.k8s.io", "v1", "SubjectAccessReview", "subjectaccessreviews", namespaced=False, verbs=_ASKED
)

KINDS = tuple(value for value in globals().copy().values() if isinstance(value, Kind))
_SHOWN_AS_ALL = (POD, SERVICE, DEPLOYMENT, STATEFUL_SET, REPLICA_SET, SCALER, JOB)
BY_PLURAL = {(kind.group, kind.version, kind.plural): kind for kind in KINDS}
BY_NAME = {(kind.api_version, kind.name): kind for kind in KINDS}


@dataclass(frozen=True)
class Place:
    """What a request's path names. Without a name: all objects of the kind, in the namespace if there is one."""

    kind: Kind
    namespace: str
    name: str
    subresource: str


_PATH = re.compile(
    r"/api(?:s/(?P<group>[^/]+))?/(?P<version>v[0-9a-z]+)"
    r"(?:/namespaces/(?P<namespace>[^/]+)(?=/[^/]+))?"
    r"/(?P<plural>[^/]+)(?:/(?P<name>[^/]+)(?:/(?P<subresource>[^/]+))?)?/?"
)
_NAMESPACE_ITSELF = re.compile(r"/api/v1/namespaces/[^/]+/(?:status|finalize)/?")


def place(path: str) -> Place | None:
    """Return what a path names; None without such a kind."""
    found = _PATH.fullmatch(path)
    if _NAMESPACE_ITSELF.fullmatch(path):
        _, _, _, _, name, subresource = path.rstrip("/").split("/")
        return Place(NAMESPACE, "", name, subresource)
    if not found:
        return None
    parts = {key: value or "" for key, value in found.groupdict().items()}
    kind = BY_PLURAL.get((parts["group"], parts["version"], parts["plural"]))
    if not kind or (parts["namespace"] and not kind.namespaced):
        return None
    if parts["subresource"] and parts["subresource"] not in kind.subresources:
        return None
    return Place(kind, parts["namespace"], parts["name"], parts["subresource"])


def discovery(path: str) -> dict[str, Any] | None:
    """Return the document of discovery at a path; None if there is none."""
    path = path.rstrip("/")
    groups = sorted({(kind.group, kind.version) for kind in KINDS if kind.group})
    if path == "/version":
        major, minor = VERSION.split(".")
        return {"major": major, "minor": minor, "gitVersion": f"v{VERSION}.0", "platform": "linux/amd64"}
    if path == "/api":
        return {"kind": "APIVersions", "versions": ["v1"], "serverAddressByClientCIDRs": []}
    if path == "/apis":
        return {"kind": "APIGroupList", "apiVersion": "v1", "groups": [_group(*each) for each in groups]}
    for group, version in groups:
        if path == f"/apis/{group}":
            return {"kind": "APIGroup", "apiVersion": "v1", **_group(group, version)}
    for group, version in [("", "v1"), *groups]:
        if path == (f"/apis/{group}/{version}" if group else "/api/v1"):
            return _resources(group, version)
        if path == (f"/openapi/v3/apis/{group}/{version}" if group else "/openapi/v3/api/v1"):
            return _fields_are_validated(group, version)
    if path == "/openapi/v3":
        below = ["api/v1", *(f"apis/{group}/{version}" for group, version in groups)]
        return {"paths": {each: {"serverRelativeURL": f"/openapi/v3/{each}"} for each in below}}
    return None


def _fields_are_validated(group: str, version: str) -> dict[str, Any]:
    """Return of OpenAPI's document what kubectl looks for: the server itself refuses unknown fields."""
    patch = {"parameters": [{"name": "fieldValidation", "in": "query"}]}
    paths = {
        f"/{kind.plural}/{{name}}": {
            "patch": {**patch, _KIND_OF_PATH: {"group": group, "version": version, "kind": kind.name}}
        }
        for kind in KINDS
        if (kind.group, kind.version) == (group, version)
    }
    return {"openapi": "3.0.0", "info": {"title": "Kubernetes", "version": VERSION}, "paths": paths}


_KIND_OF_PATH = "x-kubernetes-group-version-kind"


def _group(group: str, version: str) -> dict[str, Any]:
    one = {"groupVersion": f"{group}/{version}", "version": version}
    return {"name": group, "versions": [one], "preferredVersion": one}


def _resources(group: str, version: str) -> dict[str, Any]:
    resources: list[dict[str, Any]] = []
    for kind in KINDS:
        if (kind.group, kind.version) != (group, version):
            continue
        all_ = {"categories": ["all"]} if kind in _SHOWN_AS_ALL else {}
        common = {"singularName": kind.name.lower(), "namespaced": kind.namespaced, "kind": kind.name}
        resources.append(
            {"name": kind.plural, **common, "verbs": list(kind.verbs), "shortNames": list(kind.short)} | all_
        )
        resources += [
            {"name": f"{kind.plural}/{below}", **common, "verbs": ["get", "patch", "update"]}
            for below in kind.subresources
        ]
    document = {"kind": "APIResourceList", "apiVersion": "v1", "resources": resources}
    return {**document, "groupVersion": f"{group}/{version}" if group else version}
