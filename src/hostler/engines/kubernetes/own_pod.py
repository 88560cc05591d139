"""Control's own pod, by which it knows that another control is in its place.

Kubernetes replaces a pod that was deleted by force, or with its node. Where nobody hears of that, the old one runs on:
then both have the same pods of instances, and the older one must leave them alone.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable

from hostler.engines.kubernetes.answers import Pod
from hostler.engines.kubernetes.api import Api
from hostler.engines.kubernetes.reflector import Reflector
from hostler.errors import EngineAway

logger = logging.getLogger("hostler.engine")


class OwnPod:
    """`name`, `uid`: of the pod in which this control runs. `replaced`: called once, when the pod is there no more."""

    def __init__(self, api: Api, namespace: str, name: str, uid: str, replaced: Callable[[], None]) -> None:
        self._name, self._uid, self._replaced = name, uid, replaced
        self._gone = False
        path = f"/api/v1/namespaces/{namespace}/pods"
        self._pods = Reflector(api, path, {"fieldSelector": f"metadata.name={name}"}, Pod, self._changed)
        self._watching = asyncio.create_task(self._pods.run(), name="reflector of control")

    async def check(self) -> None:
        """Raise EngineAway unless Kubernetes has this control for the one that there is."""
        await self._pods.asked.wait()
        self._pods.check()
        if self._gone:
            raise EngineAway("Another control is in the place of this one.")

    def _changed(self, _: str) -> None:
        pod = self._pods.objects.get(self._name)
        if not (self._gone or self._pods.away) and (pod is None or pod.metadata.uid != self._uid):
            self._gone = True
            logger.error("the pod %s of this control is gone, and its place another's: this control ends", self._name)
            self._replaced()

    async def close(self) -> None:
        """Watch no more."""
        self._watching.cancel()
        await asyncio.gather(self._watching, return_exceptions=True)
