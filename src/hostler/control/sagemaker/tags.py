"""AddTags, ListTags, DeleteTags, and the inline Tags of the Create calls (§2.13)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hostler import names
from hostler.control.context import Context
from hostler.control.sagemaker.aws_messages import could_not_find
from hostler.control.sagemaker.listing import read_token, write_token
from hostler.core.targets import policy
from hostler.errors import ValidationException
from hostler.store.records import Document
from hostler.store.store import NoResource, TooManyTags

_MOST = 50  # tags of one resource, and of one page
_ARN = re.compile(r"arn:[a-z-]+:sagemaker:([a-z0-9-]*):(\d{12}):(model|endpoint-config|endpoint)/(.+)", re.DOTALL)


class _Resource(NamedTuple):
    kind: str  # as in ARNs
    region: str
    name: str

    @property
    def arn(self) -> str:
        return names.arn(*self)


async def add_tags(context: Context, region: str, request: Document) -> Document:
    resource = _resource(region, request["ResourceArn"])
    try:
        tags = await context.store_call(context.store.add_tags, resource.arn, tagged(request["Tags"]), _MOST)
    except NoResource:
        raise could_not_find(*resource) from None
    except TooManyTags:
        raise ValidationException(f"A resource can have {_MOST} tags at most.") from None
    context.lifecycle.wake()  # some of an endpoint's say what becomes of its targets
    return {"Tags": _listed(tags)}


async def list_tags(context: Context, region: str, request: Document) -> Document:
    resource = _resource(region, request["ResourceArn"])
    question = ["ListTags", resource.arn]
    after = read_token(request["NextToken"], question, 1)[0] if "NextToken" in request else ""
    try:
        tags = await context.store_call(context.store.list_tags, resource.arn)
    except NoResource:
        raise could_not_find(*resource) from None
    rest = {key: value for key, value in tags.items() if key > after}
    shown = dict(list(rest.items())[: request.get("MaxResults", _MOST)])
    return {
        "Tags": _listed(shown),
        "NextToken": write_token(question, [list(shown)[-1]]) if len(shown) < len(rest) else None,
    }


async def delete_tags(context: Context, region: str, request: Document) -> Document:
    resource = _resource(region, request["ResourceArn"])
    try:
        await context.store_call(context.store.delete_tags, resource.arn, request["TagKeys"])
    except NoResource:
        raise could_not_find(*resource) from None
    context.lifecycle.wake()
    return {}


def tagged(tags: Sequence[Document]) -> dict[str, str]:
    """A request's Tags by key. Raises ValidationException for a key given twice, for one that AWS keeps to itself, and
    for one of ours that says nothing. (The SageMaker SDK gives an endpoint's tags to its model and its config, too.)
    """
    found = {tag["Key"]: tag["Value"] for tag in tags}
    if len(found) < len(tags):
        raise ValidationException("Tag keys must be unique within a request.")
    if any(key.lower().startswith("aws:") for key in found):
        raise ValidationException("Tag keys must not begin with aws:, which is reserved.")
    try:
        for key, value in found.items():
            policy.check(key, value)
    except ValueError as error:
        raise ValidationException(str(error)) from None
    return found


def _listed(tags: dict[str, str]) -> list[Document]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _resource(region: str, arn: str) -> _Resource:
    """The resource that an ARN in any letter case names. Raises ValidationException for one that cannot be here."""
    match = _ARN.fullmatch(arn)
    if match is None:
        raise ValidationException(f'"{arn}" is not the ARN of a resource that is hosted here.')
    there, account, kind, name = match.groups()
    if (there, account) != (region, names.ACCOUNT):
        raise ValidationException(f'"{arn}" is not of this region ({region}) and account ({names.ACCOUNT}).')
    return _Resource(kind, region, name)
