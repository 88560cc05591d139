"""A user's boto3 in front of a rig's gateway."""

from __future__ import annotations

import asyncio
from typing import Any

import boto3
import botocore.exceptions
import pytest
from botocore.config import Config
from rig import Rig


def client(rig: Rig, **more: Any) -> Any:
    return boto3.client(
        "sagemaker-runtime",
        endpoint_url=f"http://127.0.0.1:{rig.port}",
        region_name=more.pop("region_name", "us-east-1"),
        aws_access_key_id="AKID",
        aws_secret_access_key="secret",
        config=Config(retries={"total_max_attempts": 1}),
    )


async def invoke(rig: Rig, **parameters: Any) -> Any:
    parameters = {"EndpointName": "ep", "Body": b"1,2", **parameters}
    region = parameters.pop("region_name", "us-east-1")
    return await asyncio.to_thread(lambda: client(rig, region_name=region).invoke_endpoint(**parameters))


async def failure(rig: Rig, **parameters: Any) -> dict[str, Any]:
    """The error's response, with its class's name as `Class`."""
    with pytest.raises(botocore.exceptions.ClientError) as caught:
        await invoke(rig, **parameters)
    return {**caught.value.response, "Class": type(caught.value).__name__}


def status(failed: dict[str, Any]) -> int:
    return int(failed["ResponseMetadata"]["HTTPStatusCode"])
