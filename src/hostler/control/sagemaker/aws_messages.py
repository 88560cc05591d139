"""The sentences by which clients recognise what happened (§2.0). Their wording is part of the API: never change it."""

from __future__ import annotations

from hostler import names
from hostler.errors import ValidationException

_WORDS = {"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}


def could_not_find(kind: str, region: str, name: str) -> ValidationException:
    """There is no `kind` (as in ARNs) of that name."""
    return ValidationException(f'Could not find {_WORDS[kind]} "{names.arn(kind, region, name)}".')


def already_exists(kind: str, region: str, name: str) -> ValidationException:
    return ValidationException(f'Cannot create already existing {_WORDS[kind]} "{names.arn(kind, region, name)}".')


def cannot_update(region: str, name: str, status: str = "") -> ValidationException:
    """The endpoint is not InService. (AWS's sentence is not verified, §2.0; what is added for two statuses is ours.)"""
    why = {
        "Failed": " It has failed; only DeleteEndpoint is possible.",
        "Deleting": " It is being deleted.",
    }.get(status, "")
    return ValidationException(f'Cannot update in-progress endpoint "{names.arn("endpoint", region, name)}".{why}')


def not_hosted(feature: str) -> ValidationException:
    """SageMaker has the feature and we do not: said at once, so that nothing half works in silence."""
    return ValidationException(f"{feature} is a feature of SageMaker that is not hosted here.")
