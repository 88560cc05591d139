"""Resolve an invocation: which variant, which target, which containers (§4.1). Pure."""

from __future__ import annotations

from collections.abc import Mapping

from hostler import contract
from hostler.gateway import errors
from hostler.gateway.routes import Endpoint, Pool, Variant
from hostler.names import UnsafeName, target_model

# Headers of features that no endpoint hosted here has.
UNSUPPORTED = {
    contract.H_INFERENCE_COMPONENT: "has no inference components",
    contract.H_ENABLE_EXPLANATIONS: "has no explainer",
    contract.H_SESSION_ID: "does not support stateful sessions",
}


def resolve(
    endpoint: Endpoint,
    headers: Mapping[str, str],
    drawn: str,
    fleet: int,
    takes_target: bool,
    request_id: str,
    number: float,
) -> tuple[Variant, Pool, str, int, int]:
    """Return the variant, the pool, the target, and the positions of the first and of the last container.

    `drawn`, `fleet`: the variant and its pool that were drawn before; they stay, as long as there are such. `number`,
    at least 0 and less than 1, draws others. `takes_target`: the operation has a parameter TargetModel. Raises
    InvokeError.
    """
    name = endpoint.name
    # 1. The variant: the named one, or the drawn one.
    named = headers.get(contract.H_TARGET_VARIANT)
    variant = endpoint.variants.get(drawn if named is None else named)
    if variant is None:
        if named is not None:
            raise errors.no_such_variant(name, named)
        variant = endpoint.draw(number)
    # 2. Its pool: the drawn one.
    pools = variant.pools
    pool = pools[0] if len(pools) == 1 else variant.pool(fleet) or variant.draw(number)
    # 3. The target.
    target = headers.get(contract.H_TARGET_MODEL)
    if variant.multi_model:
        if not takes_target:
            raise errors.no_target_on_streams(name)
        if target is None:
            raise errors.target_missing(request_id)
        if target not in pool.residents:
            target = _normalized(target)
    elif target is not None:
        raise errors.not_multi_model(name)
    else:
        target = ""
    # 4. The containers: all of them, or the named one (§5.7).
    container = headers.get(contract.H_TARGET_CONTAINER)
    if variant.direct:
        position = _position(name, variant, container, request_id)
        return variant, pool, target, position, position
    if container is not None:
        raise errors.not_direct(name)
    return variant, pool, target, 0, len(variant.labels) - 1


def unsupported(name: str, headers: Mapping[str, str]) -> errors.InvokeError:
    """Return the error for a request that has one of the UNSUPPORTED headers."""
    reason = next(reason for header, reason in UNSUPPORTED.items() if header in headers)
    return errors.invalid(f"Endpoint {name} {reason}.")


def _normalized(target: str) -> str:
    try:
        return target_model(target)
    except UnsafeName as reason:
        raise errors.unsafe_target(target, str(reason)) from None


def _position(name: str, variant: Variant, container: str | None, request_id: str) -> int:
    if container is None:
        raise errors.hostname_missing(name, request_id, variant.labels)
    if container not in variant.labels:
        raise errors.no_such_container(name, container, variant.labels)
    return variant.labels.index(container)
