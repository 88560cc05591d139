"""CreateModel, DescribeModel, ListModels, DeleteModel (§2.1, §2.2, §3 rules 1-14)."""

from __future__ import annotations

from hostler import names
from hostler.control.context import Context
from hostler.control.sagemaker import model_data, paging
from hostler.control.sagemaker.aws_messages import already_exists, could_not_find, not_hosted
from hostler.control.sagemaker.tags import read_tags
from hostler.errors import ValidationException
from hostler.store.documents import definitions, is_multi_model
from hostler.store.records import Document, Record
from hostler.store.store import NameTaken

_ENVIRONMENT_MAX = 32 * 1024  # bytes of all names and values of a model's containers


async def create_model(context: Context, region: str, request: Document) -> Document:
    tags = read_tags(request.pop("Tags", []))
    _check(request)
    for container in definitions(request):
        await model_data.check_present(context, container)
    asked = [(container["Image"], is_multi_model(container)) for container in definitions(request)]
    if refusal := await context.refused_labels(asked):  # rule 8
        raise ValidationException(refusal)
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
        ("ContainerMetricsConfig", "ContainerMetricsConfig"),
    ):
        if container.get(member):
            raise not_hosted(feature)
    if container.get("ImageConfig", {}).get("RepositoryAccessMode") == "Vpc":
        raise not_hosted("ImageConfig with RepositoryAccessMode Vpc")
    if "Image" not in container:
        raise ValidationException("A container must have an Image.")  # rule 10
    model_data.check_form(container)


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
