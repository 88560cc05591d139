"""Resolve an invocation: its endpoint, variant, pool, target and containers, in the order of checks of §4.1. Pure."""

from __future__ import annotations

from collections.abc import Mapping

import msgspec

from hostler import contract
from hostler.contract import H_TARGET_CONTAINER, H_TARGET_MODEL, H_TARGET_VARIANT, MAX_BODY
from hostler.gateway import errors
from hostler.gateway.invoke.headers import check_endpoint_name, check_headers
from hostler.gateway.routes import Endpoint, Pool, Routes, Variant
from hostler.names import UnsafeName, target_model

# Headers of features that no endpoint hosted here has.
_UNSUPPORTED = {
    contract.H_INFERENCE_COMPONENT: "has no inference components",
    contract.H_ENABLE_EXPLANATIONS: "has no explainer",
    contract.H_SESSION_ID: "does not support stateful sessions",
}


class InvokeRequest(msgspec.Struct, gc=False):
    """A request for an endpoint, as far as that decides where it goes."""

    id: str
    region: str
    name: str  # of the endpoint
    headers: Mapping[str, str]
    size: int | None  # bytes of the body; None: not known yet
    takes_target: bool  # the operation has a parameter TargetModel


class Resolution(msgspec.Struct, gc=False):
    """Where an invocation goes. `first` and `last` are the positions of its containers in the variant's model."""

    endpoint: Endpoint
    variant: Variant
    pool: Pool
    target: str  # empty: the endpoint is not multi-model
    first: int
    last: int


def resolve(routes: Routes, request: InvokeRequest, number: float, before: Resolution | None = None) -> Resolution:
    """Return where the request goes. Raises InvokeError: that of the first check that fails.

    `number`, at least 0 and less than 1, draws a variant and a pool. Those of `before`, an earlier resolution of the
    same request, stay as long as there are such.
    """
    headers, name = request.headers, request.name
    # 1. The body's size.
    if request.size is not None and request.size > MAX_BODY:
        raise errors.oversize()
    # 2. Headers, each by its constraint.
    check_headers(headers)
    # 3. The endpoint.
    endpoint = routes.endpoints.get(f"{request.region}/{name}")
    if endpoint is None:
        check_endpoint_name(name)
        raise errors.no_such_endpoint(name) if routes.known else errors.no_routes()
    # 4. The variant: the named one, or a drawn one. Its pool: a drawn one.
    named = headers.get(H_TARGET_VARIANT)
    if named is None and before is None:
        variant = endpoint.only or endpoint.draw(number)
        pool = variant.only_pool or variant.draw(number)
    else:
        variant = _variant(endpoint, named, number, before)
        pool = (before and variant.pool(before.pool.fleet)) or variant.draw(number)
    # 5. The target.
    target = headers.get(H_TARGET_MODEL)
    if variant.multi_model:
        if not request.takes_target:
            raise errors.no_target_on_streams(name)
        if target is None:
            raise errors.target_missing(request.id)
        if target not in pool.residents:
            target = _normalized(target)
    elif target is not None:
        raise errors.not_multi_model(name)
    else:
        target = ""
    # 6. The containers: all of them, or the named one (§5.7).
    first, last = 0, len(variant.labels) - 1
    container = headers.get(H_TARGET_CONTAINER)
    if variant.direct:
        first = last = _position(request, variant, container)
    elif container is not None:
        raise errors.not_direct(name)
    # 7. Features that no endpoint has.
    if not headers.keys().isdisjoint(_UNSUPPORTED):
        reason = next(reason for header, reason in _UNSUPPORTED.items() if header in headers)
        raise errors.invalid(f"Endpoint {name} {reason}.")
    return Resolution(endpoint, variant, pool, target, first, last)


def _variant(endpoint: Endpoint, named: str | None, number: float, before: Resolution | None) -> Variant:
    variant = endpoint.variants.get(before.variant.name if named is None and before else named or "")
    if variant is None and named is not None:
        raise errors.no_such_variant(endpoint.name, named)
    return variant or endpoint.draw(number)


def _normalized(target: str) -> str:
    try:
        return target_model(target)
    except UnsafeName as reason:
        raise errors.unsafe_target(target, str(reason)) from None


def _position(request: InvokeRequest, variant: Variant, container: str | None) -> int:
    if container is None:
        raise errors.hostname_missing(request.name, request.id, variant.labels)
    if container not in variant.labels:
        raise errors.no_such_container(request.name, container, variant.labels)
    return variant.labels.index(container)
