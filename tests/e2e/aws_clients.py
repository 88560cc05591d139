"""AWS's clients of a hostler: boto3's, without retries, which would hide errors."""

from __future__ import annotations

from functools import cached_property
from typing import Any

import boto3
from botocore.config import Config

ROLE = "arn:aws:iam::123456789012:role/test"


class Clients:
    """Those of a hostler at `url`."""

    url: str

    @property
    def keys(self) -> tuple[str, str]:
        """The access key and its secret key."""
        return "test", "test"

    def client(self, service: str, **config: Any) -> Any:
        key, secret = self.keys
        options = Config(**{"retries": {"total_max_attempts": 1}, "read_timeout": 70, **config})
        return boto3.client(
            service, endpoint_url=self.url, region_name="us-east-1", config=options,
            aws_access_key_id=key, aws_secret_access_key=secret,
        )  # fmt: skip

    @cached_property
    def sm(self) -> Any:
        return self.client("sagemaker")

    @cached_property
    def runtime(self) -> Any:
        return self.client("sagemaker-runtime")

    @cached_property
    def s3(self) -> Any:
        return self.client("s3")
