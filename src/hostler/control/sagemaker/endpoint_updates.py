"""UpdateEndpoint and UpdateEndpointWeightsAndCapacities (§2.7, §2.8, §3 rules 28-30).

Each writes one more revision of the endpoint, wakes the lifecycle, and delays the answer as CreateEndpoint does.
UpdateEndpoint's revision gets instances of its own; the other operation's uses the instances that serve. Which of them
an update waits for is decided in core/endpoints/rollout.py.
"""

from __future__ import annotations

from hostler.control.context import Context
from hostler.control.sagemaker import deployment_config
from hostler.control.sagemaker.aws_messages import cannot_update, could_not_find, not_hosted
from hostler.control.sagemaker.endpoints import check_size, config_of, models_of
from hostler.errors import ValidationException
from hostler.store.documents import weight
from hostler.store.records import Document, EndpointRecord, Revision
from hostler.store.store import NotInService

_RETAINED = {"DesiredInstanceCount": "InitialInstanceCount", "DesiredWeight": "InitialVariantWeight"}


async def update_endpoint(context: Context, region: str, request: Document) -> Document:
    excluded = {entry["VariantPropertyType"] for entry in request.get("ExcludeRetainedVariantProperties", [])}
    retain = request.get("RetainAllVariantProperties", False)
    if excluded and not retain:
        raise ValidationException("ExcludeRetainedVariantProperties needs RetainAllVariantProperties to be true.")
    if request.get("RetainDeploymentConfig") and "DeploymentConfig" in request:
        raise ValidationException("RetainDeploymentConfig and DeploymentConfig exclude each other.")
    endpoint, serving = await _in_service(context, region, request["EndpointName"])
    config = (await config_of(context, region, request["EndpointConfigName"])).copy()
    await config_of(context, region, endpoint.config_name)  # rule 30: the old config must exist, too
    models = await models_of(context, region, config)
    if retain:
        current = {variant["VariantName"]: variant for variant in serving.config["ProductionVariants"]}
        retained = [name for member, name in _RETAINED.items() if member not in excluded]
        config["ProductionVariants"] = [
            _retained(variant, current.get(variant["VariantName"]), retained)
            for variant in config["ProductionVariants"]
        ]
    deployment = (
        request.get("DeploymentConfig") or serving.deployment
    )  # stored even if not used now: a later call may retain it
    if deployment and ("DeploymentConfig" in request or request.get("RetainDeploymentConfig")):
        deployment_config.check(deployment, config["ProductionVariants"])
    return await _update(context, endpoint, share_fleet=False, config=config, models=models, deployment=deployment)


async def update_endpoint_weights_and_capacities(context: Context, region: str, request: Document) -> Document:
    desired_by_variant: dict[str, Document] = {}
    for desired in request["DesiredWeightsAndCapacities"]:
        name = desired["VariantName"]
        if name in desired_by_variant:
            raise ValidationException(f'The variant name "{name}" was non-unique within the request.')
        _check_desired(desired)
        desired_by_variant[name] = desired
    endpoint, serving = await _in_service(context, region, request["EndpointName"])
    variants = serving.config["ProductionVariants"]
    if unknown := desired_by_variant.keys() - {variant["VariantName"] for variant in variants}:
        listed = ", ".join(f'"{name}"' for name in desired_by_variant if name in unknown)
        raise ValidationException(
            f'The variant name(s) {listed} is/are not present within endpoint configuration "{endpoint.config_name}".'
        )
    changed = [variant | _variant_members(desired_by_variant.get(variant["VariantName"], {})) for variant in variants]
    for current_variant, changed_variant in zip(variants, changed, strict=True):
        is_scale_out = changed_variant["InitialInstanceCount"] > current_variant["InitialInstanceCount"]
        if is_scale_out and not await context.store_thread.call(
            context.store.record, "model", region, changed_variant["ModelName"]
        ):
            raise could_not_find("model", region, changed_variant["ModelName"])  # §2.2: a later scale-out fails
    return await _update(
        context,
        endpoint,
        share_fleet=True,
        config=serving.config | {"ProductionVariants": changed},
        models=serving.models,
        deployment=serving.deployment,
    )


async def _in_service(context: Context, region: str, name: str) -> tuple[EndpointRecord, Revision]:
    """Return the endpoint and the revision that serves. Raises ValidationException unless it is InService (rule 29)."""
    stored = await context.store_thread.call(context.store.endpoint_and_revisions, region, name)
    if stored is None:
        raise could_not_find("endpoint", region, name)
    endpoint, (serving, *_) = stored
    if endpoint.status != "InService":
        raise cannot_update(region, name, endpoint.status)
    return endpoint, serving


def _retained(variant: Document, current: Document | None, retained: list[str]) -> Document:
    if current is None:  # a new variant
        return variant
    current = current | {"InitialVariantWeight": weight(current)}
    return variant | {name: current[name] for name in retained}


def _check_desired(desired: Document) -> None:
    name = desired["VariantName"]
    if "ServerlessUpdateConfig" in desired:
        raise not_hosted("Serverless inference (ServerlessUpdateConfig)")
    if desired.get("DesiredInstanceCount") == 0:
        raise ValidationException(f"Variant {name} must have a DesiredInstanceCount above 0.")
    if not _variant_members(desired):
        raise ValidationException(f"A DesiredWeight or a DesiredInstanceCount must be given for variant {name}.")


def _variant_members(desired: Document) -> Document:
    """Return the desired weight and count as members of a ProductionVariant."""
    return {name: desired[member] for member, name in _RETAINED.items() if member in desired}


async def _update(
    context: Context,
    endpoint: EndpointRecord,
    *,
    share_fleet: bool,
    config: Document,
    models: dict[str, Document],
    deployment: Document | None,
) -> Document:
    if not any(map(weight, config["ProductionVariants"])):  # as rule 23
        raise ValidationException("At least one variant must have a weight above 0.")
    check_size(config)
    try:
        await context.store_thread.call(
            context.store.update_endpoint,
            endpoint.uid,
            expected_revision=endpoint.revision,
            share_fleet=share_fleet,
            config=config,
            models=models,
            deployment=deployment,
            now=context.now(),
        )
    except NotInService:  # another call came first
        await _in_service(
            context, endpoint.region, endpoint.name
        )  # raises with the endpoint's status, unless it is InService again
        raise cannot_update(endpoint.region, endpoint.name) from None
    context.lifecycle.wake()
    await context.lifecycle.settled(endpoint.uid, context.settings.hold)
    return {"EndpointArn": endpoint.arn}
