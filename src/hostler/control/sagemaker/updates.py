"""UpdateEndpoint and UpdateEndpointWeightsAndCapacities (§2.7, §2.8, §3 rules 28-30).

Each writes one more revision of what the endpoint is asked to be, wakes the lifecycle, and holds the answer as
CreateEndpoint does. The first lets it have instances of its own, the second shares those that serve.
"""

from __future__ import annotations

from hostler.control.context import Context
from hostler.control.sagemaker import deployment_config
from hostler.control.sagemaker.aws_messages import cannot_update, could_not_find, not_hosted
from hostler.control.sagemaker.endpoints import check_size, config_of, models_of
from hostler.errors import ValidationException
from hostler.hosting.models import weight
from hostler.store.records import Document, EndpointRecord, Revision
from hostler.store.store import NotInService

_RETAINED = {"DesiredInstanceCount": "InitialInstanceCount", "DesiredWeight": "InitialVariantWeight"}


async def update_endpoint(context: Context, region: str, request: Document) -> Document:
    excluded = {one["VariantPropertyType"] for one in request.get("ExcludeRetainedVariantProperties", [])}
    retain = request.get("RetainAllVariantProperties", False)
    if excluded and not retain:
        raise ValidationException("ExcludeRetainedVariantProperties needs RetainAllVariantProperties to be true.")
    if request.get("RetainDeploymentConfig") and "DeploymentConfig" in request:
        raise ValidationException("RetainDeploymentConfig and DeploymentConfig exclude each other.")
    endpoint, serving = await _in_service(context, region, request["EndpointName"])
    config = (await config_of(context, region, request["EndpointConfigName"])).copy()
    await config_of(context, region, endpoint.config_name)  # rule 30: the old one must be there too
    models = await models_of(context, region, config)
    if retain:
        before = {variant["VariantName"]: variant for variant in serving.config["ProductionVariants"]}
        kept = [name for desired, name in _RETAINED.items() if desired not in excluded]
        config["ProductionVariants"] = [
            _retained(variant, before.get(variant["VariantName"]), kept) for variant in config["ProductionVariants"]
        ]
    deployed = request.get("DeploymentConfig") or serving.deployment  # the last used, which may be retained later
    if deployed and ("DeploymentConfig" in request or request.get("RetainDeploymentConfig")):
        deployment_config.check(deployed, config["ProductionVariants"])
    return await _update(context, endpoint, share=False, config=config, models=models, deployed=deployed)


async def update_endpoint_weights_and_capacities(context: Context, region: str, request: Document) -> Document:
    asked: dict[str, Document] = {}
    for desired in request["DesiredWeightsAndCapacities"]:
        name = desired["VariantName"]
        if name in asked:
            raise ValidationException(f'The variant name "{name}" was non-unique within the request.')
        _check_desired(desired)
        asked[name] = desired
    endpoint, serving = await _in_service(context, region, request["EndpointName"])
    variants = serving.config["ProductionVariants"]
    if unknown := asked.keys() - {variant["VariantName"] for variant in variants}:
        listed = ", ".join(f'"{name}"' for name in asked if name in unknown)
        raise ValidationException(
            f'The variant name(s) {listed} is/are not present within endpoint configuration "{endpoint.config_name}".'
        )
    changed = [variant | _desired(asked.get(variant["VariantName"], {})) for variant in variants]
    for before, after in zip(variants, changed, strict=True):
        more = after["InitialInstanceCount"] > before["InitialInstanceCount"]
        if more and not await context.store_call(context.store.record, "model", region, after["ModelName"]):
            raise could_not_find("model", region, after["ModelName"])  # §2.2: a later scale-out fails
    return await _update(
        context,
        endpoint,
        share=True,
        config=serving.config | {"ProductionVariants": changed},
        models=serving.models,
        deployed=serving.deployment,
    )


async def _in_service(context: Context, region: str, name: str) -> tuple[EndpointRecord, Revision]:
    """The endpoint and the revision that serves. Raises ValidationException in any other state (rule 29)."""
    found = await context.store_call(context.store.endpoint_and_revisions, region, name)
    if found is None:
        raise could_not_find("endpoint", region, name)
    endpoint, (serving, *_) = found
    if endpoint.status != "InService":
        raise cannot_update(region, name, endpoint.status)
    return endpoint, serving


def _retained(variant: Document, before: Document | None, kept: list[str]) -> Document:
    if before is None:  # a new variant
        return variant
    before = before | {"InitialVariantWeight": weight(before)}
    return variant | {name: before[name] for name in kept}


def _check_desired(desired: Document) -> None:
    name = desired["VariantName"]
    if "ServerlessUpdateConfig" in desired:
        raise not_hosted("Serverless inference (ServerlessUpdateConfig)")
    if desired.get("DesiredInstanceCount") == 0:
        raise ValidationException(f"Variant {name} must have a DesiredInstanceCount above 0.")
    if not _desired(desired):
        raise ValidationException(f"A DesiredWeight or a DesiredInstanceCount must be given for variant {name}.")


def _desired(asked: Document) -> Document:
    """What is asked for, in the words of a ProductionVariant."""
    return {name: asked[desired] for desired, name in _RETAINED.items() if desired in asked}


async def _update(
    context: Context,
    endpoint: EndpointRecord,
    *,
    share: bool,
    config: Document,
    models: dict[str, Document],
    deployed: Document | None,
) -> Document:
    if not any(map(weight, config["ProductionVariants"])):  # as rule 23
        raise ValidationException("At least one variant must have a weight above 0.")
    check_size(config)
    try:
        await context.store_call(
            context.store.update_endpoint,
            endpoint.uid,
            expected=endpoint.revision,
            share=share,
            config=config,
            models=models,
            deployment=deployed,
            at=context.now(),
        )
    except NotInService:  # something else was faster
        await _in_service(context, endpoint.region, endpoint.name)  # says what, unless that is over
        raise cannot_update(endpoint.region, endpoint.name) from None
    context.lifecycle.wake()
    await context.lifecycle.settled(endpoint.uid, context.settings.hold)
    return {"EndpointArn": endpoint.arn}
