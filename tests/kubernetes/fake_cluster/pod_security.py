"""Pod Security Standards: what a namespace's label `pod-security.kubernetes.io/enforce` has refused."""

from __future__ import annotations

from collections.abc import Iterator

from fake_cluster.kinds import POD
from fake_cluster.refusals import forbidden
from fake_cluster.store import Object

LEVEL = "pod-security.kubernetes.io/enforce"
_BASELINE_CAPABILITIES = {"AUDIT_WRITE", "CHOWN", "DAC_OVERRIDE", "FOWNER", "FSETID", "KILL", "MKNOD"}
_BASELINE_CAPABILITIES |= {"NET_BIND_SERVICE", "SETFCAP", "SETGID", "SETPCAP", "SETUID", "SYS_CHROOT"}
_RESTRICTED_VOLUMES = {
    "configMap", "csi", "downwardAPI", "emptyDir", "ephemeral", "persistentVolumeClaim", "projected", "secret",
}  # fmt: skip


def check(namespace: Object | None, pod: Object) -> None:
    """Raises Refusal for a pod that its namespace's level does not allow."""
    level = ((namespace or {}).get("metadata", {}).get("labels") or {}).get(LEVEL, "privileged")
    faults: list[str] = []
    if level in ("baseline", "restricted"):
        faults += _baseline(pod["spec"])
    if level == "restricted":
        faults += _restricted(pod["spec"])
    if faults:
        why = f'violates PodSecurity "{level}:latest": {", ".join(faults)}'
        raise forbidden(POD, pod["metadata"].get("name", ""), why)


def _containers(spec: Object) -> list[Object]:
    return [*(spec.get("initContainers") or ()), *spec["containers"]]


def _baseline(spec: Object) -> Iterator[str]:
    if any(spec.get(key) for key in ("hostNetwork", "hostPID", "hostIPC")):
        yield "host namespaces"
    if any("hostPath" in volume for volume in spec.get("volumes") or ()):
        yield "hostPath volumes"
    if _profile(spec.get("securityContext")) == "Unconfined":
        yield "seccompProfile"
    for container in _containers(spec):
        context, name = container.get("securityContext") or {}, container["name"]
        if context.get("privileged"):
            yield f"privileged (container {name})"
        if set((context.get("capabilities") or {}).get("add") or ()) - _BASELINE_CAPABILITIES:
            yield f"non-default capabilities (container {name})"
        if any(port.get("hostPort") for port in container.get("ports") or ()):
            yield f"hostPort (container {name})"
        if _profile(context) == "Unconfined":
            yield f"seccompProfile (container {name})"


def _restricted(spec: Object) -> Iterator[str]:
    whole = spec.get("securityContext") or {}
    for volume in spec.get("volumes") or ():
        if not (volume.keys() - {"name"}) <= _RESTRICTED_VOLUMES:
            yield f"restricted volume types (volume {volume['name']})"
    if whole.get("runAsUser") == 0:
        yield "runAsUser=0"
    for container in _containers(spec):
        context, name = container.get("securityContext") or {}, container["name"]
        capabilities = context.get("capabilities") or {}
        if context.get("allowPrivilegeEscalation") is not False:
            yield f"allowPrivilegeEscalation != false (container {name})"
        if "ALL" not in (capabilities.get("drop") or ()) or set(capabilities.get("add") or ()) - {"NET_BIND_SERVICE"}:
            yield f"unrestricted capabilities (container {name})"
        if not context.get("runAsNonRoot", whole.get("runAsNonRoot")):
            yield f"runAsNonRoot != true (container {name})"
        if context.get("runAsUser") == 0:
            yield f"runAsUser=0 (container {name})"
        if (_profile(context) or _profile(whole)) not in ("RuntimeDefault", "Localhost"):
            yield f"seccompProfile (container {name})"


def _profile(context: Object | None) -> str:
    return str(((context or {}).get("seccompProfile") or {}).get("type", ""))
