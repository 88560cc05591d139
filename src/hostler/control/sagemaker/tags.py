"""AddTags, ListTags, DeleteTags, and the inline Tags of the Create calls (§2.13)."""

from __future__ import annotations

import re
from collections.abc import Sequence
from typing import NamedTuple

from hostler import names
from hostler.control import page_tokens
from hostler.control.context import Context
from hostler.control.sagemaker.aws_messages import could_not_find
from hostler.control.sagemaker.paging import read_token
from hostler.core.targets import tags as target_tags
from hostler.errors import ValidationException
from hostler.store.records import Document
from hostler.store.store import ResourceNotFound, TooManyTags

_MAX_TAGS = 50  # tags of one resource, and of one page
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
        tags = await context.store_thread.call(
            context.store.add_tags, resource.arn, read_tags(request["Tags"]), _MAX_TAGS
        )
    except ResourceNotFound:
        raise could_not_find(*resource) from None
    except TooManyTags:
        raise ValidationException(f"A resource can have {_MAX_TAGS} tags at most.") from None
    context.lifecycle.wake()  # an endpoint's tags may be policy of its targets
    return {"Tags": _as_list(tags)}


async def list_tags(context: Context, region: str, request: Document) -> Document:
    resource = _resource(region, request["ResourceArn"])
    query_key = ["ListTags", resource.arn]
    after = read_token(request["NextToken"], query_key, str)[0] if "NextToken" in request else ""
    try:
        tags = await context.store_thread.call(context.store.list_tags, resource.arn)
    except ResourceNotFound:
        raise could_not_find(*resource) from None
    remaining = {key: value for key, value in tags.items() if key > after}
    page = dict(list(remaining.items())[: request.get("MaxResults", _MAX_TAGS)])
    return {
        "Tags": _as_list(page),
        "NextToken": page_tokens.write(query_key, list(page)[-1]) if len(page) < len(remaining) else None,
    }


async def delete_tags(context: Context, region: str, request: Document) -> Document:
    resource = _resource(region, request["ResourceArn"])
    try:
        await context.store_thread.call(context.store.delete_tags, resource.arn, request["TagKeys"])
    except ResourceNotFound:
        raise could_not_find(*resource) from None
    context.lifecycle.wake()
    return {}


def read_tags(tags: Sequence[Document]) -> dict[str, str]:
    """Return a request's Tags by key.

    Raises ValidationException for a duplicate key, for one that AWS reserves, and for an invalid value of one of ours.
    That holds for every resource: the SageMaker SDK gives an endpoint's tags to its model and its config, too.
    """
    values = {tag["Key"]: tag["Value"] for tag in tags}
    if len(values) < len(tags):
        raise ValidationException("Tag keys must be unique within a request.")
    if any(key.lower().startswith("aws:") for key in values):
        raise ValidationException("Tag keys must not begin with aws:, which is reserved.")
    try:
        for key, value in values.items():
            target_tags.check(key, value)
    except ValueError as error:
        raise ValidationException(str(error)) from None
    return values


def _as_list(tags: dict[str, str]) -> list[Document]:
    return [{"Key": key, "Value": value} for key, value in tags.items()]


def _resource(region: str, arn: str) -> _Resource:
    """Parse an ARN, in any letter case. Raises ValidationException for one that cannot be of a resource here."""
    match = _ARN.fullmatch(arn)
    if match is None:
        raise ValidationException(f'"{arn}" is not the ARN of a resource that is hosted here.')
    arn_region, account, kind, name = match.groups()
    if (arn_region, account) != (region, names.ACCOUNT):
        raise ValidationException(f'"{arn}" is not of this region ({region}) and account ({names.ACCOUNT}).')
    return _Resource(kind, region, name)
