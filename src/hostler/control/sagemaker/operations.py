"""The table of SageMaker operations that are hosted here. To add one, write its function and add a row here.

CONTRIBUTING.md has the other steps.
A function takes the context, the region and the checked request. It returns the response's document, or None if the
operation has no output. It owns the request and may change it.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable

from hostler.aws import check, json_protocol, service
from hostler.control.context import Context
from hostler.control.sagemaker import endpoint_configs, endpoint_updates, endpoints, members, models, tags
from hostler.errors import ApiError
from hostler.store.records import Document

OPERATIONS: dict[str, Callable[[Context, str, Document], Awaitable[Document | None]]] = {
    "CreateModel": models.create_model,
    "DescribeModel": models.describe_model,
    "ListModels": models.list_models,
    "DeleteModel": models.delete_model,
    "CreateEndpointConfig": endpoint_configs.create_endpoint_config,
    "DescribeEndpointConfig": endpoint_configs.describe_endpoint_config,
    "ListEndpointConfigs": endpoint_configs.list_endpoint_configs,
    "DeleteEndpointConfig": endpoint_configs.delete_endpoint_config,
    "CreateEndpoint": endpoints.create_endpoint,
    "DescribeEndpoint": endpoints.describe_endpoint,
    "ListEndpoints": endpoints.list_endpoints,
    "DeleteEndpoint": endpoints.delete_endpoint,
    "UpdateEndpoint": endpoint_updates.update_endpoint,
    "UpdateEndpointWeightsAndCapacities": endpoint_updates.update_endpoint_weights_and_capacities,
    "AddTags": tags.add_tags,
    "ListTags": tags.list_tags,
    "DeleteTags": tags.delete_tags,
}

_TARGET = "SageMaker."


class Api:
    """SageMaker's API: find the operation, check the request against AWS's service model, call its function."""

    def __init__(self) -> None:
        self._service = service.load("sagemaker", OPERATIONS)

    async def call(self, context: Context, target: str, content_type: str, region: str, body: bytes) -> bytes:
        """Return the response's body for a request with this X-Amz-Target. Raises ApiError."""
        name = target.removeprefix(_TARGET)
        if not target.startswith(_TARGET) or name not in self._service.names:
            raise ApiError("UnknownOperationException", f"There is no operation {target[:200]!r}.")
        if name not in OPERATIONS:
            message = f"SageMaker's operation {name} is not hosted here."
            raise ApiError("UnknownOperationException", message)
        if content_type.partition(";")[0].strip().lower() not in (json_protocol.CONTENT_TYPE, "application/json"):
            raise check.SerializationException(f"The Content-Type must be {json_protocol.CONTENT_TYPE}.")
        shape = self._service.operations[name].input
        request = check.read(shape, json_protocol.parse(body))
        members.check(shape, request)
        return json_protocol.render(await OPERATIONS[name](context, region, request))
