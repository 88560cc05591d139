"""A target that is uploaded after a call of it was refused is served by the next call."""

from __future__ import annotations

import pytest
from hop_endpoints import deploy, image
from running import BUCKET, Hostler
from uploads import BEFORE, refused_after_upload


@pytest.mark.parametrize("before", BEFORE)
def test_a_target_uploaded_after_a_refusal_is_served_at_once(hostler: Hostler, before: str):
    name = f"uploads-{before.replace(' ', '-')}"
    data = f"s3://{BUCKET}/{name}/"
    deploy(hostler, name, [{"Image": image("sagemaker-xgboost"), "ModelDataUrl": data, "Mode": "MultiModel"}])
    times = 200 if before == "nothing" else 50
    refused = refused_after_upload(hostler, name, lambda key, body: hostler.put(f"{name}/{key}", body), before, times)
    assert not refused
    hostler.sm.delete_endpoint(EndpointName=name)
