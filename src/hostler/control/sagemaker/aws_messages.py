"""AWS's sentences, by which clients recognise an error (§2.0). Their wording is part of the API: never change it."""

from __future__ import annotations

from hostler import names
from hostler.errors import ValidationException

_WORDS = {"model": "model", "endpoint-config": "endpoint configuration", "endpoint": "endpoint"}


def could_not_find(kind: str, region: str, name: str) -> ValidationException:
    """Return the error for a missing resource; `kind` as in ARNs."""
    return ValidationException(f'Could not find {_WORDS[kind]} "{names.arn(kind, region, name)}".')


def already_exists(kind: str, region: str, name: str) -> ValidationException:
    return ValidationException(f'Cannot create already existing {_WORDS[kind]} "{names.arn(kind, region, name)}".')


def cannot_update(region: str, name: str, status: str = "") -> ValidationException:
    """Return the error for an endpoint that is not InService. The sentence is unverified (§2.0), additions are ours."""
    addition = {
        "Failed": " It has failed; only DeleteEndpoint is possible.",
        "Deleting": " It is being deleted.",
    }.get(status, "")
    return ValidationException(f'Cannot update in-progress endpoint "{names.arn("endpoint", region, name)}".{addition}')


def not_hosted(feature: str) -> ValidationException:
    """Return the error for a SageMaker feature that is absent here. Raise it early: no call may work in part."""
    return ValidationException(f"{feature} is a feature of SageMaker that is not hosted here.")
