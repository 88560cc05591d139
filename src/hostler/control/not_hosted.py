"""What is answered about AWS's services, and operations of theirs, that are not hosted here (decision 0028).

The code is that of a call that nobody may make: SDKs go on after it where they give up after others.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping

from hostler import failures
from hostler.aws import directory
from hostler.aws.classify import S3_CONTROL, Call, Protocol
from hostler.errors import ApiError
from hostler.names import ACCOUNT
from hostler.text import quoted

_RUNTIME = "SageMaker Runtime"
_ELSEWHERE = (_RUNTIME, "S3")  # hosted, but not in control's registry
_JSON = (Protocol.JSON_1_0, Protocol.JSON_1_1)


class NotHosted(ApiError):
    """`advice`: sentences that follow, if something helps."""

    def __init__(self, what: str, hosted: Collection[str] = (), advice: str = "") -> None:
        *most, last = hosted or ("",)
        instead = f"; {', '.join(most)} and {last} are" if most else ""
        message = f"{what} is not hosted by hostler{instead}."
        super().__init__("AccessDeniedException", f"{message} {advice}".rstrip())


def unknown(operation: str) -> ApiError:
    """Return the error about an operation that AWS does not have either."""
    return ApiError("UnknownOperationException", f"There is no operation '{quoted(operation)}'.")


def operation(service: str, name: str) -> ApiError:
    """Return the error about an operation of a hosted service."""
    return NotHosted(f"{service}'s operation {name}")


def service(call: Call, method: str, path: str, region: str, hosted: Mapping[str, str]) -> ApiError:
    """Return the error about a call of no hosted service, or in no protocol of its. It reads files.

    `hosted`: model's folder -> name, of the services that are.
    """
    if call.service == "sagemaker" and path.startswith("/endpoints/"):
        operations = ("InvokeEndpoint", "InvokeEndpointWithResponseStream")
        return NotHosted(f"{_RUNTIME}'s operation at {quoted(f'{method} {path}')}", operations)
    if call.operation == S3_CONTROL:
        return NotHosted("AWS S3 Control", _in_words(hosted))
    entry = directory.entry(call, method, path)
    if (entry is None and call.protocol in _JSON and not call.service) or (entry and entry.folder in hosted):
        return unknown(call.operation or f"{method} {path}")
    name = entry.full_name if entry else f"AWS's service '{quoted(call.service)}'"
    return NotHosted(name, _in_words(hosted), _advice(call.service, region))


def _in_words(hosted: Mapping[str, str]) -> list[str]:
    first, *others = hosted.values()
    return [first, *_ELSEWHERE, *others]


def _advice(service: str, region: str) -> str:
    """Return what helps instead of a service."""
    if service == "ecr":
        image = f"{ACCOUNT}.dkr.ecr.{region}.amazonaws.com/NAME"
        return f"An image need not be anywhere to be hosted. {failures.map_image(image)}"
    return ""
