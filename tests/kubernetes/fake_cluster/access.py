"""Who asks, and what they may do: tokens of service accounts, and the roles that are bound to them.

A token has the form of Kubernetes' (a JWT), and names audience, pod and end. It is good for as long as its service
account and its pod are there.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import json
import secrets
import time
from collections.abc import Iterable, Iterator
from dataclasses import dataclass, field
from typing import Any

from fake_cluster.kinds import BINDING, CLUSTER_BINDING, CLUSTER_ROLE, POD, ROLE, SERVICE_ACCOUNT
from fake_cluster.store import Object, Store

AUDIENCE = "https://kubernetes.default.svc"  # of the API server itself
ADMIN = "kubernetes-admin"
_MASTERS = "system:masters"  # who may do everything


@dataclass(frozen=True)
class User:
    name: str
    groups: tuple[str, ...] = ()
    uid: str = ""
    extra: dict[str, list[str]] = field(default_factory=dict)

    def document(self) -> dict[str, Any]:
        shown = {"username": self.name, "uid": self.uid, "groups": list(self.groups), "extra": self.extra}
        return {key: value for key, value in shown.items() if value}


@dataclass(frozen=True)
class Question:
    """What somebody wants to do."""

    verb: str
    group: str
    resource: str  # the plural
    subresource: str = ""
    namespace: str = ""
    name: str = ""


class Access:
    """Makes tokens, knows them again, and asks the roles."""

    def __init__(self, store: Store) -> None:
        self._store = store
        self._key = secrets.token_bytes(32)
        self.admin = secrets.token_urlsafe(24)  # the token of whom no role binds

    # --- tokens

    def token(self, namespace: str, account: str, audience: str = "", pod: str = "", seconds: float = 3600) -> str:
        """Make a token of a service account. Raises Refusal without the account or the pod."""
        known = self._store.get(SERVICE_ACCOUNT, namespace, account)
        bound: dict[str, Any] = {"name": account, "uid": known["metadata"]["uid"]}
        claims: dict[str, Any] = {"namespace": namespace, "serviceaccount": bound}
        if pod:
            claims["pod"] = {"name": pod, "uid": self._store.get(POD, namespace, pod)["metadata"]["uid"]}
        at = int(time.time())
        body = {
            "aud": [audience or AUDIENCE],
            "exp": int(time.time() + seconds),
            "iat": at,
            "jti": secrets.token_hex(8),
            "iss": AUDIENCE,
            "sub": f"system:serviceaccount:{namespace}:{account}",
            "kubernetes.io": claims,
        }
        text = f"{_packed({'alg': 'HS256', 'typ': 'JWT'})}.{_packed(body)}"
        return f"{text}.{self._signature(text)}"

    def user(self, token: str, audiences: Iterable[str] = (AUDIENCE,)) -> tuple[User, list[str]] | None:
        """Return whose token it is, and for which of the audiences it is good; None if for none."""
        if hmac.compare_digest(token.encode(), self.admin.encode()):
            return User(ADMIN, (_MASTERS, "system:authenticated")), list(audiences)
        text, _, signature = token.rpartition(".")
        if not text or not hmac.compare_digest(signature.encode(), self._signature(text).encode()):
            return None
        body = json.loads(_unpacked(text.split(".")[1]))
        good = [audience for audience in audiences if audience in body["aud"]]
        if not good or body["exp"] <= time.time():
            return None
        claims = body["kubernetes.io"]
        namespace, account = claims["namespace"], claims["serviceaccount"]
        known = self._store.find(SERVICE_ACCOUNT, namespace, account["name"])
        if not known or known["metadata"]["uid"] != account["uid"]:
            return None
        extra = {"authentication.kubernetes.io/credential-id": [f"JTI={body['jti']}"]}
        if pod := claims.get("pod"):
            running = self._store.find(POD, namespace, pod["name"])
            if not running or running["metadata"]["uid"] != pod["uid"]:
                return None
            extra["authentication.kubernetes.io/pod-name"] = [pod["name"]]
            extra["authentication.kubernetes.io/pod-uid"] = [pod["uid"]]
        groups = ("system:serviceaccounts", f"system:serviceaccounts:{namespace}", "system:authenticated")
        return User(body["sub"], groups, account["uid"], extra), good

    def _signature(self, text: str) -> str:
        digest = hmac.new(self._key, text.encode(), hashlib.sha256).digest()
        return base64.urlsafe_b64encode(digest).decode().rstrip("=")

    # --- roles

    def may(self, user: User, question: Question) -> bool:
        if _MASTERS in user.groups:
            return True
        if question.group == "authorization.k8s.io" and question.resource == "selfsubjectaccessreviews":
            return True  # by the role system:basic-user, which everybody has
        return any(_allows(rule, question) for rule in self._rules(user, question.namespace))

    def _rules(self, user: User, namespace: str) -> Iterator[Object]:
        for binding in self._store.list(CLUSTER_BINDING):
            if _binds(binding, user):
                yield from self._role(binding, "")
        for binding in self._store.list(BINDING, namespace) if namespace else ():
            if _binds(binding, user):
                yield from self._role(binding, namespace)

    def _role(self, binding: Object, namespace: str) -> Iterable[Object]:
        reference = binding["roleRef"]
        kind = ROLE if reference["kind"] == "Role" else CLUSTER_ROLE
        role = self._store.find(kind, namespace if kind is ROLE else "", reference["name"])
        return (role or {}).get("rules") or ()


def _binds(binding: Object, user: User) -> bool:
    for subject in binding.get("subjects") or ():
        if subject["kind"] == "ServiceAccount":
            home = subject.get("namespace") or binding["metadata"].get("namespace", "")
            if user.name == f"system:serviceaccount:{home}:{subject['name']}":
                return True
        elif subject["name"] == user.name or (subject["kind"] == "Group" and subject["name"] in user.groups):
            return True
    return False


def _allows(rule: Object, question: Question) -> bool:
    resource = f"{question.resource}/{question.subresource}" if question.subresource else question.resource
    names = rule.get("resourceNames") or []
    return (
        _has(rule.get("verbs"), question.verb)
        and _has(rule.get("apiGroups"), question.group)
        and (_has(rule.get("resources"), resource) or f"*/{question.subresource}" in rule.get("resources", ()))
        and (not names or question.name in names)
    )


def _has(allowed: list[str] | None, wanted: str) -> bool:
    return bool(allowed) and ("*" in allowed or wanted in allowed)


def _packed(document: object) -> str:
    return base64.urlsafe_b64encode(json.dumps(document).encode()).decode().rstrip("=")


def _unpacked(text: str) -> bytes:
    return base64.urlsafe_b64decode(text + "=" * (-len(text) % 4))
