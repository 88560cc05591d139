"""Ends the calls that are with instances whose machine has gone silent."""

from __future__ import annotations

from hostler.gateway.invoke.invocation import Attempt
from hostler.wire.http_client import ConnectionPool
from hostler.wire.http_exchange import CallFailed


def end_calls(connections: ConnectionPool, cut: frozenset[str]) -> None:
    """Fail the calls to these instances: one that was sent may have been worked on, so only others go elsewhere."""
    for exchange in [*connections.active]:
        if isinstance(exchange.caller, Attempt) and exchange.caller.backend.instance in cut:
            exchange.fail(CallFailed("its machine is silent", started=exchange.started))
