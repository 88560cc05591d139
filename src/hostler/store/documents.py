"""Reads the documents of models and endpoint configs. Below the API no other module knows AWS's member names."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from hostler import contract
from hostler.core.endpoints.resources import PRIMARY, ContainerSpec, DataForm, Mode, ModelData, ModelSpec, VariantSpec

Document = dict[str, Any]  # the validated JSON of a Create call


def variants(config: Document, models: Mapping[str, Document]) -> tuple[VariantSpec, ...]:
    """Return a config's variants, in its order. `models`: ModelName -> document."""
    return tuple(variant_spec(variant, models[variant["ModelName"]]) for variant in config["ProductionVariants"])


def variant_spec(variant: Document, model: Document) -> VariantSpec:
    """Return a ProductionVariant of this model."""
    return VariantSpec(
        name=variant["VariantName"],
        model=model_spec(model),
        count=variant.get("InitialInstanceCount", 1),
        weight=weight(variant),
        instance_type=instance_type(variant),
        routing=variant.get("RoutingConfig", {}).get("RoutingStrategy", "RANDOM"),
        download_timeout=variant.get("ModelDataDownloadTimeoutInSeconds"),
        startup_timeout=variant.get("ContainerStartupHealthCheckTimeoutInSeconds"),
    )


def instance_type(variant: Document) -> str:
    """Return a variant's instance type: with InstancePools that of the highest priority, the lowest number."""
    pools = sorted(variant.get("InstancePools", []), key=lambda pool: int(pool["Priority"]))
    return str(pools[0]["InstanceType"] if pools else variant.get("InstanceType", ""))


def model_spec(model: Document) -> ModelSpec:
    """Return a model, its containers in their order.

    The label of a single Serial container is `primary`; of any other its ContainerHostname, or by its position
    container-1, container-2, ... (§2.1)
    """
    defined = definitions(model)
    mode: Mode = "Direct" if model.get("InferenceExecutionConfig", {}).get("Mode") == "Direct" else "Serial"
    alone = len(defined) == 1
    containers = []
    for number, definition in enumerate(defined, 1):
        named = definition.get("ContainerHostname", "")
        label = PRIMARY if alone and mode == "Serial" else named or f"container-{number}"
        hostname = named or (contract.ONLY_HOSTNAME if alone else label)
        containers.append(_container_spec(definition, label, hostname))
    return ModelSpec(tuple(containers), mode, network_isolation=bool(model.get("EnableNetworkIsolation")))


def _container_spec(definition: Document, label: str, hostname: str) -> ContainerSpec:
    source = definition.get("ModelDataSource", {}).get("S3DataSource")
    data = model_data(source) if source else ModelData(definition.get("ModelDataUrl", ""))
    channels = definition.get("AdditionalModelDataSources", [])
    return ContainerSpec(
        label=label,
        hostname=hostname,
        image=definition["Image"],
        model_data_url=data.url,
        environment=definition.get("Environment", {}),
        multi_model=is_multi_model(definition),
        model_cache=definition.get("MultiModelConfig", {}).get("ModelCacheSetting") != "Disabled",
        data_form=data.form,
        channels={channel["ChannelName"]: model_data(channel["S3DataSource"]) for channel in channels},
    )


def model_data(source: Document) -> ModelData:
    """Return the data of an S3DataSource."""
    form: DataForm = "prefix" if source["S3DataType"] == "S3Prefix" else "object"
    return ModelData(source["S3Uri"], "archive" if source["CompressionType"] == "Gzip" else form)


def definitions(model: Document) -> list[Document]:
    """Return a model's ContainerDefinitions: Containers, or the PrimaryContainer alone."""
    return model.get("Containers") or [model["PrimaryContainer"]]


def is_multi_model(definition: Document) -> bool:
    """Whether a container holds many models, each invoked by its TargetModel."""
    return bool(definition.get("Mode") == "MultiModel")


def weight(variant: Document) -> float:
    """Return a ProductionVariant's weight."""
    return float(variant.get("InitialVariantWeight", 1.0))


def config_name(config: Document) -> str:
    """Return the name of an endpoint config."""
    return str(config["EndpointConfigName"])


def deployment(endpoint: Document) -> Document | None:
    """Return the DeploymentConfig of a CreateEndpoint, if it has one."""
    return endpoint.get("DeploymentConfig")
