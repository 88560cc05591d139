"""Dispatch every request on the one port, except invocations, which the gateway handles.

It owns the limit on bodies and our own pages; `services` answers AWS's calls, `s3/app` those of S3.
"""

from __future__ import annotations

import asyncio
import uuid
import zlib
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hostler import __version__
from hostler.artifacts import control_source
from hostler.aws import credential, errors, hosts
from hostler.aws.classify import HOSTLER, S3, Call, Protocol, classify
from hostler.control import access_log_reader, artifacts, faults, metrics, network_api, reset
from hostler.control.context import Context
from hostler.control.services import SERVICES, Dispatcher, Received, is_hosted
from hostler.core.targets.states import ORDERS
from hostler.errors import ApiError, SerializationException
from hostler.text import is_count

BODY_MAX = 2**20  # bytes of a control-plane request
LOG_TAIL = 64 * 1024  # bytes of each log that /_hostler/logs returns by default
_LOG_TAIL_MAX = 2**20

Handler = Callable[[Context, Request], Awaitable[Response]]


def create_app(context: Context) -> ASGIApp:
    """Return the control plane's ASGI app (HTTP only)."""
    services = Dispatcher(context)

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"not served here: {scope['type']}")
        request = Request(scope, receive)
        path, query = scope["raw_path"].decode("latin-1"), scope["query_string"].decode("latin-1")
        call = classify(scope["method"], path, query, request.headers)
        if call.service == HOSTLER:
            response = await _page(context, request)
        elif call == S3:
            await context.s3(scope, receive, send)
            return
        else:
            try:
                answer = await _answer(services, call, context.settings.region, request, path, query)
            except ClientDisconnect:
                return
            response = Response(answer.body, answer.status, answer.headers, answer.content_type)
        await response(scope, receive, send)

    return app


# --- AWS's services ---------------------------------------------------------------------------------------------------


async def _answer(
    services: Dispatcher, call: Call, region: str, request: Request, path: str, query: str
) -> errors.Answer:
    """Return the answer to a call of AWS's. `region`: of a request that names none. Raises ClientDisconnect."""
    headers, body = request.headers, b""
    if is_hosted(call):
        try:
            body = await _body(request)
        except ApiError as error:
            return errors.render(call, error, str(uuid.uuid4()))
    else:
        async for _ in request.stream():  # the connection's next request comes after it
            pass
    if call.protocol is Protocol.QUERY and not body:
        # A page's image or link sends no Origin, and such a call may have an effect.
        if headers.get("sec-fetch-site", "none") not in ("none", "same-origin"):
            refusal = ApiError("AccessDeniedException", "No page of another site may call hostler.", 403)
            return errors.render(call, refusal, str(uuid.uuid4()))
        body = query.encode("latin-1")
    region = credential.region(
        headers.get("authorization", ""), hosts.of_header(headers.get("host", "")).region or region, query
    )
    content_type = headers.get("content-type", "")
    return await services.answer(call, Received(request.method, path, region, content_type, body))


async def _body(request: Request) -> bytes:
    """Read the body. Raises ApiError (413) for a body longer than BODY_MAX, before all of it is read."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            raise _too_large()
    return _unzipped(bytes(body)) if request.headers.get("content-encoding", "").lower() == "gzip" else bytes(body)


def _unzipped(body: bytes) -> bytes:
    """Return what SDKs have compressed, such as metrics (§9.2). Raises ApiError."""
    unzip = zlib.decompressobj(zlib.MAX_WBITS | 16)  # with gzip's head
    try:
        plain = unzip.decompress(body, BODY_MAX + 1)
    except zlib.error:
        plain = b""
    if len(plain) > BODY_MAX:
        raise _too_large()
    if not unzip.eof:
        raise SerializationException("The request's body is not gzip, as its Content-Encoding says")
    return plain


def _too_large() -> ApiError:
    return ApiError("RequestEntityTooLargeException", f"The request's body is longer than {BODY_MAX} bytes.", 413)


# --- our own pages ----------------------------------------------------------------------------------------------------


async def _page(context: Context, request: Request) -> Response:
    path = request.scope["raw_path"].decode("latin-1")
    handlers = _PAGES.get(path)
    if path.startswith(control_source.PAGE) and context.admits_agent(request.headers.get(control_source.PASSKEY, "")):
        network_api.known(request.scope)
        handlers = {"GET": _artifacts}
    if handlers is None:
        return _json_page({"message": "there is no such page"}, 404)
    if handler := handlers.get("GET" if request.method == "HEAD" else request.method):
        try:
            return await handler(context, request)
        except ApiError as error:  # hostler cannot keep its state
            return _json_page({"message": error.message}, error.status)
    return Response(b"", 405, {"Allow": ", ".join(["HEAD", *handlers])})


async def _health(_context: Context, _request: Request) -> Response:
    return _json_page({"status": "ok", "version": __version__})


async def _ready(context: Context, _request: Request) -> Response:
    ready = context.ready()
    return _json_page({"ready": ready}, 200 if ready else 503)


async def _localstack_health(_context: Context, _request: Request) -> Response:
    """Answer tools for LocalStack, which wait for this page."""
    services = dict.fromkeys(["s3", "sagemaker-runtime", *(service.model for service in SERVICES.values())], "running")
    return _json_page({"services": services, "edition": "hostler", "version": __version__})


async def _metrics(context: Context, _request: Request) -> Response:
    return metrics.response(context.metrics())


async def _endpoints(context: Context, _request: Request) -> Response:
    return _json_page({"endpoints": context.lifecycle.describe_all()})


async def _logs(context: Context, request: Request) -> Response:
    name = request.query_params.get("endpoint", "")
    region = request.query_params.get("region") or context.settings.region
    tail = request.query_params.get("tail") or str(LOG_TAIL)
    if not is_count(tail):
        return _json_page({"message": "tail must be a number of bytes"}, 400)
    window = min(int(tail), _LOG_TAIL_MAX)
    lines = None
    if "access" in request.query_params:
        lines = await asyncio.to_thread(access_log_reader.read, context.settings.access_logs, window, region, name)
        if not name or any(gateway["log"] for gateway in lines):  # a deleted endpoint may have lines
            return _json_page({"endpoint": name, "region": region, "access": lines})
    logs = await context.lifecycle.logs(region, name, window)
    if logs is None:
        return _json_page({"message": f"there is no endpoint {name!r} in {region}"}, 404)
    content = {"access": lines} if lines is not None else {"logs": logs}
    return _json_page({"endpoint": name, "region": region, **content})


async def _targets(context: Context, request: Request) -> Response:
    query = request.query_params
    name, order, limit = query.get("endpoint", ""), query.get("sort") or "use", query.get("limit") or "0"
    region = query.get("region") or context.settings.region
    if order not in ORDERS:
        return _json_page({"message": f"sort must be one of {', '.join(ORDERS)}"}, 400)
    if not is_count(limit):
        return _json_page({"message": "limit must be a number of targets; 0: all"}, 400)
    targets = context.lifecycle.targets(region, name, query.get("match", ""), order, int(limit))
    return _json_page({"message": targets}, 404) if isinstance(targets, str) else _json_page(targets)


async def _artifacts(context: Context, request: Request) -> Response:
    return await artifacts.page(context.source, request)


async def _reset(context: Context, request: Request) -> Response:
    """Answer GET with what a reset would delete, POST after it. The body of a POST may name ARNs to keep."""
    if not context.settings.reset:
        message = "hostler deletes nothing at once unless the setting `reset` is on (HOSTLER_RESET=true)."
        return _json_page({"message": message}, 403)
    if request.method != "POST":
        return _json_page({"resources": await reset.contents(context)})
    try:
        body = await _body(request)
        given = msgspec.json.decode(body, type=reset.Request) if body else reset.Request()
    except (msgspec.DecodeError, ApiError) as error:
        return _json_page({"message": f"this is no request for a reset: {error}"}, 400)
    except ClientDisconnect:
        return Response()
    if left := await reset.reset(context, frozenset(given.keep)):
        return _json_page({"message": "these endpoints are still being deleted", "resources": left}, 503)
    return _json_page({"resources": []})


def _json_page(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


_PAGES: dict[str, dict[str, Handler]] = {
    "/_hostler/health": {"GET": _health},
    "/_hostler/ready": {"GET": _ready},
    "/_hostler/metrics": {"GET": _metrics},
    "/_hostler/endpoints": {"GET": _endpoints},
    "/_hostler/targets": {"GET": _targets},
    "/_hostler/logs": {"GET": _logs},
    "/_hostler/faults": dict.fromkeys(("GET", "PUT", "DELETE"), faults.page),
    "/_hostler/reset": {"GET": _reset, "POST": _reset},
    "/_localstack/health": {"GET": _localstack_health},
}
