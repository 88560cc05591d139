"""The registry of AWS's services that are hosted here, and the dispatcher of their calls.

To add a service, write its table of operations and add a row to SERVICES; the prefix of its X-Amz-Target has a row in
`aws/classify`. S3 and invocations are not in it: `s3/app` and the gateways answer these. The dispatcher knows no
operation: it checks a request against AWS's service model, calls the operation's function, and renders the answer, or
the error, in the request's protocol.
"""

from __future__ import annotations

import asyncio
import logging
import uuid
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from hostler.aws import cbor_protocol, check, errors, json_protocol, query_protocol, service
from hostler.aws.classify import Call, Protocol
from hostler.aws.errors import Answer
from hostler.aws.service import Service, Shape
from hostler.control import iam, not_hosted, sts
from hostler.control.cloudwatch.operations import OPERATIONS as CLOUDWATCH
from hostler.control.context import Context, Function
from hostler.control.logs.operations import OPERATIONS as LOGS
from hostler.control.sagemaker import members
from hostler.control.sagemaker.operations import OPERATIONS as SAGEMAKER
from hostler.errors import ApiError, SerializationException, ValidationException
from hostler.store.records import Document

_log = logging.getLogger(__name__)

_JSON = frozenset([Protocol.JSON_1_0, Protocol.JSON_1_1])
_QUERY = frozenset([Protocol.QUERY])
_EVERY = _JSON | _QUERY | {Protocol.CBOR}


@dataclass(frozen=True)
class HostedService:
    """`name`: in sentences. `model`: its folder in botocore's data. `check`: what it refuses of a checked document.

    `invalid`: its exception for a document that breaks the constraints of its shape.
    """

    name: str
    model: str
    protocols: frozenset[Protocol]
    operations: Mapping[str, Function]
    check: Callable[[Shape, Document], None] | None = None
    invalid: str = "ValidationException"


SERVICES: Mapping[str, HostedService] = {  # by signing name, in the order of sentences
    "sagemaker": HostedService("SageMaker", "sagemaker", _JSON, SAGEMAKER, members.check),
    "sts": HostedService("STS", "sts", _QUERY, sts.OPERATIONS),
    "iam": HostedService("IAM", "iam", _QUERY, iam.OPERATIONS),
    "monitoring": HostedService("CloudWatch", "cloudwatch", _EVERY, CLOUDWATCH),
    "logs": HostedService("CloudWatch Logs", "logs", _JSON, LOGS, invalid="InvalidParameterException"),
}


@dataclass(frozen=True)
class Received:
    """What the protocols need of a request. `body`: in the query protocol its query, if it has none."""

    method: str
    path: str
    region: str
    content_type: str
    body: bytes


class Dispatcher:
    """Answers the calls of the services. Their models are read when they are needed first, SageMaker's at the start."""

    def __init__(self, context: Context) -> None:
        self._context = context
        self._models = {"sagemaker": _load(SERVICES["sagemaker"])}

    async def answer(self, call: Call, request: Received) -> Answer:
        """Return the answer to a call."""
        request_id, model = str(uuid.uuid4()), None
        try:
            if not is_hosted(call):
                names = {service.model: service.name for service in SERVICES.values()}
                found = await asyncio.to_thread(
                    not_hosted.service, call, request.method, request.path, request.region, names
                )
                raise found
            hosted = SERVICES[call.service]
            if call.service not in self._models:
                self._models[call.service] = await asyncio.to_thread(_load, hosted)
            model = self._models[call.service]
            return await self._call(hosted, model, call, request, request_id)
        except ApiError as error:
            failure = error
        except Exception:
            _log.exception("a request to %s failed", call)
            failure = ApiError("InternalFailure", "hostler failed at this request; its log says how.", 500)
        namespace, codes = (model.namespace, model.query_codes) if model else ("", {})
        return errors.render(call, failure, request_id, namespace, codes)

    async def _call(
        self, hosted: HostedService, model: Service, call: Call, request: Received, request_id: str
    ) -> Answer:
        # 1. The operation. Only a form's body names it.
        form = query_protocol.parse_form(request.body) if call.protocol is Protocol.QUERY else {}
        name = form.get("Action", "") if call.protocol is Protocol.QUERY else call.operation
        if name not in model.names:
            raise not_hosted.unknown(name)
        if name not in hosted.operations:
            raise not_hosted.operation(hosted.name, name)
        operation = model.operations[name]
        # 2. The request's document.
        if call.protocol in _JSON:
            if request.content_type.partition(";")[0].strip().lower() not in json_protocol.CONTENT_TYPES:
                raise SerializationException(f"The Content-Type must be {json_protocol.content_type(call.protocol)}.")
            given = json_protocol.parse(request.body)
        elif call.protocol is Protocol.CBOR:
            given = cbor_protocol.parse(request.body)
        else:
            given = query_protocol.parse(form, operation.input)
        try:
            document = check.read(operation.input, given)
        except ValidationException as error:
            raise ApiError(hosted.invalid, error.message) from None
        if hosted.check:
            hosted.check(operation.input, document)
        # 3. The answer.
        result = await hosted.operations[name](self._context, request.region, document)
        headers = {json_protocol.REQUEST_ID: request_id}
        if call.protocol in _JSON:
            return Answer(200, json_protocol.render(result), json_protocol.content_type(call.protocol), headers)
        # The others take up to a quarter of a second for a page of metrics, so the loop does not render them.
        if call.protocol is Protocol.CBOR:
            answer = await asyncio.to_thread(cbor_protocol.render, result, operation.output)
            return Answer(200, answer, cbor_protocol.CONTENT_TYPE, headers | cbor_protocol.HEADERS)
        answer = await asyncio.to_thread(query_protocol.render, result, operation, model.namespace, request_id)
        return Answer(200, answer, query_protocol.CONTENT_TYPE, headers)


def is_hosted(call: Call) -> bool:
    """Return whether a call's service is hosted, in the call's protocol."""
    hosted = SERVICES.get(call.service)
    return hosted is not None and call.protocol in hosted.protocols


def _load(hosted: HostedService) -> Service:
    return service.load(hosted.model, hosted.operations)
