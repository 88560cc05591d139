"""The objects below a prefix of a real S3, listed by botocore: each key comes as it is.

Knows nothing of what becomes of them. Imports botocore, so it is imported at the first listing.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import botocore.session
import msgspec
from botocore import UNSIGNED
from botocore.config import Config
from botocore.exceptions import BotoCoreError, ClientError

from hostler.errors import ArtifactMissing, StorageUnavailable


class _Content(msgspec.Struct, rename="pascal"):
    key: str
    size: int  # bytes
    etag: str = msgspec.field(name="ETag")


class _Page(msgspec.Struct, rename="pascal"):
    contents: list[_Content] = []


class _Error(msgspec.Struct, rename="pascal"):
    code: str
    message: str = ""


class _Metadata(msgspec.Struct):
    status: int = msgspec.field(name="HTTPStatusCode")


class _Refusal(msgspec.Struct):
    error: _Error = msgspec.field(name="Error")
    metadata: _Metadata = msgspec.field(name="ResponseMetadata")


for _shape in (_Page, _Refusal):
    msgspec.json.Decoder(_shape)  # has msgspec look at the type before two threads do so at once, which crashes 0.22


class S3Lister:
    """Lists at `endpoint`, a URL. `signed`: by the keys of botocore's chain. `patience`: seconds."""

    def __init__(self, endpoint: str, region: str, *, signed: bool, patience: float) -> None:
        config = Config(
            s3={"addressing_style": "path"},
            signature_version="s3v4" if signed else UNSIGNED,
            connect_timeout=3,
            read_timeout=patience,
            retries={"mode": "standard", "total_max_attempts": 4},
        )
        session = botocore.session.Session()
        self._client: Any = session.create_client("s3", endpoint_url=endpoint, region_name=region, config=config)

    def objects(self, bucket: str, prefix: str) -> Iterator[tuple[str, str, int]]:
        """Yield (key, ETag, bytes), page by page. Blocks.

        Raises ArtifactMissing, with S3's own reason, and StorageUnavailable.
        """
        try:
            for page in self._client.get_paginator("list_objects_v2").paginate(Bucket=bucket, Prefix=prefix):
                for content in msgspec.convert(page, _Page).contents:
                    yield content.key, content.etag.strip('"'), content.size
        except ClientError as error:
            refusal = msgspec.convert(error.response, _Refusal)
            status, code = refusal.metadata.status, refusal.error.code
            if 300 <= status < 500 and status not in (408, 429):
                raise ArtifactMissing(f"{code}: {refusal.error.message}") from None
            raise StorageUnavailable(f"S3 answered {code}.") from None
        except (BotoCoreError, OSError, msgspec.ValidationError):
            raise StorageUnavailable("S3 cannot be reached, or did not answer in time.") from None
