"""The objects of a cluster, their versions, and the changes that watches are told of.

A document that is in the store is never changed: each change puts a new one there.
"""

from __future__ import annotations

import asyncio
import datetime
import random
import uuid
from collections import Counter, deque
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Any

import msgspec

from fake_cluster import refusals
from fake_cluster.kinds import BY_NAME, NAMESPACE, Kind

Object = dict[str, Any]

_CHANGES = 50_000  # so many are kept for watches that come back


@dataclass(frozen=True)
class Change:
    """An object that is new (`before` is None), changed, or gone (`after` is None)."""

    version: int
    kind: Kind
    before: Object | None
    after: Object | None


@dataclass(eq=False)
class Watch:
    """The changes of a kind that a watch has not been told of yet. None in them: it has expired."""

    kind: Kind
    changes: asyncio.Queue[Change | None] = field(default_factory=asyncio.Queue)


class Store:
    """All objects. Belongs to one event loop."""

    def __init__(self) -> None:
        self.version = 1
        self._objects: dict[Kind, dict[tuple[str, str], Object]] = {}
        self._changes: deque[Change] = deque()
        self._oldest = 1  # the version from which all changes are kept
        self._watches: set[Watch] = set()
        self.owners: Counter[str] = Counter()  # uid -> how many objects name it as their owner
        self.listeners: list[Callable[[Change], None]] = []  # of this process: kubelets and controllers

    # --- reading

    def find(self, kind: Kind, namespace: str, name: str) -> Object | None:
        return self._objects.get(kind, {}).get((namespace, name))

    def get(self, kind: Kind, namespace: str, name: str) -> Object:
        """Raises Refusal if there is none."""
        if (found := self.find(kind, namespace, name)) is None:
            raise refusals.missing(kind, name)
        return found

    def list(self, kind: Kind, namespace: str = "") -> list[Object]:
        """Return the objects of a namespace, or of all, in the order of their names."""
        held = self._objects.get(kind, {})
        return [held[key] for key in sorted(held) if not namespace or key[0] == namespace]

    def all(self) -> Iterator[Object]:
        for held in self._objects.values():
            yield from held.values()

    # --- writing

    def create(self, kind: Kind, document: Object) -> Object:
        """Keep a new object, and return it with what the server adds to its metadata. Raises Refusal."""
        document = copied(document)
        metadata = document["metadata"]
        if not metadata.get("name") and (prefix := metadata.get("generateName")):
            metadata["name"] = prefix + "".join(random.choices("bcdfghjklmnpqrstvwxz2456789", k=5))
        namespace, name = metadata.get("namespace", ""), metadata["name"]
        if self.find(kind, namespace, name) is not None:
            raise refusals.exists(kind, name)
        if namespace and not self.find(NAMESPACE, "", namespace):
            raise refusals.missing(NAMESPACE, namespace)
        if namespace and self.get(NAMESPACE, "", namespace)["metadata"].get("deletionTimestamp"):
            raise refusals.forbidden(kind, name, f"unable to create new content in namespace {namespace} because it is being terminated")  # fmt: skip  # noqa: E501
        metadata.update(uid=str(uuid.uuid4()), creationTimestamp=now())
        metadata.pop("deletionTimestamp", None)
        if "spec" in document:
            metadata["generation"] = 1
        return self._put(kind, None, document)

    def replace(self, kind: Kind, document: Object) -> Object:
        """Put a changed object in the place of its former self. Raises Refusal."""
        document = copied(document)
        metadata = document["metadata"]
        before = self.get(kind, metadata.get("namespace", ""), metadata["name"])
        given = metadata.get("resourceVersion")
        if given and given != before["metadata"]["resourceVersion"]:
            why = "the object has been modified; please apply your changes to the latest version and try again"
            raise refusals.conflict(kind, metadata["name"], why)
        if metadata.get("uid", before["metadata"]["uid"]) != before["metadata"]["uid"]:
            raise refusals.conflict(kind, metadata["name"], "Precondition failed: UID in object meta differs")
        for key in ("uid", "creationTimestamp", "deletionTimestamp", "deletionGracePeriodSeconds", "generation"):
            if key in before["metadata"]:
                metadata[key] = before["metadata"][key]
            else:
                metadata.pop(key, None)
        metadata["resourceVersion"] = before["metadata"]["resourceVersion"]
        if document == before:
            return before
        if "spec" in document and document["spec"] != before.get("spec"):
            metadata["generation"] = before["metadata"].get("generation", 0) + 1
        if metadata.get("deletionTimestamp") and not metadata.get("finalizers") and not keeps_until_told(document):
            return self.remove(kind, before)
        return self._put(kind, before, document)

    def mark_deleted(self, kind: Kind, before: Object, grace: int) -> Object:
        """Say that an object is to go within `grace` seconds."""
        document = copied(before)
        until = datetime.datetime.now(datetime.UTC) + datetime.timedelta(seconds=grace)
        document["metadata"].update(deletionTimestamp=stamp(until), deletionGracePeriodSeconds=grace)
        return self._put(kind, before, document)

    def remove(self, kind: Kind, before: Object) -> Object:
        metadata = before["metadata"]
        del self._objects[kind][metadata.get("namespace", ""), metadata["name"]]
        self.version += 1
        last = copied(before)
        last["metadata"]["resourceVersion"] = str(self.version)
        self._tell(Change(self.version, kind, last, None))
        return last

    def patch(self, document: Object, change: Callable[[Object], None]) -> Object | None:
        """Change an object of which `document` is a version; None if it, by its uid, is gone."""
        kind = BY_NAME[document["apiVersion"], document["kind"]]
        metadata = document["metadata"]
        before = self.find(kind, metadata.get("namespace", ""), metadata["name"])
        if before is None or before["metadata"]["uid"] != metadata["uid"]:
            return None
        after = copied(before)
        change(after)
        return self.replace(kind, after)

    def _put(self, kind: Kind, before: Object | None, after: Object) -> Object:
        metadata = after["metadata"]
        self.version += 1
        metadata["resourceVersion"] = str(self.version)
        self._objects.setdefault(kind, {})[metadata.get("namespace", ""), metadata["name"]] = after
        self._tell(Change(self.version, kind, before, after))
        return after

    # --- watching

    def watch(self, kind: Kind, since: int) -> Watch:
        """Begin a watch with the changes since a version. Raises Refusal (410) if they are not kept any more."""
        if since < self._oldest - 1:
            raise refusals.gone(since, self._oldest)
        watch = Watch(kind)
        for change in self._changes:
            if change.version > since and change.kind is kind:
                watch.changes.put_nowait(change)
        self._watches.add(watch)
        return watch

    def unwatch(self, watch: Watch) -> None:
        self._watches.discard(watch)

    def expire(self) -> None:
        """Forget all changes, so that watches expire, and none begins from an older version."""
        self.version += 1
        self._oldest = self.version + 1
        self._changes.clear()
        for watch in self._watches:
            watch.changes.put_nowait(None)

    def _tell(self, change: Change) -> None:
        for document, count in ((change.before, -1), (change.after, 1)):
            for reference in (document or {}).get("metadata", {}).get("ownerReferences") or ():
                self.owners[reference["uid"]] += count
        self._changes.append(change)
        if len(self._changes) > _CHANGES:
            self._oldest = self._changes.popleft().version + 1
        for watch in self._watches:
            if watch.kind is change.kind:
                watch.changes.put_nowait(change)
        for listener in self.listeners:
            listener(change)


def keeps_until_told(document: Object) -> bool:
    """Whether an object that is deleted stays until its node says that it has ended."""
    return document["kind"] == "Pod" and bool(document["spec"].get("nodeName"))


def copied(document: Object) -> Object:
    return msgspec.json.decode(msgspec.json.encode(document))  # type: ignore[no-any-return]


def now() -> str:
    return stamp(datetime.datetime.now(datetime.UTC))


def stamp(moment: datetime.datetime) -> str:
    return moment.strftime("%Y-%m-%dT%H:%M:%SZ")
