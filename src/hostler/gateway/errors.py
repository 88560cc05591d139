"""The runtime API's errors (§1.6, §4.5), rendered in this one place; those of other APIs by `aws/errors`. It decides
nothing.

A body has no `__type`: clients take the exception's class from the header `x-amzn-ErrorType`. Once a container may have
begun work no error is a 500 or 503, because clients send such requests again.
"""

from __future__ import annotations

from collections.abc import Sequence

import msgspec

from hostler.aws import errors as aws_errors
from hostler.aws.classify import Call, classify
from hostler.contract import MAX_BETWEEN_CONTAINERS, MAX_BODY, MAX_MESSAGE
from hostler.errors import HostlerError
from hostler.names import ACCOUNT, LOG_GROUPS, log_group_arn
from hostler.text import quoted
from hostler.wire.http_request import Headers, Request

_SERVERS_FAULT = "INTERNAL_FAILURE_FROM_MODEL"


class InvokeError(HostlerError):
    """The error that an invocation ends with. `kind` is AWS's exception name, empty for the bare 413."""

    model_status = 0  # that the container answered with; 0: none

    def __init__(self, status: int, kind: str, message: str, code: str = "", **fields: str | int) -> None:
        super().__init__(message)
        self.status = status
        self.kind = kind
        self.body = msgspec.json.encode({**({"ErrorCode": code} if code else {}), "Message": message, **fields})


def answer(request: Request, error: InvokeError, request_id: str, headers: Headers = ()) -> None:
    """Answer the request with the error."""
    lines = [("x-amzn-RequestId", request_id), *headers]
    if error.kind:
        lines.insert(0, ("x-amzn-ErrorType", error.kind))
    request.answer(error.status, error.body, headers=lines)


def api(request: Request) -> Call:
    """Return the API of a request."""
    return classify(request.method, request.path, request.query, request.headers)


def send(request: Request, rendered: aws_errors.Answer) -> None:
    """Answer the request with an error that its API has rendered."""
    request.answer(rendered.status, rendered.body, rendered.content_type, list(rendered.headers.items()))


def of_any_api(status: int, message: str) -> tuple[bytes, str, Headers]:
    """Render an error before it is known which API was meant: the parsers of both JSON protocols can read it."""
    kind = {408: "RequestTimeoutException", 500: "InternalFailure"}.get(status, "")
    kind = kind or ("ServiceUnavailable" if status >= 500 else "ValidationError")
    body = {"__type": kind, "message": message, "Message": message}
    return msgspec.json.encode(body), "application/json", (("x-amzn-ErrorType", kind),)


# --- ValidationError ----------------------------------------------------------------------------------------------


def invalid(message: str, code: str = "") -> InvokeError:
    return InvokeError(400, "ValidationError", message, code)


def constraint(member: str, value: str, tail: str) -> InvokeError:
    """A header or label breaks a constraint of the API's model; in the sentences of AWS's framework (§1.3)."""
    return invalid(
        f"1 validation error detected: Value '{quoted(value)}' at '{member}' failed to satisfy constraint: {tail}"
    )


def no_such_endpoint(name: str) -> InvokeError:
    return invalid(f"Endpoint {name} of account {ACCOUNT} not found.", "NO_SUCH_ENDPOINT")


def no_such_variant(name: str, variant: str) -> InvokeError:
    return invalid(f"Variant {variant} of endpoint {name} of account {ACCOUNT} not found.", "NO_SUCH_VARIANT")


def not_multi_model(name: str) -> InvokeError:
    return invalid(
        f"Endpoint {name} is not a multi-model endpoint and does not support target model header.",
        "TARGET_MODEL_HEADER_NOT_SUPPORTED",
    )


def target_missing(request_id: str) -> InvokeError:
    return invalid(f"Request {request_id} is missing a target model header.", "TARGET_MODEL_HEADER_MISSING")


def not_direct(name: str) -> InvokeError:
    return invalid(
        f"Endpoint {name} does not invoke its containers directly and does not support target container hostname "
        "header. Its model was created without the InferenceExecutionConfig mode Direct.",
        "TARGET_CONTAINER_HOSTNAME_HEADER_NOT_SUPPORTED",
    )


def hostname_missing(name: str, request_id: str, hostnames: Sequence[str]) -> InvokeError:
    return invalid(
        f"Request {request_id} is missing a target container hostname header. Endpoint {name} invokes its containers "
        f"directly: set TargetContainerHostname to one of {', '.join(hostnames)}.",
        "TARGET_CONTAINER_HOSTNAME_HEADER_MISSING",
    )


def no_such_container(name: str, hostname: str, hostnames: Sequence[str]) -> InvokeError:
    return invalid(
        f"Container {hostname} of endpoint {name} of account {ACCOUNT} not found. Its containers are "
        f"{', '.join(hostnames)}.",
        "TARGET_CONTAINER_HOSTNAME_NOT_FOUND",
    )


def no_target_on_streams(name: str) -> InvokeError:
    return invalid(
        f"Endpoint {name} is a multi-model endpoint, and InvokeEndpointWithResponseStream has no TargetModel. "
        "Use InvokeEndpoint."
    )


def unsafe_target(target: str, reason: str) -> InvokeError:
    return invalid(f"TargetModel '{quoted(target)}' is not valid: {reason}.")


# --- other classes ------------------------------------------------------------------------------------------------


def oversize() -> InvokeError:
    """The body is too large: 413 without an error type, as the service answers it."""
    return InvokeError(413, "", f"HTTP content length exceeded {MAX_BODY} bytes.")


def not_hosted(operation: str) -> InvokeError:
    """In the words and with the code of all that is not hosted (decision 0028)."""
    message = (
        f"SageMaker Runtime's operation {operation} is not hosted by hostler; InvokeEndpoint and "
        "InvokeEndpointWithResponseStream are."
    )
    return InvokeError(403, "AccessDeniedException", message)


def not_ready(name: str, variant: str, target: str) -> InvokeError:
    """The target was not loaded in time (§6.3)."""
    model = f"Model {target}" if target else "The model"  # without a target: by a fault on purpose alone
    message = f"{model} for endpoint {name} variant {variant} is not ready for inference yet."
    return InvokeError(429, "ModelNotReadyException", message, "MODEL_NOT_READY")


def no_instance(name: str, variant: str) -> InvokeError:
    return InvokeError(503, "ServiceUnavailable", f"Variant {variant} of endpoint {name} has no instance in service.")


def no_room() -> InvokeError:
    return InvokeError(503, "ServiceUnavailable", "Too many bodies arrive at once. Send this request again.")


def no_routes() -> InvokeError:
    return InvokeError(503, "ServiceUnavailable", "hostler is starting; its endpoints are not known yet.")


def throttled() -> InvokeError:
    return InvokeError(400, "ThrottlingException", "Rate exceeded")


def internal() -> InvokeError:
    return InvokeError(500, "InternalFailure", "An internal failure occurred.")


def dependency(message: str) -> InvokeError:
    return InvokeError(530, "InternalDependencyException", message)


def model_error(region: str, name: str, label: str, status: int, original: str) -> InvokeError:
    """A container answered with an error: a client's (4xx) or a server's, with its text (§4.5). `label` names it."""
    client = 400 <= status < 500
    return _model_error(
        region,
        name,
        status,
        original,
        f"Received {'client' if client else 'server'} error ({status}) from {label} with message ",
        "CLIENT_ERROR_FROM_MODEL" if client else _SERVERS_FAULT,
    )


def timed_out(region: str, name: str, label: str) -> InvokeError:
    return model_error(
        region,
        name,
        label,
        0,
        f"Your invocation timed out while waiting for a response from container {label}. Review the latency metrics "
        "for each container in Amazon CloudWatch, resolve the issue, and try again.",
    )


def unreachable(region: str, name: str, label: str) -> InvokeError:
    return model_error(
        region,
        name,
        label,
        0,
        f"Amazon SageMaker could not get a response from the {name} endpoint. This can occur when CPU or memory "
        "utilization is high. To check your utilization, see Amazon CloudWatch. To fix this problem, use an instance "
        "type with more CPU capacity or memory.",
    )


def cut(region: str, name: str, label: str) -> InvokeError:
    """The container's answer ended before its body did."""
    words = f"Received server error (500) from {label} and could not load the entire response body"
    return _model_error(region, name, 500, "", words, _SERVERS_FAULT)


def too_much_between(region: str, name: str, label: str, following: str, status: int, size: str) -> InvokeError:
    """A container of a pipeline answered more than the next one may be sent (§5.6); `size` is in bytes, as text."""
    words = (
        f"Received response from {label} with status code {status}. However, the request payload from {label} to "
        f"{following} is {size} bytes, which has exceeded the maximum limit of {MAX_BETWEEN_CONTAINERS // 2**20} MB"
    )
    return _model_error(region, name, status, f"{words}.", words, _SERVERS_FAULT)


def _model_error(region: str, name: str, status: int, original: str, words: str, code: str) -> InvokeError:
    see = f"`hostler logs {name}`, #logEventViewer:group={LOG_GROUPS}{name}"
    tail = f". See {see} in account {ACCOUNT} for more information."
    if words.endswith(" "):
        original = original[:MAX_MESSAGE]
        words += f'"{original[: MAX_MESSAGE - len(words) - len(tail) - 2]}"'
    error = InvokeError(
        424,
        "ModelError",
        words + tail,
        code,
        LogStreamArn=log_group_arn(region, name),
        OriginalMessage=original,
        OriginalStatusCode=status,
    )
    error.model_status = status
    return error
