"""/_hostler/faults: set, show and delete faults on purpose; docs/faults.md has the members of a rule.

Errors have the form of AWS's REST JSON APIs. What a fault does, core/faults.py and the gateways know.
"""

from __future__ import annotations

import uuid
from dataclasses import replace
from typing import Any

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response

from hostler import names
from hostler.aws import errors, json_protocol
from hostler.aws.classify import HOSTLER, Call, Protocol
from hostler.control.context import Context
from hostler.control.sagemaker import aws_messages
from hostler.core.faults import KINDS, Rule, check
from hostler.errors import ApiError, ValidationException

OFF = "Faults on purpose are off; the setting faults = true allows them, for tests."
_BODY_MAX = 2**16  # bytes
_CALL = Call(HOSTLER, Protocol.PAGE, "")
_MEMBERS = frozenset(Rule.__dataclass_fields__)


async def page(context: Context, request: Request) -> Response:
    """Answer GET (all rules), PUT (a rule) and DELETE (the rule of an id, or all)."""
    try:
        if not context.settings.faults:
            raise ApiError("AccessDeniedException", OFF, 403)
        match request.method:
            case "PUT":
                answer = await _put(context, request)
            case "DELETE":
                id = request.query_params.get("id")
                answer = {"removed": context.faults.remove(None if id is None else [id])}
            case _:
                answer = {"faults": context.faults.described()}
    except ApiError as error:
        refusal = errors.render(_CALL, error, str(uuid.uuid4()))
        return Response(refusal.body, refusal.status, refusal.headers, refusal.content_type)
    except ClientDisconnect:
        return Response()  # the client is gone
    return Response(msgspec.json.encode(answer), media_type="application/json")


async def _put(context: Context, request: Request) -> dict[str, object]:
    rule = read(await _body(request))
    faults = context.faults
    if not rule.id:
        rule = replace(rule, id=faults.new_id())
    if faults.full(rule.id):
        raise ValidationException("There are too many faults already; delete some of them.")
    if not rule.endpoint:
        await faults.put(rule, "")
        return rule.described()
    rule = replace(rule, region=rule.region or context.settings.region)
    uid = await _endpoint(context, rule)
    await faults.put(rule, uid)
    try:
        if await _endpoint(context, rule) != uid:  # it was deleted meanwhile
            raise _unknown(rule)
    except ApiError:
        faults.remove([rule.id])
        raise
    return rule.described()


async def _endpoint(context: Context, rule: Rule) -> str:
    """Return the uid of the rule's endpoint. Raises ValidationException if there is none, or it is being deleted."""
    record = await context.store_thread.call(context.store.endpoint, rule.region, rule.endpoint)
    if record is None or record.deleting or record.name != rule.endpoint:  # calls name it in the same letters
        raise _unknown(rule)
    return record.uid


def _unknown(rule: Rule) -> ValidationException:
    return aws_messages.could_not_find("endpoint", rule.region, rule.endpoint)


def read(body: bytes) -> Rule:
    """Return the rule of a request's body. Raises ValidationException or SerializationException."""
    document: dict[str, Any] = json_protocol.parse(body)
    if unknown := sorted(document.keys() - _MEMBERS):
        known = ", ".join(sorted(_MEMBERS))
        raise ValidationException(f"A fault has no member {unknown[0]!r}; its members are {known}.")
    if "effect" not in document:
        raise ValidationException(f"effect is missing; it is one of {', '.join(KINDS)}.")
    if document["effect"] not in [*KINDS]:
        raise ValidationException(f"effect must be one of {', '.join(KINDS)}.")
    try:
        rule = msgspec.convert(document, Rule)
    except msgspec.ValidationError as error:
        raise ValidationException(f"The fault's members have wrong types: {error}.") from None
    try:
        check(rule)
        return replace(rule, target=names.target_model(rule.target)) if rule.target else rule
    except names.UnsafeName as error:
        raise ValidationException(f"target is no TargetModel: {error}.") from None
    except ValueError as error:
        raise ValidationException(str(error)) from None


async def _body(request: Request) -> bytes:
    """Read the body. Raises ValidationException for one that is too long."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > _BODY_MAX:
            raise ValidationException(f"A fault must have at most {_BODY_MAX} bytes.")
    return bytes(body)
