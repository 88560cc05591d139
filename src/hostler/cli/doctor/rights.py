"""Which rights hostler needs in a cluster: those of control, and those of whoever installs the chart."""

from __future__ import annotations

from typing import Literal, NamedTuple

Where = Literal["instances", "control", "cluster"]  # the namespace of the instances, that of control, or none


class Right(NamedTuple):
    where: Where
    group: str
    resource: str  # with a subresource: pods/log
    verb: str

    def __str__(self) -> str:
        resource = f"{self.resource}.{self.group}" if self.group else self.resource
        return f"{self.verb} {resource}"


def _rights(where: Where, group: str, resource: str, verbs: str) -> list[Right]:
    return [Right(where, group, resource, verb) for verb in verbs.split()]


OF_ZONES = Right("cluster", "", "nodes", "get")  # for people alone, and before Kubernetes 1.35

# The chart's Roles; a test compares the two.
OF_CONTROL = (
    *_rights("instances", "", "pods", "get list watch create delete"),
    *_rights("instances", "", "pods/log", "get"),
    *_rights("instances", "", "events", "list watch"),
    *_rights("instances", "policy", "poddisruptionbudgets", "get list create update delete"),
    *_rights("instances", "", "configmaps", "get"),
    *_rights("control", "", "pods", "list watch"),
    *_rights("cluster", "authentication.k8s.io", "tokenreviews", "create"),
    OF_ZONES,
)

# The kinds of the chart's objects; a test compares the two.
OF_INSTALLER = (
    *_rights("cluster", "", "namespaces", "create"),
    *_rights("cluster", "rbac.authorization.k8s.io", "clusterroles", "create"),
    *_rights("cluster", "rbac.authorization.k8s.io", "clusterrolebindings", "create"),
    *(
        right
        for where in ("control", "instances")
        for group, resource in (
            ("", "configmaps"), ("", "serviceaccounts"), ("networking.k8s.io", "networkpolicies"),
            ("rbac.authorization.k8s.io", "roles"), ("rbac.authorization.k8s.io", "rolebindings"),
        )
        for right in _rights(where, group, resource, "create")
    ),
    *_rights("control", "", "secrets", "create"),
    *_rights("control", "", "services", "create"),
    *_rights("control", "apps", "statefulsets", "create"),
    *_rights("control", "apps", "deployments", "create"),
    *_rights("control", "autoscaling", "horizontalpodautoscalers", "create"),
    *_rights("control", "policy", "poddisruptionbudgets", "create"),
)  # fmt: skip

# Helm's own: it keeps what it has installed in Secrets.
OF_HELM = tuple(_rights("control", "", "secrets", "get list update"))

# Who makes a Role must have the rights that it gives, or this one.
TO_GIVE: dict[Where, Right] = {
    "instances": Right("instances", "rbac.authorization.k8s.io", "roles", "escalate"),
    "control": Right("control", "rbac.authorization.k8s.io", "roles", "escalate"),
    "cluster": Right("cluster", "rbac.authorization.k8s.io", "clusterroles", "escalate"),
}
