"""CreateModel, DescribeModel, ListModels, DeleteModel (§2.1, §2.2, §3 rules 1-14)."""

from __future__ import annotations

import re
from typing import Any

from hostler import names
from hostler.artifacts.source import check_readable
from hostler.control.context import Context
from hostler.control.sagemaker import paging
from hostler.control.sagemaker.aws_messages import already_exists, could_not_find, not_hosted
from hostler.control.sagemaker.tags import read_tags
from hostler.errors import ApiError, ArtifactError, ArtifactMissing, StorageUnavailable, ValidationException
from hostler.store.documents import definitions, is_multi_model
from hostler.store.records import Document, Record
from hostler.store.store import NameTaken

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")
_ENVIRONMENT_MAX = 32 * 1024  # bytes of all names and values of a model's containers


async def create_model(context: Context, region: str, request: Document) -> Document:
    tags = read_tags(request.pop("Tags", []))
    _check(request)
    for container in definitions(request):
        await _check_data(context, container)
    name = request["ModelName"]
    record = Record(region, name, names.arn("model", region, name), context.now(), request)
    try:
        await context.store_thread.call(context.store.create_record, "model", record, tags)
    except NameTaken:
        raise already_exists("model", region, name) from None
    return {"ModelArn": record.arn}


async def describe_model(context: Context, region: str, request: Document) -> Document:
    record = await context.store_thread.call(context.store.record, "model", region, request["ModelName"])
    if record is None:
        raise could_not_find("model", region, request["ModelName"])
    document = record.document
    described: Document = (
        {"EnableNetworkIsolation": False} | document | {"ModelArn": record.arn, "CreationTime": record.created}
    )
    if "PrimaryContainer" in document:
        described["PrimaryContainer"] = _with_defaults(document["PrimaryContainer"])
    else:
        described["Containers"] = [_with_defaults(container) for container in document["Containers"]]
        if len(described["Containers"]) > 1:
            described.setdefault("InferenceExecutionConfig", {"Mode": "Serial"})
    return described


async def list_models(context: Context, region: str, request: Document) -> Document:
    query = paging.read_query("ListModels", region, request)
    records = await context.store_thread.call(context.store.list_records, "model", query)
    page, token = paging.page("ListModels", region, request, query, records)
    models = [{"ModelName": m.name, "ModelArn": m.arn, "CreationTime": m.created} for m in page]
    return {"Models": models, "NextToken": token}


async def delete_model(context: Context, region: str, request: Document) -> None:
    if not await context.store_thread.call(context.store.delete_record, "model", region, request["ModelName"]):
        raise could_not_find("model", region, request["ModelName"])


def _with_defaults(container: Document) -> Document:
    return {"Mode": "SingleModel", "Environment": {}} | container


def _check(request: Document) -> None:
    if bool(request.get("PrimaryContainer")) == bool(request.get("Containers")):
        raise ValidationException("Exactly one of PrimaryContainer and Containers must be given.")  # rule 1
    containers = definitions(request)
    for container in containers:
        _check_container(container)
    _check_combination(containers, request.get("InferenceExecutionConfig", {}).get("Mode", "Serial"))
    environment = [
        text for container in containers for pair in container.get("Environment", {}).items() for text in pair
    ]
    if sum(len(text.encode()) for text in environment) > _ENVIRONMENT_MAX:  # rule 11
        raise ValidationException("The Environment of all containers together must not exceed 32 KB.")
    if any("\0" in text for text in environment):
        raise ValidationException("A value in Environment must not hold the character NUL.")


def _check_container(container: Document) -> None:
    for member, feature in (
        ("ModelPackageName", "ModelPackageName"),
        ("InferenceSpecificationName", "InferenceSpecificationName"),
        ("AdditionalModelDataSources", "AdditionalModelDataSources"),
        ("ContainerMetricsConfig", "ContainerMetricsConfig"),
    ):
        if container.get(member):
            raise not_hosted(feature)
    if container.get("ImageConfig", {}).get("RepositoryAccessMode") == "Vpc":
        raise not_hosted("ImageConfig with RepositoryAccessMode Vpc")
    if "Image" not in container:
        raise ValidationException("A container must have an Image.")  # rule 10
    if "ModelDataUrl" in container and "ModelDataSource" in container:
        raise ValidationException("ModelDataUrl and ModelDataSource exclude each other.")  # rule 9
    if is_multi_model(container) and "ModelDataUrl" not in container:  # rule 5
        raise ValidationException("A container whose Mode is MultiModel must have a ModelDataUrl.")


def _check_combination(containers: list[Document], mode: str) -> None:
    hostnames = [container["ContainerHostname"] for container in containers if "ContainerHostname" in container]
    multi_models = sum(is_multi_model(container) for container in containers)
    if mode == "Direct" and len(hostnames) < len(containers):  # rule 3
        raise ValidationException(
            "With InferenceExecutionConfig Mode Direct every container needs a ContainerHostname."
        )
    if len(containers) > 1 and hostnames and len(hostnames) < len(containers):  # rule 4
        raise ValidationException("If one container has a ContainerHostname, all must have one.")
    if len(set(hostnames)) < len(hostnames):
        raise ValidationException("Each ContainerHostname must be unique within the model.")
    if multi_models > 1 or (multi_models and mode == "Direct"):  # rule 6
        raise ValidationException("One container of a serial pipeline, and none of a direct one, may be MultiModel.")


async def _check_data(context: Context, container: Document) -> None:
    """Check that a single model's archive exists (rule 7); of a multi-model prefix, check the location only."""
    root, text = context.settings.file_root, container.get("ModelDataUrl")
    if text is not None and is_multi_model(container):
        _location(root, text, prefix=True)
        return
    if "ModelDataSource" in container:
        text = _gzipped_object(container["ModelDataSource"])
    if text is None:
        return
    url = _location(root, text)
    if not url.key.endswith(".tar.gz"):
        raise ValidationException(f"The model data of a SingleModel container must be one .tar.gz object, not {url}.")
    try:
        await check_readable(context.source, url.bucket, url.key)
    except (ArtifactMissing, names.UnsafeName):
        raise ValidationException(f"Could not find model data at {url}.") from None
    except StorageUnavailable as error:
        raise ApiError("ServiceUnavailable", f"The storage of model data cannot be reached: {error}", 503) from None
    except ArtifactError as error:
        raise ValidationException(f"Could not access model data at {url}: {error}") from None


def _gzipped_object(source: dict[str, Any]) -> str:
    """Return the URL of a ModelDataSource that is one gzipped object. Raises ValidationException for any other form."""
    data: Document = source.get("S3DataSource", {})
    if not data:
        raise ValidationException("ModelDataSource must have an S3DataSource.")
    form = f"S3DataType {data['S3DataType']} and CompressionType {data['CompressionType']}"
    if form != "S3DataType S3Object and CompressionType Gzip":
        raise not_hosted(f"ModelDataSource with {form}")
    for member in ("HubAccessConfig", "ManifestS3Uri", "ETag", "ManifestEtag"):
        if member in data:
            raise not_hosted(f"ModelDataSource with {member}")
    url: str = data["S3Uri"]
    return url


def _location(root: str, text: str, prefix: bool = False) -> names.S3Url:
    """Parse a location. A prefix's key is checked here, because no call of the storage will check it as an object's."""
    try:
        url = names.data_url(text)
        if url.bucket == names.FILES:
            names.file_path(root, url.key.removesuffix("/"))
        elif not _BUCKET.fullmatch(url.bucket):
            raise names.UnsafeName(f"{url.bucket!r} is not a bucket's name")
        elif prefix and url.key.strip("/"):
            names.check_relative(url.key.removesuffix("/"))
        return url
    except names.UnsafeName as error:
        raise ValidationException(f"The model data's location cannot be used: {error}.") from None
