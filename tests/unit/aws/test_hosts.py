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


HOSTS = {
    "s3.amazonaws.com": ("s3", "", ""),
    "s3.us-west-2.amazonaws.com": ("s3", "", "us-west-2"),
    "s3-us-west-2.amazonaws.com": ("s3", "", "us-west-2"),
    "s3.dualstack.us-west-2.amazonaws.com": ("s3", "", "us-west-2"),
    "s3-fips.us-gov-west-1.amazonaws.com": ("s3", "", "us-gov-west-1"),
    "s3-fips.dualstack.us-east-1.amazonaws.com": ("s3", "", "us-east-1"),
    "s3.cn-north-1.amazonaws.com.cn": ("", "", ""),
    "my.bucket.s3.amazonaws.com:443": ("s3", "my.bucket", ""),
    "Bucket.S3.us-west-2.amazonaws.com": ("s3", "bucket", "us-west-2"),
    "b.s3-us-west-2.amazonaws.com": ("s3", "b", "us-west-2"),
    "b.s3.dualstack.us-west-2.amazonaws.com": ("s3", "b", "us-west-2"),
    "b.s3-accelerate.amazonaws.com": ("s3", "b", ""),
    "sagemaker-us-east-1-12345.s3.us-east-1.amazonaws.com": ("s3", "sagemaker-us-east-1-12345", "us-east-1"),
    "s3.b.s3.amazonaws.com": ("s3", "s3.b", ""),
    "123456789012.s3-control.us-east-1.amazonaws.com": ("s3-control", "", "us-east-1"),
    "sts.amazonaws.com": ("sts", "", ""),
    "sts.eu-central-1.amazonaws.com": ("sts", "", "eu-central-1"),
    "api.sagemaker.us-east-1.amazonaws.com": ("sagemaker", "", "us-east-1"),
    "runtime-fips.sagemaker.us-east-1.amazonaws.com": ("sagemaker", "", "us-east-1"),
    "monitoring.ap-southeast-2.amazonaws.com": ("monitoring", "", "ap-southeast-2"),
    "logs-fips.us-east-1.amazonaws.com": ("logs", "", "us-east-1"),
    "123456789012.dkr.ecr.us-iso-east-1.amazonaws.com": ("ecr", "", "us-iso-east-1"),
    "b.localhost:4566": ("", "b", ""),
    "b.s3.localhost": ("", "b", ""),
    "s3.localhost:4566": ("", "", ""),
    "127.0.0.1:4566": ("", "", ""),
    "amazonaws.com": ("", "", ""),
    "s3.amazonaws.com.evil.org": ("", "", ""),
    "": ("", "", ""),
}  # fmt: skip


@pytest.mark.parametrize("host", HOSTS)
def test_a_host_name_names_service_bucket_and_region(host: str) -> None:
    assert hosts.of_header(host) == HOSTS[host]
