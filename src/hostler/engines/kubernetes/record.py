"""The record of a house's pods: what the API says of them, kept up to date, as reports.

A report is made anew only when its pod, or a warning of it, has changed.
"""

from __future__ import annotations

import asyncio
import logging
from collections import defaultdict
from collections.abc import Callable
from typing import TypeVar

from hostler.engines.engine import InstanceReport
from hostler.engines.kubernetes import facts, pods
from hostler.engines.kubernetes.answers import Event, Pod
from hostler.engines.kubernetes.api import Api
from hostler.engines.kubernetes.pods import Note
from hostler.engines.kubernetes.reflector import Reflector
from hostler.engines.kubernetes.zones import Zones
from hostler.errors import EngineError, ImageMissing

T = TypeVar("T")

logger = logging.getLogger("hostler.engine")


class Record:
    """`found`: called with each pod of the house, its launch, and its report, when that is new."""

    def __init__(
        self, api: Api, house: str, namespace: str, found: Callable[[Pod, Note, InstanceReport], object]
    ) -> None:
        self._found = found
        self._reports: dict[str, InstanceReport | None] = {}  # by the pod's name; None: it is none of ours
        self._news: dict[str, asyncio.Event] = {}  # by the pod's name, for those who wait for a change of it
        self._appeared: set[str] = set()  # names of the pods that are or were there
        self._of_pod: defaultdict[str, dict[str, Event]] = defaultdict(dict)  # warnings by pod and name
        self._warned_pod: dict[str, str] = {}  # by warning
        self._change = asyncio.Event()
        self._zones = Zones(api, self._zone_found)
        root = f"/api/v1/namespaces/{namespace}"
        self._pods = Reflector(api, f"{root}/pods", {"labelSelector": f"{pods.HOUSE}={house}"}, Pod, self._changed)
        self.objects = self._pods.objects  # by name
        warnings = {"fieldSelector": "involvedObject.kind=Pod,type=Warning"}
        self._warnings = Reflector(api, f"{root}/events", warnings, Event, self._warned)
        self._watching = [asyncio.create_task(each.run(), name="reflector") for each in (self._pods, self._warnings)]

    async def synced(self) -> None:
        """Return once the record says what there is. Raises EngineAway if the server cannot be asked just now."""
        await self._pods.asked.wait()
        self._pods.check()

    def report(self, name: str) -> InstanceReport | None:
        """Return the report of a pod; None if it is not there, or is none of ours."""
        if name not in self._reports:
            self._reports[name] = self._made(name)
        return self._reports[name]

    async def changed(self) -> None:
        """Return once something may have changed since the last call."""
        await self._change.wait()
        self._change.clear()

    async def until(self, name: str, find: Callable[[], T | None]) -> T:
        """Return what `find` does, once it finds something: it looks at each change of a pod."""
        news = self._news.setdefault(name, asyncio.Event())
        while True:
            news.clear()
            if (found := find()) is not None:
                return found
            await news.wait()

    def check(self, name: str) -> None:
        """Raise EngineError if nothing will come of a pod any more, ImageMissing for the want of an image."""
        report = self.report(name)
        if name in self._appeared and name not in self.objects:
            raise EngineError("Others have removed its pod.")
        if report is not None and report.hopeless:
            raise (ImageMissing if report.lack == "image" else EngineError)(report.trouble)

    def forget(self, name: str) -> None:
        """Take note that nobody waits for a pod any more."""
        self._news.pop(name, None)
        self._appeared.discard(name)

    async def close(self) -> None:
        """Watch no more."""
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        await self._zones.close()

    def _made(self, name: str) -> InstanceReport | None:
        if (pod := self.objects.get(name)) is None:
            return None
        if (note := facts.note(pod)) is None:
            logger.warning("the pod %s has hostler's labels, but is none of its own: it is left alone", name)
            return None
        zone = "" if pods.ZONE in pod.labels else self._zones.of(pod.spec.node_name)
        report = facts.report(pod, note, [*self._of_pod[name].values()], zone)
        self._found(pod, note, report)
        return report

    def _changed(self, name: str) -> None:
        """Take note that a pod has changed; without a name, that the server answers again, or no more."""
        self._reports.pop(name, None)
        if name in self.objects:
            self._appeared.add(name)
        else:
            self._of_pod.pop(name, None)
        if (news := self._news.get(name)) is not None:
            news.set()
        self._change.set()

    def _zone_found(self, node: str) -> None:
        for name in [name for name, pod in self.objects.items() if pod.spec.node_name == node]:
            self._changed(name)

    def _warned(self, name: str) -> None:
        """Take note of a warning, or that it is there no more."""
        if (event := self._warnings.objects.get(name)) is not None:
            pod = self._warned_pod[name] = event.involved_object.name
            self._of_pod[pod][name] = event
        elif (pod := self._warned_pod.pop(name, "")) in self._of_pod:
            self._of_pod[pod].pop(name, None)
        if pod in self.objects:
            self._changed(pod)
