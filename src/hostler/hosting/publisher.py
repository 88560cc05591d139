"""Publishes what was decided of each endpoint's route: to gateways, and to the runtimes of its targets."""

from __future__ import annotations

from collections.abc import Callable, Mapping

from hostler.core.endpoints.rollout import Decision, Route
from hostler.hosting.endpoint import link_route
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import Instance
from hostler.hosting.targets.registry import RuntimeRegistry


class Publisher:
    """`wake`: runs a pass soon."""

    def __init__(self, gateways: Gateways, runtimes: RuntimeRegistry, wake: Callable[[], None]) -> None:
        self._gateways = gateways
        self._runtimes = runtimes
        self._wake = wake
        self._routes: dict[str, Route] = {}  # the published ones, by endpoint key

    def acknowledged(self, key: str) -> Route | None:
        """Return the endpoint's published route, if every gateway has acknowledged it."""
        route = self._routes.get(key)
        return route if route is not None and self._gateways.in_force(key) else None

    def publish(self, key: str, decision: Decision, instances: Mapping[str, Instance]) -> None:
        """Bring an endpoint's route and targets to what is decided. What is so already changes nothing."""
        if (warm_up := decision.warm_up) is not None:
            self._runtimes.warm_up.start(key, warm_up.old, warm_up.new)
            if self._runtimes.warm_up.is_warm(key, warm_up.new):  # there is nothing to load
                self._wake()
        if decision.route is None:
            self._runtimes.stop_serving(key)
            self._gateways.drop_route(key)
            self._routes.pop(key, None)
            return
        self._routes[key] = decision.route
        gateways = {*self._gateways.roster(), *(gateway.name for gateway in self._gateways.linked)}
        route = link_route(key, decision.route, instances, max(1, len(gateways)))
        [fleet] = decision.route.fleets()  # of each variant one pool, all of one revision
        self._runtimes.serve(key, fleet, route.instances())
        self._gateways.set_route(route)
        if decision.refill is not None:
            self._runtimes.warm_up.refill(key, decision.refill, (each.variant.name for each in decision.route.variants))
