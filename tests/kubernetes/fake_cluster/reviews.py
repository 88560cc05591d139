"""Questions about tokens and rights, of which nothing is kept: TokenReview, SelfSubjectAccessReview, TokenRequest."""

from __future__ import annotations

import datetime

from fake_cluster import admission, refusals
from fake_cluster.access import AUDIENCE, Access, Question, User
from fake_cluster.kinds import ACCESS_REVIEW, SELF_REVIEW, TOKEN_REVIEW, Kind, Place
from fake_cluster.store import Object, stamp

KINDS = (TOKEN_REVIEW, SELF_REVIEW, ACCESS_REVIEW)


def answer(access: Access, user: User, kind: Kind, body: Object) -> Object:
    """Return the question with its answer. Raises Refusal."""
    body.setdefault("metadata", {})
    admission.fits_schema(kind, body)
    spec = body["spec"]
    if kind is TOKEN_REVIEW:
        return {**body, "status": _token_status(access, spec)}
    if kind is ACCESS_REVIEW:
        user = User(spec.get("user", ""), tuple(spec.get("groups") or ()))
    asked = spec.get("resourceAttributes") or {}
    question = Question(
        asked.get("verb", ""),
        asked.get("group", ""),
        asked.get("resource", ""),
        asked.get("subresource", ""),
        asked.get("namespace", ""),
        asked.get("name", ""),
    )
    return {**body, "status": {"allowed": access.may(user, question)}}


def _token_status(access: Access, spec: Object) -> Object:
    known = access.user(spec.get("token", ""), spec.get("audiences") or (AUDIENCE,))
    if not known:
        return {"authenticated": False, "error": "[invalid bearer token, token lookup failed]"}
    user, audiences = known
    return {"authenticated": True, "user": user.document(), "audiences": audiences}


def token(access: Access, place: Place, body: Object) -> Object:
    """Make a token of a service account. Raises Refusal."""
    spec = body.get("spec") or {}
    if not isinstance(spec, dict):
        raise refusals.bad_request("spec must be an object")
    seconds = int(spec.get("expirationSeconds") or 3600)
    audiences = spec.get("audiences") or [AUDIENCE]
    bound = (spec.get("boundObjectRef") or {}).get("name", "")
    made = access.token(place.namespace, place.name, audiences[0], bound, seconds)
    until = stamp(datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=seconds))
    return {**body, "status": {"token": made, "expirationTimestamp": until}}
