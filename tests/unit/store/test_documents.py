"""What the documents say of variants, models and containers."""

from __future__ import annotations

import pytest

from hostler.contract import ONLY_HOSTNAME
from hostler.core.endpoints.resources import ContainerSpec, ModelData, VariantSpec
from hostler.store import documents
from hostler.store.documents import Document

BARE = {"Image": "i"}
A, B = {**BARE, "ContainerHostname": "a"}, {**BARE, "ContainerHostname": "b"}
DIRECT = {"InferenceExecutionConfig": {"Mode": "Direct"}}


@pytest.mark.parametrize(
    ("model", "mode", "labels", "hostnames"),
    [
        ({"PrimaryContainer": BARE}, "Serial", ["primary"], [ONLY_HOSTNAME]),
        ({"PrimaryContainer": A}, "Serial", ["primary"], ["a"]),
        ({"Containers": [A]}, "Serial", ["primary"], ["a"]),
        ({"Containers": [A, B]}, "Serial", ["a", "b"], ["a", "b"]),
        ({"Containers": [BARE, BARE]}, "Serial", ["container-1", "container-2"], ["container-1", "container-2"]),
        ({"Containers": [A, B], **DIRECT}, "Direct", ["a", "b"], ["a", "b"]),
        ({"Containers": [A], **DIRECT}, "Direct", ["a"], ["a"]),
        ({"PrimaryContainer": A, **DIRECT}, "Direct", ["a"], ["a"]),
    ],
)
def test_a_containers_label_is_the_name_that_requests_use(
    model: Document, mode: str, labels: list[str], hostnames: list[str]
) -> None:
    spec = documents.model_spec(model)
    assert spec.mode == mode
    assert [container.label for container in spec.containers] == labels
    assert [container.hostname for container in spec.containers] == hostnames


def test_a_variant_has_the_values_of_its_document() -> None:
    variant = {
        "VariantName": "v", "ModelName": "m", "InitialInstanceCount": 3, "InitialVariantWeight": 0.0,
        "InstanceType": "ml.m5.large", "RoutingConfig": {"RoutingStrategy": "LEAST_OUTSTANDING_REQUESTS"},
        "ModelDataDownloadTimeoutInSeconds": 60, "ContainerStartupHealthCheckTimeoutInSeconds": 70,
    }  # fmt: skip
    models = {"m": {"PrimaryContainer": BARE}, "other": {"PrimaryContainer": A}}
    model = documents.model_spec(models["m"])
    (spec,) = documents.variants({"ProductionVariants": [variant]}, models)
    assert spec == VariantSpec("v", model, 3, 0.0, "ml.m5.large", "LEAST_OUTSTANDING_REQUESTS", 60, 70)


def test_what_a_variants_document_leaves_out_has_its_default() -> None:
    spec = documents.variant_spec({"VariantName": "v"}, {"PrimaryContainer": BARE})
    assert spec == VariantSpec("v", spec.model, 1, 1.0, "", "RANDOM", None, None)


def test_a_container_has_the_values_of_its_document() -> None:
    definition = {
        "Image": "i", "ModelDataUrl": "s3://b/p/", "Mode": "MultiModel", "Environment": {"A": "1"},
        "MultiModelConfig": {"ModelCacheSetting": "Disabled"},
    }  # fmt: skip
    (container,) = documents.model_spec({"PrimaryContainer": definition}).containers
    assert container == ContainerSpec("primary", ONLY_HOSTNAME, "i", "s3://b/p/", {"A": "1"}, True, False)


def test_a_containers_data_may_be_a_data_source() -> None:
    source = {"S3DataSource": {"S3Uri": "s3://b/m.tar.gz", "S3DataType": "S3Object", "CompressionType": "Gzip"}}
    (container,) = documents.model_spec({"PrimaryContainer": {"Image": "i", "ModelDataSource": source}}).containers
    assert container.model_data_url == "s3://b/m.tar.gz"
    assert container.data_form == "archive"


@pytest.mark.parametrize(
    ("type", "compression", "form"),
    [("S3Object", "Gzip", "archive"), ("S3Object", "None", "object"), ("S3Prefix", "None", "prefix")],
)
def test_a_data_source_has_a_form_and_a_channel_too(type, compression, form):
    source = {"S3DataSource": {"S3Uri": "s3://b/m/", "S3DataType": type, "CompressionType": compression}}
    definition = {
        "Image": "i", "ModelDataSource": source, "AdditionalModelDataSources": [{"ChannelName": "c", **source}],
    }  # fmt: skip
    (container,) = documents.model_spec({"PrimaryContainer": definition}).containers
    assert (container.model_data_url, container.data_form) == ("s3://b/m/", form)
    assert container.channels == {"c": ModelData("s3://b/m/", form)}
    assert not container.multi_model
    assert container.model_cache


def test_a_variant_with_pools_has_the_instance_type_of_the_highest_priority():
    pools = [{"InstanceType": "ml.m5.large", "Priority": 2}, {"InstanceType": "ml.m5.xlarge", "Priority": 1}]
    spec = documents.variant_spec({"VariantName": "v", "InstancePools": pools}, {"PrimaryContainer": BARE})
    assert spec.instance_type == "ml.m5.xlarge"
