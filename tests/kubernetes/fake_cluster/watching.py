"""Watches: the changes of a kind, one JSON document a line, from a version on."""

from __future__ import annotations

import asyncio
import random
from collections.abc import Callable, Iterator

import msgspec
from aiohttp import web

from fake_cluster.kinds import Place
from fake_cluster.refusals import Refusal, gone
from fake_cluster.selectors import fields, labels
from fake_cluster.store import Change, Object, Store, Watch

Event = tuple[str, Object]


async def serve(store: Store, speaks: asyncio.Event, request: web.Request, place: Place) -> web.StreamResponse:
    """Answer a watch until its time is up, its version is forgotten, or the client has gone. Raises Refusal."""
    query = request.query
    fits = _fits(place, query.get("labelSelector", ""), query.get("fieldSelector", ""))
    since = query.get("resourceVersion", "")
    initial = query.get("sendInitialEvents") == "true"
    from_now = initial or since in ("", "0")
    response = web.StreamResponse(headers={"Content-Type": "application/json"})
    response.enable_chunked_encoding()
    await response.prepare(request)
    seconds = float(query.get("timeoutSeconds") or random.uniform(1800, 3600))
    bookmarks = query.get("allowWatchBookmarks") == "true"
    try:
        # 1. From a version that is not kept any more the only event is an error.
        watch = store.watch(place.kind, store.version if from_now else int(since))
    except Refusal as refusal:
        await _send(response, speaks, [("ERROR", refusal.status())])
        return response
    try:
        # 2. What there is, if the client has not listed it itself.
        if from_now:
            await _send(response, speaks, [("ADDED", each) for each in store.list(place.kind) if fits(each)])
        if initial:
            await _send(response, speaks, [_bookmark(store, place, {"k8s.io/initial-events-end": "true"})])
        # 3. What changes.
        await _follow(response, speaks, watch, fits, seconds)
        # 4. The time is up.
        if bookmarks:
            await _send(response, speaks, [_bookmark(store, place, {})])
    finally:
        store.unwatch(watch)
    return response


async def _follow(
    response: web.StreamResponse, speaks: asyncio.Event, watch: Watch, fits: Callable[[Object], bool], seconds: float
) -> None:
    end = asyncio.get_running_loop().time() + seconds
    while True:
        try:
            async with asyncio.timeout_at(end):
                changes = [await watch.changes.get()]
        except TimeoutError:
            return
        while not watch.changes.empty():
            changes.append(watch.changes.get_nowait())
        for change in changes:
            if change is None:
                await _send(response, speaks, [("ERROR", gone(0, 1).status())])
                raise asyncio.CancelledError
            await _send(response, speaks, list(_events(change, fits)))


def _fits(place: Place, label_selector: str, field_selector: str) -> Callable[[Object], bool]:
    by_label, by_field = labels(label_selector), fields(field_selector)

    def fits(document: Object) -> bool:
        if place.namespace and document["metadata"].get("namespace") != place.namespace:
            return False
        return by_label(document) and by_field(document)

    return fits


def _events(change: Change, fits: Callable[[Object], bool]) -> Iterator[Event]:
    """Yield what a change is to those who see only what fits: what fits no longer is deleted, for them."""
    was = change.before is not None and fits(change.before)
    if change.after is None:
        if was and change.before is not None:
            yield "DELETED", change.before
    elif fits(change.after):
        yield "MODIFIED" if was else "ADDED", change.after
    elif was and change.before is not None:
        metadata = {**change.before["metadata"], "resourceVersion": str(change.version)}
        yield "DELETED", {**change.before, "metadata": metadata}


def _bookmark(store: Store, place: Place, annotations: dict[str, str]) -> Event:
    metadata = {"resourceVersion": str(store.version), "annotations": annotations}
    return "BOOKMARK", {"kind": place.kind.name, "apiVersion": place.kind.api_version, "metadata": metadata}


async def _send(response: web.StreamResponse, speaks: asyncio.Event, events: list[Event]) -> None:
    if events:
        await speaks.wait()
        await response.write(
            b"".join(msgspec.json.encode({"type": type, "object": each}) + b"\n" for type, each in events)
        )
