"""Looks at a cluster through its API. It changes nothing but for the probe, a pod that it removes again."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any

from hostler.cli.doctor.kubernetes_api import METADATA, Api
from hostler.cli.doctor.rights import OF_CONTROL, OF_HELM, OF_INSTALLER, TO_GIVE, Right, Where
from hostler.errors import UserError
from hostler.settings import Settings

_REVIEWS = "/apis/authorization.k8s.io/v1"
_OURS = "app.kubernetes.io/name=hostler"
Object = dict[str, Any]


@dataclass(frozen=True)
class Names:
    """What hostler is called in this cluster."""

    control: str  # the namespaces
    instances: str
    release: str
    image: str
    pull_secrets: tuple[str, ...] = ()
    runs_as_root: bool = True  # users' images may
    reviews_tokens: bool = True  # else links prove who they are by tokens of a file
    link_ca: str = ""  # the instances' ConfigMap with the links' authority


@dataclass(frozen=True)
class Cluster:
    """What was seen. None: this user may not look. `objects` are as Kubernetes has them."""

    server: str
    version: str
    names: Names
    in_pod: bool  # it is control that looks
    installed: bool
    lacks: tuple[Right, ...] | None  # of control's rights; before the installation, of the installer's
    cannot_give: tuple[Right, ...]  # before the installation: rights of control that the installer may not give
    token_review: str  # why whose a token is cannot be asked; empty: it can, or that is another's matter
    namespaces: Mapping[str, Object | None]  # None: it is missing
    nodes: list[Object] | None
    pods: list[Object] | None  # of control and the gateways
    policies: list[Object] | None  # NetworkPolicies of the instances
    classes: list[Object] | None  # of storage
    claims: list[Object] | None  # of control's volume
    missing: tuple[str, ...]  # Secrets and ConfigMaps that pods wait for
    metrics: bool  # of pods' CPU, for the autoscaler
    probe: str  # "": there was none; else `enforced`, `open`, or why it said nothing


def look(settings: Settings, namespace: str, probe: bool, api: Api | None = None) -> Cluster:
    """Return what there is. Raises UserError if the API does not answer, or knows not who asks."""
    from hostler.cli.doctor import probe as probes

    with api or Api() as api:
        version = api.get("/version")
        if version.status == 401:
            raise UserError(f"{api.server} does not know who asks: {version.message}")
        names, installed = _names(api, settings, namespace or settings.kubernetes.control_namespace)
        release, instances = f"/namespaces/{names.control}", f"/namespaces/{names.instances}"
        namespaces = {name: api.get(f"/api/v1/namespaces/{name}") for name in (names.control, names.instances)}
        pods = api.get(f"/api/v1{release}/pods", labelSelector=_OURS).items
        return Cluster(
            server=api.server,
            version=str(version.body.get("gitVersion", "")),
            names=names,
            in_pod=api.in_pod,
            installed=installed,
            lacks=_lacks(api, names, installed),
            cannot_give=() if installed else _cannot_give(api, names),
            token_review=_token_review(api) if api.in_pod and names.reviews_tokens else "",
            namespaces={
                name: answer.body if answer.ok else None
                for name, answer in namespaces.items()
                if answer.ok or answer.status == 404
            },
            nodes=api.get("/api/v1/nodes").items,
            pods=pods,
            policies=api.get(f"/apis/networking.k8s.io/v1{instances}/networkpolicies").items,
            classes=api.get("/apis/storage.k8s.io/v1/storageclasses").items,
            claims=api.get(f"/api/v1{release}/persistentvolumeclaims", labelSelector=_OURS).items,
            missing=tuple(
                f"{kind} {name} in {place}"
                for kind, place, name in _awaited(names, pods or [])
                if api.get(f"/api/v1/namespaces/{place}/{kind.lower()}s/{name}", METADATA).status == 404
            ),
            metrics=api.get("/apis/metrics.k8s.io/v1beta1").ok,
            probe=probes.run(api, names) if probe else "",
        )


def _names(api: Api, settings: Settings, namespace: str) -> tuple[Names, bool]:
    """Return the names, and whether the chart is installed there: its ConfigMap says how all is called."""
    answer = api.get(f"/api/v1/namespaces/{namespace}/configmaps", labelSelector=_OURS)
    for each in answer.items or []:
        try:
            settings_there = tomllib.loads(each["data"]["hostler.toml"])
            table = settings_there["kubernetes"]
            return Names(
                namespace, table["namespace"], each["metadata"]["name"], table["agent_image"],
                tuple(table["image_pull_secrets"]), not table["run_as_non_root"], "link_tokens" not in settings_there,
                table["link_ca"],
            ), True  # fmt: skip
        except (KeyError, TypeError, tomllib.TOMLDecodeError):
            continue
    own = settings.kubernetes
    instances = own.namespace if settings.engine == "kubernetes" else f"{namespace}-instances"
    release = own.service_account.removesuffix("-instance")
    names = Names(
        namespace, instances, release, own.agent_image, own.image_pull_secrets, not own.run_as_non_root,
        not settings.link_tokens,
    )  # fmt: skip
    return names, api.in_pod


def _awaited(names: Names, pods: list[Object]) -> list[tuple[str, str, str]]:
    """Return kind, namespace and name of what images are pulled with, and of what pods mount."""
    found = [("Secret", place, each) for each in names.pull_secrets for place in (names.control, names.instances)]
    if names.link_ca:
        found.append(("ConfigMap", names.instances, names.link_ca))
    for volume in (volume for pod in pods for volume in pod["spec"].get("volumes", [])):
        found.append(("Secret", names.control, volume.get("secret", {}).get("secretName", "")))
        for source in volume.get("projected", {}).get("sources", []):
            found.append(("Secret", names.control, source.get("secret", {}).get("name", "")))
    return [each for each in dict.fromkeys(found) if each[2]]


def _lacks(api: Api, names: Names, installed: bool) -> tuple[Right, ...] | None:
    """Return which rights are lacking: one's own, or where somebody else asks after the installation, control's."""
    if installed and not api.in_pod:
        control = f"system:serviceaccount:{names.control}:{names.release}-control"
        return _denied(api, names, OF_CONTROL, control)
    return _denied(api, names, OF_CONTROL if api.in_pod else (*OF_INSTALLER, *OF_HELM))


def _cannot_give(api: Api, names: Names) -> tuple[Right, ...]:
    """Return which of control's rights Kubernetes refuses in a Role that is made by who asks: those that it lacks."""
    lacks = _denied(api, names, OF_CONTROL) or ()
    barred = {right.where for right in _denied(api, names, tuple(TO_GIVE.values())) or ()}
    return tuple(right for right in lacks if right.where in barred)


def _denied(api: Api, names: Names, wanted: tuple[Right, ...], user: str = "") -> tuple[Right, ...] | None:
    """Return the rights that a user, or who asks, does not have; None: that may not be asked."""
    kind = "SubjectAccessReview" if user else "SelfSubjectAccessReview"
    denied = []
    for right in wanted:
        if right.resource == "tokenreviews" and not names.reviews_tokens:
            continue
        answer = api.post(f"{_REVIEWS}/{kind.lower()}s", _review(kind, {"user": user} if user else {}, right, names))
        if not answer.ok:
            return None
        if not answer.body.get("status", {}).get("allowed"):
            denied.append(right)
    return tuple(denied)


def _review(kind: str, spec: Object, right: Right, names: Names) -> Object:
    namespaces: dict[Where, str] = {"instances": names.instances, "control": names.control, "cluster": ""}
    resource, _, subresource = right.resource.partition("/")
    attributes = {
        "namespace": namespaces[right.where], "verb": right.verb, "group": right.group, "resource": resource,
        "subresource": subresource,
    }  # fmt: skip
    if right.resource == "configmaps" and right.verb == "get":
        attributes["name"] = f"{names.release}-instances"  # control may read this one alone
    return {
        "apiVersion": "authorization.k8s.io/v1",
        "kind": kind,
        "spec": {**spec, "resourceAttributes": attributes},
    }


def _token_review(api: Api) -> str:
    """Return why the API does not say whose a token is. It is asked about one that nobody has."""
    review = {
        "apiVersion": "authentication.k8s.io/v1",
        "kind": "TokenReview",
        "spec": {"token": "nobody's", "audiences": ["hostler"]},
    }
    answer = api.post("/apis/authentication.k8s.io/v1/tokenreviews", review)
    return "" if answer.ok else answer.message


def minor(version: str) -> tuple[int, int]:
    """Return (1, 36) of v1.36.3+k3s1; (0, 0) of any other text."""
    found = re.match(r"v?(\d+)\.(\d+)", version)
    return (int(found[1]), int(found[2])) if found else (0, 0)
