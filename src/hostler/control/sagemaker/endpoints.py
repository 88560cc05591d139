"""CreateEndpoint, DescribeEndpoint, ListEndpoints, DeleteEndpoint (§2.4, §2.5, §2.6, §2.9).

They write the desired state, wake the lifecycle, and delay the answer for at most `hold` seconds, so that a waiter's
first Describe (§2.11) succeeds. No operation starts or stops anything.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence

from hostler import names
from hostler.control.context import Context
from hostler.control.sagemaker import deployment_config, paging
from hostler.control.sagemaker.aws_messages import already_exists, could_not_find
from hostler.control.sagemaker.tags import read_tags
from hostler.core.endpoints.status import VariantView
from hostler.errors import ApiError
from hostler.store.documents import definitions, instance_type, weight
from hostler.store.records import Document, Revision
from hostler.store.store import NameTaken

_MAX_INSTANCES = 100  # of one endpoint: a typing error must not fill the machine


async def create_endpoint(context: Context, region: str, request: Document) -> Document:
    tags = read_tags(request.pop("Tags", []))
    name, config_name = request["EndpointName"], request["EndpointConfigName"]
    config = await config_of(context, region, config_name)
    models = await models_of(context, region, config)
    check_size(config)
    if "DeploymentConfig" in request:
        deployment_config.check(request["DeploymentConfig"], config["ProductionVariants"])
    try:
        endpoint = await context.store_thread.call(
            context.store.create_endpoint,
            region=region,
            name=name,
            arn=names.arn("endpoint", region, name),
            created=context.now(),
            document=request,
            config=config,
            models=models,
            new_tags=tags,
        )
    except NameTaken:
        raise already_exists("endpoint", region, name) from None
    context.lifecycle.wake()
    await context.lifecycle.settled(endpoint.uid, context.settings.hold)
    return {"EndpointArn": endpoint.arn}


async def describe_endpoint(context: Context, region: str, request: Document) -> Document:
    """Describe: status, weights, desired counts from the store; counts and phases from a view of the same moment."""
    stored = await context.store_thread.call(context.store.endpoint_and_revisions, region, request["EndpointName"])
    if stored is None:
        raise could_not_find("endpoint", region, request["EndpointName"])
    view = context.lifecycle.view(*stored)
    endpoint, revisions = stored
    current, newest = revisions[0], revisions[-1]
    is_changing = endpoint.status in ("Creating", "Updating")
    desired = newest if is_changing and newest.fleet == current.fleet else current
    answer = {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "EndpointConfigName": endpoint.config_name,
        "EndpointStatus": endpoint.status,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "FailureReason": endpoint.failure_reason or None,
        "LastDeploymentConfig": (newest if is_changing else current).deployment or None,
        "MetricsConfig": current.config.get("MetricsConfig"),
        "DataCaptureConfig": _capture_off(current.config),
    }
    if view is not None or endpoint.ready_revision:
        fleet_revision = await context.store_thread.call(context.store.revision, endpoint.uid, current.fleet) or current
        variants = _all_in_service(current) if view is None else view.variants
        answer["ProductionVariants"] = _variants(
            current, desired, variants, fleet_revision.requested, endpoint.modified
        )
    if endpoint.status == "Creating":
        answer["PendingDeploymentSummary"] = _pending(newest, view.variants if view else (), endpoint.modified)
    elif is_changing and desired is not newest:
        answer["PendingDeploymentSummary"] = _pending(newest, view.pending if view else (), endpoint.modified)
    return answer


async def list_endpoints(context: Context, region: str, request: Document) -> Document:
    query = paging.read_query("ListEndpoints", region, request)
    records = await context.store_thread.call(context.store.list_endpoints, query)
    page, token = paging.page("ListEndpoints", region, request, query, records)
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
    """Delete an endpoint: in any state, and again while it is Deleting (§2.9)."""
    endpoint = await context.store_thread.call(
        context.store.mark_deleting, region, request["EndpointName"], context.now()
    )
    if endpoint is None:
        raise could_not_find("endpoint", region, request["EndpointName"])
    context.lifecycle.wake()
    await context.lifecycle.settled(endpoint.uid, context.settings.hold)


async def config_of(context: Context, region: str, name: str) -> Document:
    """Return the document of an endpoint config. Raises ValidationException if there is none."""
    config = await context.store_thread.call(context.store.record, "endpoint-config", region, name)
    if config is None:
        raise could_not_find("endpoint-config", region, name)
    return config.document


async def models_of(context: Context, region: str, config: Document) -> dict[str, Document]:
    """Return the documents of a config's models, by name. Raises ValidationException if one was deleted (rule 28)."""
    models = {}
    for name in {variant["ModelName"] for variant in config["ProductionVariants"]}:
        model = await context.store_thread.call(context.store.record, "model", region, name)
        if model is None:
            raise could_not_find("model", region, name)
        models[name] = model.document
    return models


def check_size(config: Document) -> None:
    """Raise ApiError for a config with more instances than _MAX_INSTANCES."""
    count = sum(variant["InitialInstanceCount"] for variant in config["ProductionVariants"])
    if count > _MAX_INSTANCES:
        raise ApiError(
            "ResourceLimitExceeded",
            f"The limit of instances of one endpoint is {_MAX_INSTANCES}; {count} were asked for.",
        )


def _all_in_service(revision: Revision) -> list[VariantView]:
    """Return the views of a revision that was InService before control started and has not been observed since."""
    variants = revision.config["ProductionVariants"]
    return [VariantView(variant["VariantName"], variant["InitialInstanceCount"]) for variant in variants]


def _capture_off(config: Document) -> Document | None:
    """Return the DataCaptureConfigSummary of a config whose data capture is off; None if it has none (§2.5)."""
    if (capture := config.get("DataCaptureConfig")) is None:
        return None
    return {
        "EnableCapture": False,
        "CaptureStatus": "Stopped",
        "CurrentSamplingPercentage": capture["InitialSamplingPercentage"],
        "DestinationS3Uri": capture["DestinationS3Uri"],
        "KmsKeyId": capture.get("KmsKeyId", ""),
    }


def _pending(revision: Revision, views: Iterable[VariantView], since: float) -> Document:
    """Return the PendingDeploymentSummary of a revision with a new fleet."""
    variants = _variants(revision, revision, views, revision.requested, since)
    for variant, config in zip(variants, revision.config["ProductionVariants"], strict=True):
        if "InstanceType" in config:  # otherwise it has InstancePools
            variant["InstanceType"] = config["InstanceType"]
    return {
        "EndpointConfigName": revision.config["EndpointConfigName"],
        "StartTime": revision.requested,
        "ProductionVariants": variants,
    }


def _variants(
    current: Revision, desired: Revision, views: Iterable[VariantView], resolved_at: float, since: float
) -> list[Document]:
    """Return the summaries of a revision's variants, with the desired values of another. Times are epoch seconds."""
    view_of = {view.name: view for view in views}
    return [
        _variant(
            variant,
            desired_config,
            current.models[variant["ModelName"]],
            view_of.get(variant["VariantName"]),
            resolved_at,
            since,
        )
        for variant, desired_config in zip(
            current.config["ProductionVariants"], desired.config["ProductionVariants"], strict=True
        )
    ]


def _deployed_images(model: Document, images: Sequence[str], resolved_at: float) -> list[Document]:
    """Return the images of a model's containers, with the digests of those that run (§2.5)."""
    deployed = []
    for position, container in enumerate(definitions(model)):
        image = images[position] if images else ""
        name = names.untagged(container["Image"])
        resolved = {"ResolvedImage": f"{name}@{image.rpartition('@')[2]}"} if image else {}
        deployed.append({"SpecifiedImage": container["Image"], **resolved, "ResolutionTime": resolved_at})
    return deployed


def _variant(
    config: Document,
    desired_config: Document,
    model: Document,
    view: VariantView | None,
    resolved_at: float,
    since: float,
) -> Document:
    echoed = {name: config[name] for name in ("RoutingConfig", "CapacityReservationConfig") if name in config}
    summary = echoed | {
        "VariantName": config["VariantName"],
        "DeployedImages": _deployed_images(model, view.images if view else (), resolved_at),
        "CurrentWeight": weight(config),
        "DesiredWeight": weight(desired_config),
        "CurrentInstanceCount": view.current_count if view else 0,
        "DesiredInstanceCount": desired_config["InitialInstanceCount"],
    }
    if pools := config.get("InstancePools"):
        counts = {instance_type(config): summary["CurrentInstanceCount"]}  # all instances are of one pool
        summary["InstancePools"] = [
            {"InstanceType": pool["InstanceType"], "CurrentInstanceCount": counts.get(pool["InstanceType"], 0)}
            for pool in pools
        ]
    if view and view.phase:
        summary["VariantStatus"] = [{"Status": view.phase, "StatusMessage": view.phase_message, "StartTime": since}]
    return summary
