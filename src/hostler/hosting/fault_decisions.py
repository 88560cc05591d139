"""Answers gateways that ask which fault a call meets, and kills the containers of those that have it so.

It decides nothing: the book of `Faults` does.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from dataclasses import replace

from hostler.core.faults import Event, Occasion, Rule
from hostler.core.targets.states import Refuse
from hostler.errors import EngineError
from hostler.hosting.background import BackgroundTasks
from hostler.hosting.faults import Faults
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import Instance
from hostler.hosting.instances import Instances
from hostler.hosting.targets import refusals
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.wire.gateway_messages import FaultDecision, FaultQuery

log = logging.getLogger("hostler.faults")

_KILLED = 5.0  # seconds in which a container must have ended and left the routes
_S3_UNREACHABLE = "S3 cannot be reached, or did not answer in time."


class FaultDecisions:
    """Before the answer to a call that is to kill a container that has ended, and its instance has left the routes.

    `passed`: returns when the next pass of the reconciler has ended.
    """

    def __init__(
        self, faults: Faults, gateways: Gateways, instances: Instances, runtimes: RuntimeRegistry,
        passed: Callable[[], Awaitable[None]],
    ) -> None:  # fmt: skip
        self._faults = faults
        self._gateways = gateways
        self._instances = instances
        self._runtimes = runtimes
        self._passed = passed
        self._work = BackgroundTasks()

    def receive(self, gateway: str, query: FaultQuery) -> None:
        """Decide, and answer the gateway of this name."""
        rule = self._faults.decide(_event(query))
        if rule is not None and rule.effect == "ContainerKilled":
            self._work.spawn(self._kill(gateway, query, rule))
        else:
            self._gateways.tell(gateway, FaultDecision(query.request_id, rule and _worded(rule, query)))

    async def _kill(self, gateway: str, query: FaultQuery, rule: Rule) -> None:
        """Kill a container to which the call could have gone. If none can be killed, the call goes on."""
        killed = False
        instance = self._victim(query)
        try:
            if instance is not None:
                label = rule.container or query.containers[0]
                position = next(each.position for each in instance.containers if each.label == label)
                async with asyncio.timeout(_KILLED):
                    await instance.platform.engine.kill(instance.id, position)
                    killed = True
                    await self._passed()
                    while instance.state == "ready":
                        await self._passed()
                    await self._gateways.acknowledged(self._gateways.version, _KILLED)
        except (EngineError, TimeoutError) as error:
            log.warning("fault %s: a container could not be killed: %r", rule.id, error)
        finally:
            self._gateways.tell(gateway, FaultDecision(query.request_id, rule if killed else None))

    def _victim(self, query: FaultQuery) -> Instance | None:
        """Return the instance whose container is killed: one that has the target, if one has."""
        route = self._gateways.routes.get(query.key)
        ids = [
            address.instance
            for variant in (route.variants if route else ())
            for pool in variant.pools
            for address in pool.instances
            if (variant.name, pool.fleet) == (query.variant, query.fleet)
        ]
        instances = [self._instances[id] for id in ids if id in self._instances]
        ready = [instance for instance in instances if instance.state == "ready"]
        joined = self._runtimes.joined
        holders = (i for i in ready if i.id in joined and joined[i.id].cache.state(query.target) == "resident")
        return next(holders, next(iter(ready), None))


def _event(query: FaultQuery) -> Event:
    region, _, endpoint = query.key.partition("/")
    occasion: Occasion = "stream" if query.stream else "call"
    return Event(occasion, region, endpoint, query.variant, query.target, query.containers)


def _worded(rule: Rule, query: FaultQuery) -> Rule:
    """Return the rule with the message that a real error of its kind has, where control words that."""
    if rule.effect == "OutOfMemory" and rule.message is None:
        return replace(rule, message=refusals.message(Refuse(query.target, "no_memory")))
    return replace(rule, message=_S3_UNREACHABLE) if rule.effect == "InternalDependencyException" else rule
