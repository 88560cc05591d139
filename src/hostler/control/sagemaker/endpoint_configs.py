"""The Create, Describe, List and Delete operations of EndpointConfig (§2.3, §3 rules 15-17, 23, 26)."""

from __future__ import annotations

from hostler import names
from hostler.control.context import Context
from hostler.control.sagemaker import paging
from hostler.control.sagemaker.aws_messages import already_exists, could_not_find, not_hosted
from hostler.control.sagemaker.tags import read_tags
from hostler.errors import ValidationException
from hostler.store.documents import weight
from hostler.store.records import Document, Kind, Record
from hostler.store.store import NameTaken

_KIND: Kind = "endpoint-config"


async def create_endpoint_config(context: Context, region: str, request: Document) -> Document:
    tags = read_tags(request.pop("Tags", []))
    _check(request)
    for variant in request["ProductionVariants"]:
        model = await context.store_thread.call(context.store.record, "model", region, variant["ModelName"])
        if model is None:
            raise could_not_find("model", region, variant["ModelName"])  # rule 16
    name = request["EndpointConfigName"]
    record = Record(region, name, names.arn(_KIND, region, name), context.now(), request)
    try:
        await context.store_thread.call(context.store.create_record, _KIND, record, tags)
    except NameTaken:
        raise already_exists(_KIND, region, name) from None
    return {"EndpointConfigArn": record.arn}


async def describe_endpoint_config(context: Context, region: str, request: Document) -> Document:
    name = request["EndpointConfigName"]
    record = await context.store_thread.call(context.store.record, _KIND, region, name)
    if record is None:
        raise could_not_find(_KIND, region, name)
    variants = [
        variant | {"InitialVariantWeight": weight(variant)} for variant in record.document["ProductionVariants"]
    ]
    added = {"ProductionVariants": variants, "EndpointConfigArn": record.arn, "CreationTime": record.created}
    return record.document | added


async def list_endpoint_configs(context: Context, region: str, request: Document) -> Document:
    query = paging.read_query("ListEndpointConfigs", region, request)
    records = await context.store_thread.call(context.store.list_records, _KIND, query)
    page, token = paging.page("ListEndpointConfigs", region, request, query, records)
    configs = [{"EndpointConfigName": c.name, "EndpointConfigArn": c.arn, "CreationTime": c.created} for c in page]
    return {"EndpointConfigs": configs, "NextToken": token}


async def delete_endpoint_config(context: Context, region: str, request: Document) -> None:
    if not await context.store_thread.call(context.store.delete_record, _KIND, region, request["EndpointConfigName"]):
        raise could_not_find(_KIND, region, request["EndpointConfigName"])


def _check(request: Document) -> None:
    for member, feature in (
        ("AsyncInferenceConfig", "Asynchronous inference (AsyncInferenceConfig)"),
        ("ShadowProductionVariants", "Shadow variants (ShadowProductionVariants)"),
        ("ExplainerConfig", "Online explainability (ExplainerConfig)"),
        ("CrossRegionTrafficConfig", "CrossRegionTrafficConfig"),
        ("EnableNetworkIsolation", "EnableNetworkIsolation"),
    ):
        if request.get(member) not in (None, False):
            raise not_hosted(feature)
    if request.get("DataCaptureConfig", {"EnableCapture": False}).get("EnableCapture", True):
        raise not_hosted("Data capture (DataCaptureConfig)")
    if any(
        request.get("MetricsConfig", {}).get(flag) for flag in ("EnableEnhancedMetrics", "EnableDetailedObservability")
    ):
        raise not_hosted("MetricsConfig")
    variants = request["ProductionVariants"]
    for variant in variants:
        _check_variant(variant)
    variant_names = [variant["VariantName"] for variant in variants]
    if len(set(variant_names)) < len(variant_names):  # rule 15
        raise ValidationException("Each VariantName must be unique within the endpoint configuration.")
    if not any(map(weight, variants)):  # rule 23
        raise ValidationException("At least one variant must have an InitialVariantWeight above 0.")


def _check_variant(variant: Document) -> None:
    name = variant["VariantName"]
    if "ServerlessConfig" in variant:
        raise not_hosted("Serverless inference (ServerlessConfig)")
    if "ModelName" not in variant:
        raise not_hosted(f"A variant without ModelName ({name}), for inference components,")
    if "ManagedInstanceScaling" in variant:  # rule 26
        raise ValidationException("ManagedInstanceScaling is only supported for inference component endpoints.")
    strategy = variant.get("RoutingConfig", {}).get("RoutingStrategy", "RANDOM")
    if strategy not in ("RANDOM", "LEAST_OUTSTANDING_REQUESTS"):
        raise not_hosted(f"RoutingStrategy {strategy}")
    pools = variant.get("InstancePools", [])
    if any("ModelNameOverride" in pool for pool in pools):
        raise not_hosted("InstancePools with ModelNameOverride")
    if ("InstanceType" in variant) == bool(pools) or "InitialInstanceCount" not in variant:  # rule 17
        raise ValidationException(
            f"Variant {name} must have an InstanceType, or else InstancePools, and an InitialInstanceCount."
        )
