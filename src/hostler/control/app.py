"""Dispatch every request on the one port, except invocations, which the gateway handles.

Owns the limit on bodies and the rendering of every error of the JSON API; knows no operation.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Awaitable, Callable

import msgspec
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.types import ASGIApp, Receive, Scope, Send

from hostler import __version__
from hostler.aws import credential, json_protocol
from hostler.control import access_log_reader, sts
from hostler.control.context import Context
from hostler.control.sagemaker.operations import Api
from hostler.core.targets.states import ORDERS
from hostler.errors import ApiError
from hostler.text import is_count

BODY_MAX = 2**20  # bytes of a control-plane request
LOG_TAIL = 64 * 1024  # bytes of each log that /_hostler/logs returns by default
_LOG_TAIL_MAX = 2**20

_log = logging.getLogger(__name__)

Handler = Callable[[Context, Request], Awaitable[Response]]


def create_app(context: Context) -> ASGIApp:
    """Return the control plane's ASGI app (HTTP only)."""
    api = Api()

    async def app(scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            raise RuntimeError(f"not served here: {scope['type']}")
        request = Request(scope, receive)
        post = scope["method"] == "POST" and scope["path"] == "/"
        if post and "x-amz-target" in request.headers:
            response = await _aws_json(api, context, request)
        elif post and request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
            response = await _sts(context, request)
        elif scope["path"] in _PAGES:
            response = await _page(context, request)
        else:
            await context.s3(scope, receive, send)
            return
        await response(scope, receive, send)

    return app


# --- SageMaker and STS ------------------------------------------------------------------------------------------------


async def _aws_json(api: Api, context: Context, request: Request) -> Response:
    headers = {json_protocol.REQUEST_ID: str(uuid.uuid4())}
    try:
        target, content_type = request.headers["x-amz-target"], request.headers.get("content-type", "")
        body = await _body(request)
        return _aws_response(
            await api.call(context, target, content_type, _region(context, request), body), 200, headers
        )
    except ApiError as error:
        return _aws_response(json_protocol.render_error(error), error.status, headers)
    except ClientDisconnect:
        return Response()  # the client is gone
    except Exception:
        _log.exception("a request to %s failed", request.headers["x-amz-target"])
        failure = ApiError("InternalFailure", "hostler failed at this request; its log says how.", 500)
        return _aws_response(json_protocol.render_error(failure), failure.status, headers)


async def _sts(context: Context, request: Request) -> Response:
    request_id = str(uuid.uuid4())
    try:
        body = await _body(request)
    except (ApiError, ClientDisconnect):
        body = b""
    status, answer = sts.answer(body, _region(context, request), request_id)
    return Response(answer, status, {json_protocol.REQUEST_ID: request_id}, sts.CONTENT_TYPE)


async def _body(request: Request) -> bytes:
    """Read the body. Raises ApiError (413) for a body longer than BODY_MAX, before all of it is read."""
    body = bytearray()
    async for chunk in request.stream():
        body += chunk
        if len(body) > BODY_MAX:
            message = f"The request's body is longer than {BODY_MAX} bytes."
            raise ApiError("RequestEntityTooLargeException", message, 413)
    return bytes(body)


def _region(context: Context, request: Request) -> str:
    return credential.region(request.headers.get("authorization", ""), context.settings.region)


def _aws_response(body: bytes, status: int, headers: dict[str, str]) -> Response:
    return Response(body, status, headers, json_protocol.CONTENT_TYPE)


# --- our own pages ----------------------------------------------------------------------------------------------------


async def _page(context: Context, request: Request) -> Response:
    if request.method not in ("GET", "HEAD"):
        return Response(b"", 405, {"Allow": "GET, HEAD"})
    return await _PAGES[request.scope["path"]](context, request)


async def _health(_context: Context, _request: Request) -> Response:
    return _json_page({"status": "ok", "version": __version__})


async def _ready(context: Context, _request: Request) -> Response:
    ready = context.ready()
    return _json_page({"ready": ready}, 200 if ready else 503)


async def _localstack_health(_context: Context, _request: Request) -> Response:
    """Answer tools for LocalStack, which wait for this page."""
    services = dict.fromkeys(("s3", "sagemaker", "sagemaker-runtime", "sts"), "running")
    return _json_page({"services": services, "edition": "hostler", "version": __version__})


async def _metrics(context: Context, _request: Request) -> Response:
    return Response(context.metrics(), media_type="text/plain; version=0.0.4; charset=utf-8")


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


def _json_page(value: object, status: int = 200) -> Response:
    return Response(msgspec.json.encode(value), status, media_type="application/json")


_PAGES: dict[str, Handler] = {
    "/_hostler/health": _health,
    "/_hostler/ready": _ready,
    "/_hostler/metrics": _metrics,
    "/_hostler/endpoints": _endpoints,
    "/_hostler/targets": _targets,
    "/_hostler/logs": _logs,
    "/_localstack/health": _localstack_health,
}
