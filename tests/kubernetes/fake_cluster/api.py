"""The API server: HTTP in front of the store. Each request is authenticated, then authorized, then checked.

`knobs` make it fail as real ones do: mute (connections stay, nothing comes), slow, down, and one that has forgotten
what a watch had seen (`Store.expire`). `asked` counts what each user did: from it a test says which rights are needed.
"""

from __future__ import annotations

import asyncio
import contextlib
import ssl
from collections import Counter, deque
from collections.abc import Awaitable, Callable
from dataclasses import dataclass, field
from typing import Any

import msgspec
import yaml
from aiohttp import web

from fake_cluster import deletion, kinds, patches, protobuf, refusals, reviews, watching
from fake_cluster.access import Access, Question, User
from fake_cluster.admission import admitted, changed
from fake_cluster.kinds import Kind, Place
from fake_cluster.refusals import Refusal
from fake_cluster.selectors import fields, labels
from fake_cluster.store import Object, Store, copied

Logs = Callable[[Object, str, dict[str, str]], Awaitable[bytes]]

_VERBS = {"POST": "create", "PUT": "update", "PATCH": "patch"}
_SELF = "SelfSubjectAccessReview"
_LARGEST = 3 * 2**20  # bytes of a request, as etcd's default has it


@dataclass
class Knobs:
    """How the server misbehaves. `failures`: status codes with which the next requests are answered."""

    slow: float = 0  # seconds before each answer
    failures: deque[int] = field(default_factory=deque)
    speaks: asyncio.Event = field(default_factory=asyncio.Event)


class Api:
    """The server, in one event loop."""

    def __init__(self, store: Store, access: Access) -> None:
        self.store, self.access = store, access
        self.knobs = Knobs()
        self.knobs.speaks.set()
        self.asked: Counter[tuple[str, Question]] = Counter()  # (user, what, without its name)
        self.refused: Counter[tuple[str, Question]] = Counter()  # what a role did not allow
        self.logs: Logs | None = None  # of the kubelets
        self._applied: dict[tuple[str, str, str, str], Object] = {}  # (manager, uid …) -> what it applied last
        self._runner: web.AppRunner | None = None
        self._tls: ssl.SSLContext | None = None
        self.port = 0

    # --- up and down

    async def open(self, host: str = "127.0.0.1", port: int = 0, tls: ssl.SSLContext | None = None) -> None:
        self._tls = tls
        app = web.Application(client_max_size=_LARGEST)
        app.router.add_route("*", "/{path:.*}", self._serve)
        self._runner = web.AppRunner(app, shutdown_timeout=0, access_log=None, handler_cancellation=True)
        await self._runner.setup()
        site = web.TCPSite(self._runner, host, port, ssl_context=tls, reuse_address=True)
        await site.start()
        self.host, self.port = host, self._runner.addresses[0][1]

    async def close(self) -> None:
        """Close the listener and every connection: nobody is reached here any more."""
        if self._runner:
            for connection in self._runner.server.connections if self._runner.server else ():
                if connection.transport:
                    connection.transport.abort()
            await self._runner.cleanup()
            self._runner = None

    async def reopen(self) -> None:
        if not self._runner:
            await self.open(self.host, self.port, self._tls)

    # --- requests

    async def _serve(self, request: web.Request) -> web.StreamResponse:
        await self.knobs.speaks.wait()
        if self.knobs.slow:
            await asyncio.sleep(self.knobs.slow)
        try:
            if self.knobs.failures:
                code = self.knobs.failures.popleft()
                raise Refusal(code, "InternalError" if code == 500 else "ServiceUnavailable", "as a test has it")
            response = await self._answered(request)
        except Refusal as refusal:
            response = _json(refusal.status(), refusal.code)
        except web.HTTPRequestEntityTooLarge:
            response = _json(Refusal(413, "RequestEntityTooLarge", "Request entity too large").status(), 413)
        await self.knobs.speaks.wait()
        return response

    async def _answered(self, request: web.Request) -> web.StreamResponse:
        if request.path in ("/healthz", "/readyz", "/livez"):
            return web.Response(text="ok")
        user = self._user(request)
        if document := kinds.discovery(request.path):
            return _json(document)
        if not (place := kinds.place(request.path)):
            raise Refusal(404, "NotFound", "the server could not find the requested resource")
        query = dict(request.query)
        watch = query.get("watch") in ("1", "true")
        self._authorize(user, place, self._verb(request.method, place, watch), query)
        if request.method == "GET" and watch:
            return await watching.serve(self.store, self.knobs.speaks, request, place)
        body = await self._body(request)
        act = {"GET": self._get, "POST": self._post, "PUT": self._put, "PATCH": self._patch, "DELETE": self._delete}
        if request.method not in act:
            raise Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        answer = await act[request.method](user, place, body, query | {"type": request.content_type})
        return answer if isinstance(answer, web.Response) else _json(answer, 201 if request.method == "POST" else 200)

    def _user(self, request: web.Request) -> User:
        scheme, _, token = request.headers.get("Authorization", "").partition(" ")
        known = self.access.user(token) if scheme == "Bearer" and token else None
        if not known:
            raise Refusal(401, "Unauthorized", "Unauthorized")
        return known[0]

    def _verb(self, method: str, place: Place, watch: bool) -> str:
        if method == "DELETE":
            return "delete" if place.name else "deletecollection"
        if method == "GET":
            return "watch" if watch else "get" if place.name else "list"
        return _VERBS.get(method, method.lower())

    def _authorize(self, user: User, place: Place, verb: str, query: dict[str, str]) -> None:
        name = place.name
        if not name and (only := query.get("fieldSelector", "").removeprefix("metadata.name=")).isidentifier():
            name = only
        kind = place.kind
        question = Question(verb, kind.group, kind.plural, place.subresource, place.namespace, name)
        nameless = Question(verb, kind.group, kind.plural, place.subresource, place.namespace)
        self.asked[user.name, nameless] += 1
        if not self.access.may(user, question):
            self.refused[user.name, nameless] += 1
            resource = f"{kind.plural}/{place.subresource}" if place.subresource else kind.plural
            where = f'in the namespace "{place.namespace}"' if place.namespace else "at the cluster scope"
            why = f'User "{user.name}" cannot {verb} resource "{resource}" in API group "{kind.group}" {where}'
            raise refusals.forbidden(kind, name, why)

    async def _body(self, request: web.Request) -> Any:
        raw = await request.read()
        if not raw:
            return None
        try:
            if "protobuf" in request.content_type:
                return protobuf.read(raw)
            return yaml.safe_load(raw) if "yaml" in request.content_type else msgspec.json.decode(raw)
        except (ValueError, KeyError, IndexError, yaml.YAMLError) as error:
            raise refusals.bad_request(f"couldn't get version/kind; json parse error: {error}") from None

    # --- reading

    async def _get(self, user: User, place: Place, body: Any, query: dict[str, str]) -> Any:
        if not place.name:
            return self._list(place, query)
        document = self.store.get(place.kind, place.namespace, place.name)
        if place.subresource == "log":
            return await self._log(document, query)
        return deletion.scale(document) if place.subresource == "scale" else document

    def _list(self, place: Place, query: dict[str, str]) -> Object:
        kind = place.kind
        by_label, by_field = labels(query.get("labelSelector", "")), fields(query.get("fieldSelector", ""))
        found = [each for each in self.store.list(kind, place.namespace) if by_label(each) and by_field(each)]
        metadata: Object = {"resourceVersion": str(self.store.version)}
        begin, limit = int(query.get("continue") or 0), int(query.get("limit") or 0)
        if limit and begin + limit < len(found):
            metadata |= {"continue": str(begin + limit), "remainingItemCount": len(found) - begin - limit}
        found = found[begin : begin + limit if limit else None]
        items = [{key: value for key, value in each.items() if key not in ("kind", "apiVersion")} for each in found]
        return {"kind": f"{kind.name}List", "apiVersion": kind.api_version, "metadata": metadata, "items": items}

    async def _log(self, pod: Object, query: dict[str, str]) -> web.Response:
        container = query.get("container", "")
        names = [each["name"] for each in [*(pod["spec"].get("initContainers") or ()), *pod["spec"]["containers"]]]
        if not container and len(pod["spec"]["containers"]) == 1:
            container = pod["spec"]["containers"][0]["name"]
        name = pod["metadata"]["name"]
        if container not in names:
            raise refusals.bad_request(f"container {container or 'name'} must be specified, one of {names}" if not container else f"container {container} is not valid for pod {name}")  # fmt: skip  # noqa: E501
        if self.logs is None or not pod["spec"].get("nodeName"):
            raise refusals.bad_request(f'container "{container}" in pod "{name}" is waiting to start')
        return web.Response(body=await self.logs(pod, container, query), content_type="text/plain")

    # --- writing

    async def _post(self, user: User, place: Place, body: Any, query: dict[str, str]) -> Any:
        if not isinstance(body, dict):
            raise refusals.bad_request("the request has no object")
        if place.subresource == "eviction":
            return deletion.evict(self.store, place, body)
        if place.subresource == "token":
            return reviews.token(self.access, place, body)
        if place.kind in reviews.KINDS:
            return reviews.answer(self.access, user, place.kind, body)
        if place.name:
            raise Refusal(405, "MethodNotAllowed", "the server does not allow this method on the requested resource")
        return self._created(place, body, query)

    def _created(self, place: Place, body: Object, query: dict[str, str]) -> Object:
        document = admitted(self.store, place.kind, copied(body), place.namespace)
        return document if query.get("dryRun") else self.store.create(place.kind, document)

    async def _put(self, user: User, place: Place, body: Any, query: dict[str, str]) -> Any:
        if not isinstance(body, dict):
            raise refusals.bad_request("the request has no object")
        return self._replaced(place, body, query)

    async def _patch(self, user: User, place: Place, body: Any, query: dict[str, str]) -> Any:
        if query["type"] == "application/apply-patch+yaml":
            return self._apply(user, place, body, query)
        before = self.store.get(place.kind, place.namespace, place.name)
        if place.subresource == "scale":
            before = deletion.scale(before)
        if query["type"] == "application/json-patch+json":
            return self._replaced(place, patches.operations(before, body), query)
        change = {
            "application/merge-patch+json": patches.merged, "application/strategic-merge-patch+json": patches.strategic
        }.get(query["type"])  # fmt: skip
        if not change:
            raise Refusal(415, "UnsupportedMediaType", f"the body of the request was in an unknown format: {query['type']}")  # fmt: skip  # noqa: E501
        return self._replaced(place, change(copied(before), body), query)

    def _apply(self, user: User, place: Place, body: Any, query: dict[str, str]) -> Object:
        """Apply what a manager wants (server-side apply): create the object, or change its fields."""
        key = (
            query.get("fieldManager", ""),
            place.kind.qualified,
            f"{place.namespace}/{place.name}",
            place.subresource,
        )
        before = self.store.find(place.kind, place.namespace, place.name)
        wanted = copied(body)
        if before is None:
            self._authorize(user, Place(place.kind, place.namespace, "", ""), "create", {})
            self._applied.pop(key, None)
            answer = self._created(place, wanted, query)
        else:
            answer = self._replaced(place, patches.applied(before, self._applied.get(key, {}), wanted), query)
        if not query.get("dryRun"):
            self._applied[key] = wanted
        return answer

    def _replaced(self, place: Place, document: Object, query: dict[str, str]) -> Object:
        before = self.store.get(place.kind, place.namespace, place.name)
        if place.subresource == "scale":
            after = copied(before)
            after["spec"]["replicas"] = document["spec"]["replicas"]
            return deletion.scale(self.store.replace(place.kind, after))
        if place.subresource == "status":
            after = {**before, "status": document.get("status", {})}
        else:
            if document.get("metadata", {}).get("name") != place.name:
                raise refusals.bad_request("the name of the object does not match the name on the URL")
            document["metadata"].setdefault("namespace", place.namespace)
            if not place.namespace:
                document["metadata"].pop("namespace")
            document["metadata"].setdefault("uid", before["metadata"]["uid"])
            if "status" in place.kind.subresources and "status" in before:
                document["status"] = before["status"]
            after = changed(self.store, place.kind, before, document)
        return after if query.get("dryRun") else self.store.replace(place.kind, after)

    async def _delete(self, user: User, place: Place, body: Any, query: dict[str, str]) -> Any:
        options = {**(body or {}), **({"gracePeriodSeconds": int(query["gracePeriodSeconds"])} if "gracePeriodSeconds" in query else {})}  # fmt: skip  # noqa: E501
        if place.name:
            before = self.store.get(place.kind, place.namespace, place.name)
            return before if query.get("dryRun") else deletion.delete(self.store, place.kind, before, options)
        by_label, by_field = labels(query.get("labelSelector", "")), fields(query.get("fieldSelector", ""))
        for each in self.store.list(place.kind, place.namespace):
            if by_label(each) and by_field(each):
                with contextlib.suppress(Refusal):
                    deletion.delete(self.store, place.kind, each, options)
        return {"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success"}


def _json(document: Object, status: int = 200) -> web.Response:
    return web.Response(body=msgspec.json.encode(document), status=status, content_type="application/json")


__all__ = ["Api", "Kind", "Knobs"]
