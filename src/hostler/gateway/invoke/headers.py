"""An invocation's headers: their constraints (§1.4), and those that reach a container (§4.2).

It knows no endpoint: whether an endpoint takes a header is the matter of `resolve`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping

from hostler import contract
from hostler.gateway import errors

_NAME = r"[a-zA-Z0-9](-*[a-zA-Z0-9])*"
# Header -> its member's name, longest value, pattern.
_CONSTRAINTS = {
    "content-type": ("contentType", 1024, ""),
    "accept": ("accept", 1024, ""),
    contract.H_ACCEPT: ("accept", 1024, ""),
    contract.H_CUSTOM_ATTRIBUTES: ("customAttributes", 1024, ""),
    contract.H_TARGET_MODEL: ("targetModel", 1024, r"\S[ -~]*"),
    contract.H_TARGET_VARIANT: ("targetVariant", 63, _NAME),
    contract.H_TARGET_CONTAINER: ("targetContainerHostname", 63, _NAME),
    contract.H_INFERENCE_ID: ("inferenceId", 64, r"\S[ -~]*"),
    contract.H_ENABLE_EXPLANATIONS: ("enableExplanations", 64, r"[ -~]+"),
    contract.H_INFERENCE_COMPONENT: ("inferenceComponentName", 63, _NAME),
    contract.H_SESSION_ID: ("sessionId", 256, rf"NEW_SESSION|{_NAME}"),
    contract.H_PREFIX_AWARE_ID: ("prefixAwareId", 64, r"[ -~]+"),
}
_SELDOM = frozenset(_CONSTRAINTS) - {"content-type", "accept", contract.H_TARGET_MODEL}
_PATTERNS = {pattern: re.compile(pattern) for *_, pattern in _CONSTRAINTS.values() if pattern}
_ENDPOINT_NAME = re.compile(_NAME)

# Headers that reach every container, as they are spelled for it.
_FORWARDED = (
    ("accept", "Accept: "),
    (contract.H_CUSTOM_ATTRIBUTES, "X-Amzn-SageMaker-Custom-Attributes: "),
    (contract.H_INFERENCE_ID, "X-Amzn-SageMaker-Inference-Id: "),
    (contract.H_TRACE_PARENT, "traceparent: "),
    (contract.H_TRACE_STATE, "tracestate: "),
)


def check_headers(headers: Mapping[str, str]) -> None:
    """Raise InvokeError for the first header that breaks its constraint."""
    if _SELDOM.isdisjoint(headers):  # the headers that most requests have are checked in one look
        target = headers.get(contract.H_TARGET_MODEL, "-")
        values = f"{target}{headers.get('accept', '')}{headers.get('content-type', '')}"
        if values.isascii() and values.isprintable() and len(values) <= 1024 and target and target[0] != " ":
            return
    for name, value in headers.items():
        rule = _CONSTRAINTS.get(name)
        if rule is None:
            continue
        member, longest, pattern = rule
        if len(value) > longest:
            tail = f"Member must have length less than or equal to {longest}"
            raise errors.constraint(member, value, tail)
        if pattern and not _PATTERNS[pattern].fullmatch(value):
            tail = f"Member must satisfy regular expression pattern: ^({pattern})$"
            raise errors.constraint(member, value, tail)
        if not (value.isascii() and value.isprintable()):
            raise errors.constraint(member, value, "Member must hold printable ASCII characters only")


def check_endpoint_name(name: str) -> None:
    """Raise InvokeError if no endpoint can have this name."""
    if len(name) > 63:
        raise errors.constraint("endpointName", name, "Member must have length less than or equal to 63")
    if not _ENDPOINT_NAME.fullmatch(name):
        tail = r"Member must satisfy regular expression pattern: ^[a-zA-Z0-9](-*[a-zA-Z0-9])*"
        raise errors.constraint("endpointName", name, tail)


def streaming(headers: Mapping[str, str]) -> dict[str, str]:
    """Return the headers of InvokeEndpointWithResponseStream as InvokeEndpoint spells them: Accept has another name."""
    renamed = {**headers}
    renamed.pop("accept", None)
    if contract.H_ACCEPT in renamed:
        renamed["accept"] = renamed[contract.H_ACCEPT]
    return renamed


def container_head(
    head: str, headers: Mapping[str, str], content_type: str | None, target: str | None, length: int
) -> bytes:
    """Render the whole head of a request to a container. Only the headers named here are passed on.

    In a chain (§5.6) the body's type is what the container before answered, and only the multi-model container gets
    TargetModel.
    """
    if content_type is not None:
        head = f"{head}Content-Type: {content_type}\r\n"
    if target is not None:
        head = f"{head}X-Amzn-SageMaker-Target-Model: {target}\r\n"
    for name, spelling in _FORWARDED:
        if name in headers:
            head = f"{head}{spelling}{headers[name]}\r\n"
    return f"{head}Content-Length: {length}\r\n\r\n".encode("latin-1")
