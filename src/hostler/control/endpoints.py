"""CreateEndpoint, DescribeEndpoint, ListEndpoints, DeleteEndpoint (§2.4, §2.5, §2.6, §2.9).

They write what is desired, wake the lifecycle, and hold the answer for a while so that a waiter's first look
succeeds; no operation starts or stops anything.
"""

from __future__ import annotations

from hostler import names
from hostler.control import listing
from hostler.control.context import Context
from hostler.control.models import check_launchable, containers
from hostler.control.sentences import already_exists, could_not_find
from hostler.control.tags import tagged
from hostler.core.status import VariantView
from hostler.errors import ApiError
from hostler.store.records import Document
from hostler.store.store import NameTaken

_MOST_INSTANCES = 100  # of one endpoint: a slip of the keyboard must not fill the machine


async def create_endpoint(context: Context, region: str, request: Document) -> Document:
    tags = tagged(request.pop("Tags", []))
    name, config_name = request["EndpointName"], request["EndpointConfigName"]
    config = await context.store_call(context.store.record, "endpoint-config", region, config_name)
    if config is None:
        raise could_not_find("endpoint-config", region, config_name)
    models = {}
    for model_name in {variant["ModelName"] for variant in config.document["ProductionVariants"]}:
        model = await context.store_call(context.store.record, "model", region, model_name)
        if model is None:
            raise could_not_find("model", region, model_name)  # rule 28
        check_launchable(model.document)
        models[model_name] = model.document
    _check_size(config.document)
    try:
        endpoint = await context.store_call(
            context.store.create_endpoint,
            region=region,
            name=name,
            arn=names.arn("endpoint", region, name),
            created=context.now(),
            document=request,
            config=config.document,
            models=models,
            tagged=tags,
        )
    except NameTaken:
        raise already_exists("endpoint", region, name) from None
    context.lifecycle.wake()
    await context.lifecycle.settled(endpoint.uid, context.settings.hold)
    return {"EndpointArn": endpoint.arn}


async def describe_endpoint(context: Context, region: str, request: Document) -> Document:
    endpoint = await context.store_call(context.store.endpoint, region, request["EndpointName"])
    if endpoint is None:
        raise could_not_find("endpoint", region, request["EndpointName"])
    shown = {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "EndpointConfigName": endpoint.config_name,
        "EndpointStatus": endpoint.status,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "FailureReason": endpoint.failure_reason or None,
        "LastDeploymentConfig": endpoint.document.get("DeploymentConfig"),
    }
    view = context.lifecycle.view(endpoint.uid)
    number = endpoint.ready_revision or endpoint.revision
    revision = await context.store_call(context.store.revision, endpoint.uid, number)
    if view is not None and revision is not None:
        seen = {variant.name: variant for variant in view.variants}
        shown["ProductionVariants"] = [
            _variant(seen[variant["VariantName"]], variant, revision.models, endpoint.created)
            for variant in revision.config["ProductionVariants"]
            if variant["VariantName"] in seen
        ]
    return shown


async def list_endpoints(context: Context, region: str, request: Document) -> Document:
    asked = listing.asked("ListEndpoints", region, request)
    found = await context.store_call(context.store.list_endpoints, asked)
    page, token = listing.page("ListEndpoints", region, request, asked, found)
    endpoints = [
        {
            "EndpointName": endpoint.name,
            "EndpointArn": endpoint.arn,
            "CreationTime": endpoint.created,
            "LastModifiedTime": endpoint.modified,
            "EndpointStatus": endpoint.status,
        }
        for endpoint in page
    ]
    return {"Endpoints": endpoints, "NextToken": token}


async def delete_endpoint(context: Context, region: str, request: Document) -> None:
    """Accepted in any state, and again while Deleting (§2.9)."""
    endpoint = await context.store_call(context.store.ask_delete, region, request["EndpointName"])
    if endpoint is None:
        raise could_not_find("endpoint", region, request["EndpointName"])
    context.lifecycle.wake()
    await context.lifecycle.settled(endpoint.uid, context.settings.hold)


def _check_size(config: Document) -> None:
    wanted = sum(variant["InitialInstanceCount"] for variant in config["ProductionVariants"])
    if wanted > _MOST_INSTANCES:
        raise ApiError(
            "ResourceLimitExceeded",
            f"The limit of instances of one endpoint is {_MOST_INSTANCES}; {wanted} were asked for.",
        )


def _variant(view: VariantView, config: Document, models: dict[str, Document], resolved: float) -> Document:
    echoed = {name: config[name] for name in ("RoutingConfig", "CapacityReservationConfig") if name in config}
    images = [container["Image"] for container in containers(models[config["ModelName"]])]
    return echoed | {
        "VariantName": view.name,
        "DeployedImages": [{"SpecifiedImage": image, "ResolutionTime": resolved} for image in images],
        "CurrentWeight": view.current_weight,
        "DesiredWeight": view.desired_weight,
        "CurrentInstanceCount": view.current_count,
        "DesiredInstanceCount": view.desired_count,
    }
