"""The table of SageMaker operations that are hosted here. To add one, write its function and add a row here.

CONTRIBUTING.md has the other steps; `control/services.py` calls the functions.
"""

from __future__ import annotations

from hostler.control.context import Function
from hostler.control.sagemaker import endpoint_configs, endpoint_updates, endpoints, models, tags

OPERATIONS: dict[str, Function] = {
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
