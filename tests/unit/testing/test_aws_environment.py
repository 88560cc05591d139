"""AWS's clients in this process call hostler within the block, whatever shell and files say, and not after it."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import boto3
import pytest

from hostler.testing.aws_environment import PointedAt, variables

URL = "http://127.0.0.1:9"


@pytest.fixture(autouse=True)
def environment(tmp_path: Path) -> Iterator[None]:
    """The environment and the default session of before come back."""
    before, session = dict(os.environ), boto3.DEFAULT_SESSION
    (tmp_path / "config").write_text("[profile mine]\nregion = ap-south-1\nendpoint_url = http://192.0.2.1\n")
    for name in [name for name in os.environ if name.startswith("AWS_")]:
        del os.environ[name]
    os.environ |= {
        "AWS_PROFILE": "mine", "AWS_CONFIG_FILE": str(tmp_path / "config"), "AWS_ACCESS_KEY_ID": "real",
        "AWS_SECRET_ACCESS_KEY": "real", "AWS_SESSION_TOKEN": "real", "AWS_ENDPOINT_URL_S3": "http://192.0.2.2",
        "AWS_RETRY_MODE": "adaptive", "NO_PROXY": "a.example",
    }  # fmt: skip
    boto3.DEFAULT_SESSION = None
    try:
        yield
    finally:
        os.environ.clear()
        os.environ.update(before)
        boto3.DEFAULT_SESSION = session


def test_a_plain_client_calls_hostler_within_the_block_and_the_real_one_after_it() -> None:
    outside = boto3.client("s3")
    before = dict(os.environ)
    with PointedAt(variables(URL, "eu-west-1")):
        inside = boto3.client("s3")
        assert inside.meta.endpoint_url == URL
        assert inside.meta.region_name == "eu-west-1"
        assert inside._request_signer._credentials.access_key == "hostler"
        assert inside._request_signer._credentials.token is None
        assert os.environ["AWS_RETRY_MODE"] == "adaptive"
        assert os.environ["NO_PROXY"] == os.environ["no_proxy"] == "a.example,127.0.0.1"
        os.environ["AWS_MORE"] = "set by the test"
    assert dict(os.environ) == before
    after = boto3.client("s3")
    assert after.meta.endpoint_url == outside.meta.endpoint_url == "http://192.0.2.2"
    assert after._request_signer._credentials.access_key == "real"


def test_an_error_within_the_block_restores_them_too() -> None:
    before = dict(os.environ)
    with pytest.raises(ZeroDivisionError), PointedAt(variables(URL, "eu-west-1")):
        _ = 1 / 0
    assert dict(os.environ) == before


def test_each_block_gets_the_session_of_the_block_before_it() -> None:
    pointed_at = PointedAt(variables(URL, "eu-west-1"))
    sessions = []
    for _ in range(2):
        with pointed_at:
            boto3.client("s3")
            sessions.append(boto3.DEFAULT_SESSION)
        assert boto3.DEFAULT_SESSION is None
    assert sessions[0] is sessions[1] is not None


def test_a_block_within_the_block_leaves_everything_to_be_restored() -> None:
    before, pointed_at = dict(os.environ), PointedAt(variables(URL, "eu-west-1"))
    with pointed_at:
        boto3.client("s3")
        inside, session = dict(os.environ), boto3.DEFAULT_SESSION
        with pointed_at:
            assert boto3.client("s3").meta.endpoint_url == URL
        assert (dict(os.environ), boto3.DEFAULT_SESSION) == (inside, session)
    assert (dict(os.environ), boto3.DEFAULT_SESSION) == (before, None)
