"""Events, which say of an object what happened to it. The same one again counts."""

from __future__ import annotations

import secrets

from fake_cluster.kinds import EVENT
from fake_cluster.store import Object, Store, now


def note(store: Store, of: Object, reason: str, message: str, component: str, *, warning: bool = False) -> None:
    """Keep an event of an object, or count it once more."""
    metadata = of["metadata"]
    namespace, moment = metadata.get("namespace", "default"), now()
    for each in store.list(EVENT, namespace):
        about = each["involvedObject"]
        if (about.get("uid"), each["reason"], each["message"]) == (metadata["uid"], reason, message):
            store.patch(each, lambda event: event.update(count=event["count"] + 1, lastTimestamp=moment))
            return
    about = {"apiVersion": of["apiVersion"], "kind": of["kind"], "name": metadata["name"], "uid": metadata["uid"]}
    if "namespace" in metadata:
        about["namespace"] = namespace
    store.create(
        EVENT,
        {
            "apiVersion": "v1",
            "kind": "Event",
            "metadata": {"name": f"{metadata['name']}.{secrets.token_hex(8)}", "namespace": namespace},
            "involvedObject": about,
            "reason": reason,
            "message": message,
            "type": "Warning" if warning else "Normal",
            "source": {"component": component},
            "firstTimestamp": moment,
            "lastTimestamp": moment,
            "count": 1,
            "reportingComponent": component,
            "reportingInstance": "",
        },
    )
