"""IAM's GetRole, for the one role that there is: the one that callers have assumed (`sts`).

SDKs look up its path, and whether SageMaker may assume it. Of any other role nothing is said: an ExecutionRoleArn need
not exist here, so NoSuchEntity would make clients refuse one that hostler takes.
"""

from __future__ import annotations

from urllib.parse import quote

import msgspec

from hostler import names
from hostler.control import sts
from hostler.control.context import Context, Function
from hostler.errors import ApiError
from hostler.store.records import Document
from hostler.text import quoted

_CREATED = 1704067200.0  # 2024-01-01
_TRUST = {
    "Version": "2012-10-17",
    "Statement": [{"Effect": "Allow", "Principal": {"Service": "sagemaker.amazonaws.com"}, "Action": "sts:AssumeRole"}],
}


async def get_role(context: Context, region: str, request: Document) -> Document:
    name, partition = request["RoleName"], names.partition(region)
    if name != sts.ROLE:
        message = (
            f"User: {sts.caller(region)} is not authorized to perform: iam:GetRole on resource: role {quoted(name)}."
        )
        raise ApiError("AccessDeniedException", f"{message} hostler has one role, {sts.ROLE}.")
    role = {
        "Path": "/",
        "RoleName": name,
        "RoleId": sts.ROLE_ID,
        "Arn": f"arn:{partition}:iam::{names.ACCOUNT}:role/{name}",
        "CreateDate": _CREATED,
        "AssumeRolePolicyDocument": quote(msgspec.json.encode(_TRUST)),
        "MaxSessionDuration": 3600,
    }
    return {"Role": role}


OPERATIONS: dict[str, Function] = {"GetRole": get_role}
