"""STS's GetCallerIdentity, by which SDKs find account and role (§1.1)."""

from __future__ import annotations

from hostler import names
from hostler.control.context import Context, Function
from hostler.store.records import Document

ROLE = "hostler"  # the role that callers have assumed, because SDKs look for one
ROLE_ID = "AROAHOSTLER0000000000"


def caller(region: str) -> str:
    """Return the ARN of whoever calls."""
    return f"arn:{names.partition(region)}:sts::{names.ACCOUNT}:assumed-role/{ROLE}/hostler"


async def get_caller_identity(context: Context, region: str, request: Document) -> Document:
    return {"UserId": f"{ROLE_ID}:hostler", "Account": names.ACCOUNT, "Arn": caller(region)}


OPERATIONS: dict[str, Function] = {"GetCallerIdentity": get_caller_identity}
