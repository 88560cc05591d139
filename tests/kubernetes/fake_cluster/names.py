"""Services as names: each leads to the pods that are ready, as DNS has it for a service without its own address."""

from __future__ import annotations

from fake_cluster.deletion import is_ready
from fake_cluster.kinds import POD, SERVICE
from fake_cluster.selectors import matches
from fake_cluster.store import Object, Store

_SUFFIX = "svc.cluster.local"


def addresses(store: Store, service: Object) -> list[Object]:
    """Return the pods to which a service leads now."""
    spec = service["spec"]
    found = []
    for pod in store.list(POD, service["metadata"]["namespace"]):
        if not spec.get("selector") or not matches(spec["selector"], pod["metadata"].get("labels")):
            continue
        status = pod.get("status", {})
        if not status.get("podIP") or status.get("phase") in ("Succeeded", "Failed"):
            continue
        leaves = "deletionTimestamp" in pod["metadata"]
        if spec.get("publishNotReadyAddresses") or (is_ready(pod) and not leaves):
            found.append(pod)
    return found


def target_port(pod: Object, service: Object, port: int) -> int:
    """Return the port of a pod to which a port of a service leads."""
    [asked] = [each for each in service["spec"]["ports"] if each["port"] == port]
    target = asked.get("targetPort", port)
    if isinstance(target, int):
        return target
    for container in pod["spec"]["containers"]:
        for each in container.get("ports") or ():
            if each.get("name") == target:
                return int(each["containerPort"])
    return port


def network_of_services(service: Object) -> str:
    """Return a service's name, which stands for its address."""
    return f"{service['metadata']['name']}.{service['metadata']['namespace']}.svc"


def hosts(store: Store, pod: Object, address: str, gateway: str, port: int) -> str:
    """Return a pod's /etc/hosts: itself, its aliases, the API server, and all services."""
    spec, namespace = pod["spec"], pod["metadata"]["namespace"]
    lines = ["127.0.0.1 localhost", "::1 localhost ip6-localhost ip6-loopback"]
    lines.append(f"{address} {spec.get('hostname') or pod['metadata']['name']}")
    lines += [f"{each['ip']} {' '.join(each['hostnames'])}" for each in spec.get("hostAliases") or ()]
    lines.append(f"{gateway} kubernetes.default.svc kubernetes.default kubernetes.default.{_SUFFIX}")
    for service in store.list(SERVICE):
        name, home = service["metadata"]["name"], service["metadata"]["namespace"]
        names = [f"{name}.{home}.{_SUFFIX}", f"{name}.{home}.svc", f"{name}.{home}"]
        names += [name] if home == namespace else []
        for each in addresses(store, service):
            own = [f"{each['metadata']['name']}.{every}" for every in names] if each["spec"].get("hostname") else []
            lines.append(" ".join([each["status"]["podIP"], *names, *own]))
    return "\n".join(lines) + "\n"
