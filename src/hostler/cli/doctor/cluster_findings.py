"""What a cluster lacks, decided from what was seen of it."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterator, Sequence
from itertools import groupby

from hostler.cli.doctor.cluster import Cluster, Object, minor
from hostler.cli.doctor.finding import Finding
from hostler.cli.doctor.rights import OF_ZONES, TO_GIVE, Right, Where

OLDEST = (1, 30)  # native sidecars, and preStop's sleep
_PODS_SAY_ZONES = (1, 35)
_LEVEL = "pod-security.kubernetes.io/enforce"
_DEFAULT = "storageclass.kubernetes.io/is-default-class"
_ZONE = "topology.kubernetes.io/zone"
_ASK = "Ask for it, or let another install"
# By which values the chart has nothing that is of the whole cluster.
_WITHOUT = "links.tokenReview=false, instances.showZones=false, instances.createNamespace=false"


def find(cluster: Cluster) -> Iterator[Finding]:
    """Yield a finding for each subject; what this user may not see has none."""
    yield from _version(cluster)
    yield from _rights(cluster)
    yield from _namespaces(cluster)
    yield from _pods(cluster)
    for each in cluster.missing:
        yield Finding("error", "secrets", f"there is no {each}", "Pods wait for it: create it there")
    yield from _policies(cluster)
    yield from _storage(cluster)
    if not cluster.in_pod and not cluster.metrics:
        yield Finding(
            "warning", "autoscaling", "there are no metrics of pods: the number of gateways stays as it is",
            "Install metrics-server, or set gateways.autoscaling.enabled=false and gateways.replicas",
        )  # fmt: skip


def _version(cluster: Cluster) -> Iterator[Finding]:
    newest = ".".join(map(str, OLDEST))
    if minor(cluster.version) < OLDEST:
        yield Finding("error", "version", f"{cluster.version} at {cluster.server}", f"hostler needs {newest} or newer")
    else:
        yield Finding("ok", "version", f"{cluster.version} at {cluster.server}")
    if cluster.nodes is None:
        return
    old = [each for each in cluster.nodes if (0, 0) < minor(_kubelet(each)) < OLDEST]
    if old:
        yield Finding(
            "error", "nodes", f"the kubelet of {_name(old[0])} is too old: it starts no agent before the models",
            "Upgrade the node",
        )  # fmt: skip
    usable = [each for each in cluster.nodes if _is_ready(each) and not each["spec"].get("unschedulable")]
    zones = {each["metadata"].get("labels", {}).get(_ZONE) for each in usable} - {None}
    says = f"{len(usable)} of {len(cluster.nodes)} take pods, in {max(1, len(zones))} zones"
    if not usable:
        yield Finding("error", "nodes", says, "Nothing can run: add a node")
    elif len(usable) == 1:
        yield Finding("warning", "nodes", says, "With a single node, its end is hostler's: add another")
    else:
        yield Finding("ok", "nodes", says)


def _rights(cluster: Cluster) -> Iterator[Finding]:
    whose = "control" if cluster.installed else "you"
    lacks = [right for right in cluster.lacks or () if right != OF_ZONES]
    for place, where, rights in _by_place(cluster, lacks):
        helps = "The chart's Role gives it: is it bound?" if cluster.installed else _ASK
        if where == "cluster" and not cluster.installed:
            helps = f"{_ASK}; or do without ({_WITHOUT})"
        yield Finding("error", "rights", f"{whose} may not {rights}{place}", helps)
    for place, where, rights in _by_place(cluster, cluster.cannot_give):
        escalate = TO_GIVE[where]
        helps = f"{_ASK}: Kubernetes lets nobody give rights that they lack, without the right to {escalate}"
        yield Finding("error", "rights", f"you may not let control {rights}{place}", helps)
    if cluster.lacks is not None and not lacks and not cluster.cannot_give:  # else who may not ask learns nothing
        yield Finding("ok", "rights", f"{whose} may do all that is needed")
    if OF_ZONES in (cluster.lacks or ()) and minor(cluster.version) < _PODS_SAY_ZONES:
        yield Finding(
            "warning", "zones", "control may not get nodes: hostler ls shows no zones", "Set instances.showZones=true"
        )
    if cluster.token_review:
        yield Finding(
            "error", "tokens", f"control cannot ask whose a token is: {cluster.token_review}",
            "Let control create tokenreviews, or set links.tokenReview=false",
        )  # fmt: skip


def _by_place(cluster: Cluster, rights: Sequence[Right]) -> Iterator[tuple[str, Where, str]]:
    """Yield ` in <namespace>`, or nothing for the whole cluster; where that is; and the rights there, as text."""
    names = {"instances": cluster.names.instances, "control": cluster.names.control}
    for where, group in groupby(rights, lambda right: right.where):
        yield f" in {names[where]}" if where in names else "", where, ", ".join(map(str, group))


def _namespaces(cluster: Cluster) -> Iterator[Finding]:
    for name, namespace in cluster.namespaces.items():
        if namespace is None and cluster.installed:
            yield Finding("error", "namespaces", f"{name} is missing", "helm upgrade --install makes it")
        elif namespace is None:
            yield Finding("ok", "namespaces", f"{name} is free")
    namespace = cluster.namespaces.get(cluster.names.instances)
    if namespace is None:
        return
    level = namespace["metadata"].get("labels", {}).get(_LEVEL, "")
    says = f"{cluster.names.instances} enforces {level or 'nothing'}"
    if level == "restricted" and cluster.names.runs_as_root:
        yield Finding(
            "error", "pod security", f"{says}: the pods of users' images are refused",
            "Set instances.runAsNonRoot=true, if the images can do without root, or label the namespace baseline",
        )  # fmt: skip
    elif level in ("baseline", "restricted"):
        yield Finding("ok", "pod security", says)
    else:
        helps = f"kubectl label namespace {cluster.names.instances} {_LEVEL}=baseline"
        yield Finding("warning", "pod security", f"{says}: a pod there may do anything to its node", helps)


def _pods(cluster: Cluster) -> Iterator[Finding]:
    if not cluster.installed or cluster.pods is None:
        return
    ready: Counter[str] = Counter()
    for pod in cluster.pods:
        part = pod["metadata"].get("labels", {}).get("app.kubernetes.io/component", "")
        if not part:
            continue
        ready[part] += _is_ready(pod)
        if trouble := _trouble(pod):
            asks = "logs --previous" if trouble.startswith("CrashLoopBackOff") else "describe pod"
            helps = f"kubectl -n {cluster.names.control} {asks} {_name(pod)}"
            yield Finding("error", "pods", f"{_name(pod)}: {trouble}", helps)
    helps = f"kubectl -n {cluster.names.control} get pods"
    if ready["control"]:
        yield Finding("ok", "pods", "control is ready")
    else:
        yield Finding("error", "pods", "control is not ready", helps)
    if count := ready["gateway"]:
        yield Finding("ok", "pods", f"{count} {'gateway is' if count == 1 else 'gateways are'} ready")
    else:
        yield Finding("error", "pods", "no gateway is ready", helps)


def _trouble(pod: Object) -> str:
    """Return why a pod does not run; empty if it does, or is about to."""
    status = pod.get("status", {})
    for each in status.get("containerStatuses", []):
        waiting = each.get("state", {}).get("waiting")
        if waiting and waiting.get("reason") not in ("ContainerCreating", "PodInitializing"):
            return " ".join(filter(None, (f"{waiting.get('reason')}:", waiting.get("message", ""))))
    for each in status.get("conditions", []):
        if (each["type"], each["status"]) == ("PodScheduled", "False"):
            return f"it has no node: {each.get('message', '')}"
    return ""


def _policies(cluster: Cluster) -> Iterator[Finding]:
    if cluster.probe == "enforced":
        yield Finding("ok", "network", "an isolated pod reaches nobody but control")
    elif cluster.probe == "open" and cluster.policies == []:
        yield Finding(
            "error", "network", "an isolated pod reaches what it should not: there is no NetworkPolicy",
            "Set networkPolicy.enabled=true",
        )  # fmt: skip
    elif cluster.probe == "open":
        yield Finding(
            "error", "network", "an isolated pod reaches what it should not: NetworkPolicies are not enforced here",
            "Install a network that enforces them, such as Calico or Cilium; until then EnableNetworkIsolation isolates"
            " nothing",
        )  # fmt: skip
    elif cluster.probe:
        yield Finding("warning", "network", cluster.probe)
    elif cluster.installed and cluster.policies == []:
        yield Finding(
            "warning", "network", f"there is no NetworkPolicy in {cluster.names.instances}", "Set networkPolicy.enabled"
        )
    elif not cluster.in_pod:
        yield Finding(
            "ok",
            "network",
            "whether NetworkPolicies are enforced is not known",
            "`hostler doctor --cluster --probe` tries",
        )


def _storage(cluster: Cluster) -> Iterator[Finding]:
    for claim in cluster.claims or []:
        phase = claim.get("status", {}).get("phase", "Pending")
        if phase == "Bound":
            yield Finding("ok", "storage", f"control's volume is bound ({_name(claim)})")
        else:
            helps = f"kubectl -n {cluster.names.control} describe pvc {_name(claim)}"
            yield Finding("error", "storage", f"control's volume is {phase} ({_name(claim)})", helps)
    if cluster.installed or cluster.classes is None:
        return
    default = [
        _name(each) for each in cluster.classes if each["metadata"].get("annotations", {}).get(_DEFAULT) == "true"
    ]
    if default:
        yield Finding("ok", "storage", f"the default class is {default[0]}")
    else:
        there = ", ".join(map(_name, cluster.classes)) or "none at all"
        yield Finding("error", "storage", f"no class is the default; there is {there}", "Set control.storage.className")


def _is_ready(each: Object) -> bool:
    conditions = each.get("status", {}).get("conditions", [])
    return any((one["type"], one["status"]) == ("Ready", "True") for one in conditions)


def _kubelet(node: Object) -> str:
    """Return the version of a node's kubelet; empty before it has said it."""
    return str(node.get("status", {}).get("nodeInfo", {}).get("kubeletVersion", ""))


def _name(each: Object) -> str:
    return str(each["metadata"]["name"])
