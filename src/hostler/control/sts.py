"""STS's GetCallerIdentity, by which SDKs find account and role (§1.1)."""

from __future__ import annotations

from hostler import names
from hostler.control.context import Context, Function
from hostler.store.records import Document

ROLE = "hostler"  # the role that callers have assumed, because SDKs look for one


async def get_caller_identity(context: Context, region: str, request: Document) -> Document:
    arn = f"arn:{names.partition(region)}:sts::{names.ACCOUNT}:assumed-role/{ROLE}/hostler"
    return {"UserId": "AROAHOSTLER:hostler", "Account": names.ACCOUNT, "Arn": arn}


OPERATIONS: dict[str, Function] = {"GetCallerIdentity": get_caller_identity}
