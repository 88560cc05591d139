"""AWS's host names."""

from __future__ import annotations

import pytest

from hostler.aws import hosts


@pytest.mark.parametrize(
    "name", ["amazonaws.com", "sts.us-east-1.amazonaws.com", "sts.us-east-1.amazonaws.com.", "a.b.c.d.amazonaws.com"]
)
def test_the_domain_and_all_names_below_it_are_awss(name: str) -> None:
    assert hosts.is_aws(name)


@pytest.mark.parametrize(
    "name",
    [
        "", ".", "com", "localhost", "127.0.0.1", "notamazonaws.com", "amazonaws.com.example.org", "amazonaws.com..",
        "amazonaws.com.cn", "sts.cn-north-1.amazonaws.com.cn", "aws.amazon.com", "STS.AMAZONAWS.COM",
    ],
)  # fmt: skip
def test_no_other_name_is_awss(name: str) -> None:
    assert not hosts.is_aws(name)


@pytest.mark.parametrize(
    ("name", "domain", "bucket"),
    [
        ("s3.amazonaws.com", "s3.amazonaws.com", ""),
        ("b.s3.amazonaws.com", "s3.amazonaws.com", "b"),
        ("b.s3.us-east-1.amazonaws.com.", "s3.us-east-1.amazonaws.com", "b"),
        ("my.own.bucket.s3.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com", "my.own.bucket"),
        ("s3.s3.us-east-1.amazonaws.com", "s3.us-east-1.amazonaws.com", "s3"),
        ("b.s3-eu-west-1.amazonaws.com", "s3-eu-west-1.amazonaws.com", "b"),
        ("b.s3.dualstack.eu-west-1.amazonaws.com", "s3.dualstack.eu-west-1.amazonaws.com", "b"),
        ("b.s3-accelerate.amazonaws.com", "s3-accelerate.amazonaws.com", "b"),
        ("sts.us-east-1.amazonaws.com", "", ""),
        ("amazonaws.com", "", ""),
        ("s3.us-east-1.example.org", "", ""),
    ],
)
def test_a_name_of_s3_has_a_domain_and_perhaps_a_bucket(name: str, domain: str, bucket: str) -> None:
    assert (hosts.s3_domain(name), hosts.bucket(name)) == (domain, bucket)
