"""CreateEndpoint, DescribeEndpoint, ListEndpoints, DeleteEndpoint (§2.4, §2.5, §2.6, §2.9).

They write what is desired, wake the lifecycle, and hold the answer for a while so that a waiter's first look
(§2.11) succeeds; no operation starts or stops anything.
"""

from __future__ import annotations

from collections.abc import Iterable

from hostler import names
from hostler.control.context import Context
from hostler.control.sagemaker import deployment_config, paging
from hostler.control.sagemaker.aws_messages import already_exists, could_not_find
from hostler.control.sagemaker.tags import read_tags
from hostler.core.endpoints.status import VariantView
from hostler.errors import ApiError
from hostler.hosting.models import definitions, weight
from hostler.store.records import Document, Revision
from hostler.store.store import NameTaken

_MAX_INSTANCES = 100  # of one endpoint: a slip of the keyboard must not fill the machine


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
    """Status, weights and desired counts are the store's; what is seen in the same moment adds counts and phases."""
    stored = await context.store_thread.call(context.store.endpoint_and_revisions, region, request["EndpointName"])
    if stored is None:
        raise could_not_find("endpoint", region, request["EndpointName"])
    view = context.lifecycle.view(*stored)
    endpoint, revisions = stored
    shown, newest = revisions[0], revisions[-1]
    is_changing = endpoint.status in ("Creating", "Updating")
    desired = newest if is_changing and newest.fleet == shown.fleet else shown
    answer = {
        "EndpointName": endpoint.name,
        "EndpointArn": endpoint.arn,
        "EndpointConfigName": endpoint.config_name,
        "EndpointStatus": endpoint.status,
        "CreationTime": endpoint.created,
        "LastModifiedTime": endpoint.modified,
        "FailureReason": endpoint.failure_reason or None,
        "LastDeploymentConfig": (newest if is_changing else shown).deployment or None,
    }
    if view is not None or endpoint.ready_revision:
        resolved = await context.store_thread.call(context.store.revision, endpoint.uid, shown.fleet) or shown
        variants = _all_in_service(shown) if view is None else view.variants
        answer["ProductionVariants"] = _variants(shown, desired, variants, resolved.requested, endpoint.modified)
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
    """Accepted in any state, and again while Deleting (§2.9)."""
    endpoint = await context.store_thread.call(
        context.store.mark_deleting, region, request["EndpointName"], context.now()
    )
    if endpoint is None:
        raise could_not_find("endpoint", region, request["EndpointName"])
    context.lifecycle.wake()
    await context.lifecycle.settled(endpoint.uid, context.settings.hold)


async def config_of(context: Context, region: str, name: str) -> Document:
    """The document of an endpoint config. Raises ValidationException when there is none."""
    config = await context.store_thread.call(context.store.record, "endpoint-config", region, name)
    if config is None:
        raise could_not_find("endpoint-config", region, name)
    return config.document


async def models_of(context: Context, region: str, config: Document) -> dict[str, Document]:
    """The documents of a config's models, by name. Raises ValidationException when one is gone (rule 28)."""
    models = {}
    for name in {variant["ModelName"] for variant in config["ProductionVariants"]}:
        model = await context.store_thread.call(context.store.record, "model", region, name)
        if model is None:
            raise could_not_find("model", region, name)
        models[name] = model.document
    return models


def check_size(config: Document) -> None:
    """Raise ApiError for a config of more instances than one endpoint may have."""
    count = sum(variant["InitialInstanceCount"] for variant in config["ProductionVariants"])
    if count > _MAX_INSTANCES:
        raise ApiError(
            "ResourceLimitExceeded",
            f"The limit of instances of one endpoint is {_MAX_INSTANCES}; {count} were asked for.",
        )


def _all_in_service(revision: Revision) -> list[VariantView]:
    """A revision that came into service before control was started: nobody has looked at it since."""
    variants = revision.config["ProductionVariants"]
    return [VariantView(variant["VariantName"], variant["InitialInstanceCount"]) for variant in variants]


def _pending(revision: Revision, views: Iterable[VariantView], since: float) -> Document:
    """The PendingDeploymentSummary of a revision that has a new fleet."""
    variants = _variants(revision, revision, views, revision.requested, since)
    for variant, config in zip(variants, revision.config["ProductionVariants"], strict=True):
        if "InstanceType" in config:  # else it has InstancePools
            variant["InstanceType"] = config["InstanceType"]
    return {
        "EndpointConfigName": revision.config["EndpointConfigName"],
        "StartTime": revision.requested,
        "ProductionVariants": variants,
    }


def _variants(
    shown: Revision, desired: Revision, views: Iterable[VariantView], resolved: float, since: float
) -> list[Document]:
    """The variants of a revision, on their way to what another wants of them. Times are epoch seconds."""
    seen = {view.name: view for view in views}
    return [
        _variant(
            variant,
            desired_config,
            shown.models[variant["ModelName"]],
            seen.get(variant["VariantName"]),
            resolved,
            since,
        )
        for variant, desired_config in zip(
            shown.config["ProductionVariants"], desired.config["ProductionVariants"], strict=True
        )
    ]


def _variant(
    config: Document, desired_config: Document, model: Document, view: VariantView | None, resolved: float, since: float
) -> Document:
    echoed = {name: config[name] for name in ("RoutingConfig", "CapacityReservationConfig") if name in config}
    shown = echoed | {
        "VariantName": config["VariantName"],
        "DeployedImages": [
            {"SpecifiedImage": container["Image"], "ResolutionTime": resolved} for container in definitions(model)
        ],
        "CurrentWeight": weight(config),
        "DesiredWeight": weight(desired_config),
        "CurrentInstanceCount": view.current_count if view else 0,
        "DesiredInstanceCount": desired_config["InitialInstanceCount"],
    }
    if view and view.phase:
        shown["VariantStatus"] = [{"Status": view.phase, "StatusMessage": view.phase_message, "StartTime": since}]
    return shown
