"""Check a DeploymentConfig (§3 rules 22, 32, 33). It is stored and shown, but does not change how an update runs."""

from __future__ import annotations

from collections.abc import Sequence

from hostler.errors import ValidationException
from hostler.store.records import Document

_SIZE_OF = {"CANARY": "CanarySize", "LINEAR": "LinearStepSize"}  # ALL_AT_ONCE has none
_SHARES = {"CanarySize": (0, 50), "LinearStepSize": (10, 50), "MaximumBatchSize": (5, 50)}  # percent of the instances


def check(deployment: Document, variants: Sequence[Document]) -> None:
    """Raise ValidationException for a DeploymentConfig that does not fit these ProductionVariants."""
    blue_green, rolling = deployment.get("BlueGreenUpdatePolicy"), deployment.get("RollingUpdatePolicy")
    if blue_green and rolling:
        raise ValidationException("BlueGreenUpdatePolicy and RollingUpdatePolicy exclude each other.")
    if blue_green:
        traffic = blue_green["TrafficRoutingConfiguration"]
        _check_type(traffic)
        _check_sizes(traffic, variants)
        seconds = traffic["WaitIntervalInSeconds"] + blue_green.get("TerminationWaitInSeconds", 0)
        _check_time(blue_green, seconds, "TerminationWaitInSeconds and WaitIntervalInSeconds together, which are")
    if rolling:
        _check_sizes(rolling, variants)
        _check_time(rolling, rolling["WaitIntervalInSeconds"], "WaitIntervalInSeconds, which is")
        rollback = rolling.get("RollbackMaximumBatchSize", {})
        if rollback.get("Type") == "CAPACITY_PERCENT" and rollback["Value"] > 100:
            raise ValidationException("RollbackMaximumBatchSize must not be more than 100 percent.")


def _check_time(policy: Document, seconds: int, waits: str) -> None:
    if seconds >= policy.get("MaximumExecutionTimeoutInSeconds", seconds + 1):
        raise ValidationException(f"MaximumExecutionTimeoutInSeconds must be more than {waits} {seconds}.")


def _check_type(traffic: Document) -> None:
    needed = _SIZE_OF.get(traffic["Type"])
    if needed and needed not in traffic:
        raise ValidationException(f"A TrafficRoutingConfiguration of Type {traffic['Type']} must have a {needed}.")
    for size in _SIZE_OF.values():
        if size in traffic and size != needed:
            raise ValidationException(f"A TrafficRoutingConfiguration of Type {traffic['Type']} has no {size}.")


def _check_sizes(policy: Document, variants: Sequence[Document]) -> None:
    for name, (minimum, maximum) in _SHARES.items():
        if name not in policy:
            continue
        for variant in variants:
            size, count = policy[name], variant["InitialInstanceCount"]
            percent = size["Value"] if size["Type"] == "CAPACITY_PERCENT" else 100 * size["Value"] / count
            if not minimum <= percent <= maximum:
                bounds = f"at most {maximum}" if minimum == 0 else f"between {minimum} and {maximum}"
                raise ValidationException(
                    f"{name} must be {bounds} percent of a variant's instances; of the {count} of variant"
                    f" {variant['VariantName']} it is {percent:g} percent."
                )
