"""What Docker is told of a pod's containers. Nothing here does IO."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Any

from fake_cluster.admission import quantity
from fake_cluster.store import Object

LABEL = "fake-cluster"  # of every container: whose it is
POD, CONTAINER = "fake-cluster.pod", "fake-cluster.container"

_REFERENCE = re.compile(r"\$(\$|\((?P<name>[^)]*)\))")


class Unready(Exception):
    """What a container needs is not there yet. `reason`: as its status has it while it waits."""

    def __init__(self, reason: str, message: str) -> None:
        super().__init__(message)
        self.reason, self.message = reason, message


def containers(spec: Object) -> list[Object]:
    """Return all containers of a pod, those of its beginning first."""
    return [*(spec.get("initContainers") or ()), *spec["containers"]]


def is_sidecar(container: Object) -> bool:
    return container.get("restartPolicy") == "Always"


def expanded(text: str, variables: Mapping[str, str]) -> str:
    """Put values of variables in the place of $(NAME), as Kubernetes does it."""

    def put(found: re.Match[str]) -> str:
        name = found["name"]
        return "$" if name is None else variables.get(name, found[0])

    return _REFERENCE.sub(put, text)


def field(pod: Object, path: str) -> str:
    """Return a field of a pod, as `fieldRef` names it."""
    if found := re.fullmatch(r"metadata\.(labels|annotations)\['(.*)'\]", path):
        return str((pod["metadata"].get(found[1]) or {}).get(found[2], ""))
    value: Any = pod
    for name in path.split("."):
        value = value.get(name, "") if isinstance(value, dict) else ""
    return str(value)


def sandbox(image: str, network: str, hostname: str, dns_search: str, labels: Mapping[str, str]) -> Object:
    """Return the container that holds a pod's network."""
    host = {"NetworkMode": network, "Init": True, "DnsSearch": [dns_search]}
    return {
        "Image": image,
        "Entrypoint": ["sleep", "infinity"],
        "Cmd": [],
        "Hostname": hostname,
        "Labels": dict(labels),
        "StopSignal": "SIGKILL",
        "HostConfig": host,
    }


def body(
    pod: Object,
    container: Object,
    variables: Mapping[str, str],
    mounts: list[Object],
    sandbox_id: str,
    image: Object,
    labels: Mapping[str, str],
) -> Object:
    """Return how Docker is to create a container. Raises Unready if it must not run so."""
    made: Object = {
        "Image": image["Id"],
        "Env": [f"{key}={value}" for key, value in variables.items()],
        "Labels": dict(labels),
        "User": _user(pod, container, image),
        "Healthcheck": {"Test": ["NONE"]},
        "HostConfig": _host(pod, container, mounts, sandbox_id),
    }
    if "command" in container:
        made["Entrypoint"] = [expanded(word, variables) for word in container["command"]]
        made["Cmd"] = []
    if "args" in container:
        made["Cmd"] = [expanded(word, variables) for word in container["args"]]
    if "workingDir" in container:
        made["WorkingDir"] = container["workingDir"]
    return made


def _host(pod: Object, container: Object, mounts: list[Object], sandbox_id: str) -> Object:
    context = container.get("securityContext") or {}
    capabilities = context.get("capabilities") or {}
    limits = (container.get("resources") or {}).get("limits") or {}
    host: Object = {
        "NetworkMode": f"container:{sandbox_id}",
        "Mounts": mounts,
        "ReadonlyRootfs": bool(context.get("readOnlyRootFilesystem")),
        "CapDrop": list(capabilities.get("drop") or ()),
        "CapAdd": list(capabilities.get("add") or ()),
        "Privileged": bool(context.get("privileged")),
        "GroupAdd": [str(group) for group in _groups(pod)],
        "SecurityOpt": ["no-new-privileges"] if context.get("allowPrivilegeEscalation") is False else [],
        "LogConfig": {"Type": "json-file", "Config": {"max-size": "10m", "max-file": "2"}},
    }
    if "memory" in limits:
        host["Memory"] = host["MemorySwap"] = int(quantity(limits["memory"]))
    if "cpu" in limits:
        host["NanoCpus"] = int(quantity(limits["cpu"]) * 10**9)
    return host


def _groups(pod: Object) -> list[int]:
    context = pod["spec"].get("securityContext") or {}
    groups = [*(context.get("supplementalGroups") or ())]
    return [*groups, context["fsGroup"]] if "fsGroup" in context else groups


def _user(pod: Object, container: Object, image: Object) -> str:
    """Return as whom a container runs; the image's own user if nobody says another one. Raises Unready."""
    whole, own = pod["spec"].get("securityContext") or {}, container.get("securityContext") or {}
    user = own.get("runAsUser", whole.get("runAsUser"))
    group = own.get("runAsGroup", whole.get("runAsGroup"))
    if own.get("runAsNonRoot", whole.get("runAsNonRoot")):
        default = str((image.get("Config") or {}).get("User") or "0").partition(":")[0]
        if user == 0 or (user is None and default in ("0", "root")):
            message = "container has runAsNonRoot and image will run as root"
            raise Unready("CreateContainerConfigError", message)
        if user is None and not default.isdigit():
            message = (
                f"container has runAsNonRoot and image has non-numeric user ({default}), cannot verify user is non-root"
            )
            raise Unready("CreateContainerConfigError", message)
    if user is None:
        return ""
    return f"{user}:{group if group is not None else 0}"


def mount(source: str, container_mount: Object) -> Object:
    """Return one mount of a container, of a folder of this machine."""
    read_only = bool(container_mount.get("readOnly"))
    return {"Type": "bind", "Source": source, "Target": container_mount["mountPath"], "ReadOnly": read_only}


def probe_address(probe: Object, container: Object) -> tuple[str, int, str, list[tuple[str, str]]]:
    """Return (kind, port, path, headers) of a probe: kind is httpGet or tcpSocket."""
    kind = "httpGet" if "httpGet" in probe else "tcpSocket"
    asked = probe[kind]
    port = asked["port"]
    if isinstance(port, str) and not port.isdigit():
        port = next(each["containerPort"] for each in container.get("ports") or () if each.get("name") == port)
    headers = [(each["name"], each["value"]) for each in asked.get("httpHeaders") or ()]
    return kind, int(port), asked.get("path", "/"), headers
