"""The region that a signed request names."""

from __future__ import annotations

import pytest

from hostler.aws import credential


@pytest.mark.parametrize(
    ("header", "region"),
    [
        ("AWS4-HMAC-SHA256 Credential=AK/20261121/eu-west-1/sagemaker/aws4_request, SignedHeaders=host", "eu-west-1"),
        ("AWS4-HMAC-SHA256 Credential=A/B/20261121/cn-north-1/sagemaker/aws4_request", "cn-north-1"),
        ("", "default"),
        ("Basic abc", "default"),
        ("AWS4-HMAC-SHA256 Credential=AK/20261121", "default"),
        ("AWS4-HMAC-SHA256 Credential=AK/20261121/../../sagemaker/aws4_request", "default"),
        ("AWS4-HMAC-SHA256 Credential=AK/20261121/" + "r" * 1000 + "/sagemaker/aws4_request", "default"),
        ("Credential=" * 5000, "default"),
    ],
)
def test_the_region_is_that_of_the_credential_scope(header: str, region: str) -> None:
    assert credential.region(header, "default") == region
