"""What CreateModel checks of a container's data: location and form, and that they are there (§2.1, rules 5, 7, 9)."""

from __future__ import annotations

import re

from hostler import names
from hostler.artifacts.source import check_readable
from hostler.control.context import Context
from hostler.control.sagemaker.aws_messages import not_hosted
from hostler.core.endpoints.resources import DataForm
from hostler.errors import ApiError, ArtifactError, ArtifactMissing, StorageUnavailable, ValidationException
from hostler.s3 import sample_buckets
from hostler.store.documents import is_multi_model, model_data
from hostler.store.records import Document

_BUCKET = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,254}")


def check_form(container: Document) -> None:
    """Check a container's members about data, without a look at the data. Raises ValidationException."""
    if "ModelDataUrl" in container and "ModelDataSource" in container:
        raise ValidationException("ModelDataUrl and ModelDataSource exclude each other.")  # rule 9
    if is_multi_model(container) and "ModelDataUrl" not in container:  # rule 5
        raise ValidationException("A container whose Mode is MultiModel must have a ModelDataUrl.")
    if "ModelDataSource" in container:
        if not container["ModelDataSource"].get("S3DataSource"):
            raise ValidationException("ModelDataSource must have an S3DataSource.")
        _check_source("ModelDataSource", container["ModelDataSource"]["S3DataSource"])
    channels = container.get("AdditionalModelDataSources", [])
    for channel in channels:
        if channel["ChannelName"] in (".", ".."):
            raise ValidationException(f"A ChannelName must not be {channel['ChannelName']!r}: it names a folder.")
        _check_source("AdditionalModelDataSources", channel["S3DataSource"])
    if len({channel["ChannelName"] for channel in channels}) < len(channels):
        raise ValidationException("Each ChannelName of AdditionalModelDataSources must be unique.")


async def check_present(context: Context, container: Document) -> None:
    """Check that a container's data are there; of a multi-model prefix, check the location only. Raises ApiError."""
    root, text = context.settings.file_root, container.get("ModelDataUrl")
    if text is not None and is_multi_model(container):
        _location(root, text, prefix=True)
    elif text is not None:
        url = _location(root, text)
        if not url.key.endswith(".tar.gz"):
            message = f"The model data of a SingleModel container must be one .tar.gz object, not {url}."
            raise ValidationException(message)
        await _check_readable(context, url, "archive")
    sources = [container["ModelDataSource"]["S3DataSource"]] if "ModelDataSource" in container else []
    sources += [channel["S3DataSource"] for channel in container.get("AdditionalModelDataSources", [])]
    for data in map(model_data, sources):
        await _check_readable(context, _location(root, data.url, prefix=data.form == "prefix"), data.form)


def _check_source(member: str, source: Document) -> None:
    """Check an S3DataSource. Raises ValidationException."""
    for field in ("ManifestS3Uri", "ManifestEtag", "ETag"):
        if field in source:
            raise not_hosted(f"{member} with {field}")
    if source["S3DataType"] == "S3Object":
        return
    if source["CompressionType"] == "Gzip":
        raise ValidationException(
            "With CompressionType Gzip the S3DataType must be S3Object, which names one gzipped tar: S3Prefix is for"
            " data that are not compressed."
        )
    if not source["S3Uri"].endswith("/"):
        raise ValidationException(
            f"With S3DataType S3Prefix the S3Uri must end with a slash (/), which {source['S3Uri']} does not."
        )


async def _check_readable(context: Context, url: names.S3Url, form: DataForm) -> None:
    try:
        await check_readable(context.source, url.bucket, url.key, form)
    except (ArtifactMissing, names.UnsafeName) as error:
        reason = str(error) if url.bucket == names.FILES else ""  # of a file, which is an addition of ours
        if not context.settings.s3_endpoint:
            reason = reason or sample_buckets.advice(url.bucket)
        raise ValidationException(f"Could not find model data at {url}. {reason}".rstrip()) from None  # rule 7
    except StorageUnavailable as error:
        raise ApiError("ServiceUnavailable", f"The storage of model data cannot be reached: {error}", 503) from None
    except ArtifactError as error:
        raise ValidationException(f"Could not access model data at {url}: {error}") from None


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
