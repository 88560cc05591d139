"""Names: ARNs, S3 addresses, and that no user's text becomes a path outside its folder."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler import names
from hostler.names import UnsafeName

UNSAFE = [
    "", "/", ".", "..", "../x", "a/../b", "a/..", "./a", "a/./b", "a//b", "a/", "//a", "\\a", "a\\..\\b",
    "a\x00b", "a\nb", "a\x7f", "x" * 1025, "caf\udce9",
]  # fmt: skip
PERCENT = ["%2e%2e/x", "a/%2E%2e", "a%2fb", "a%5Cb", "a%00b", "%252e", "50%25", "v1%2E2", "%", "100%"]


def test_arns_are_lower_case_and_know_their_partition():
    assert names.arn("endpoint", "us-east-1", "My-EP") == "arn:aws:sagemaker:us-east-1:123456789012:endpoint/my-ep"
    assert names.arn("model", "cn-north-1", "m").startswith("arn:aws-cn:sagemaker:cn-north-1:")
    assert names.arn("model", "us-gov-west-1", "m").startswith("arn:aws-us-gov:")


def test_the_log_groups_arn_keeps_the_endpoints_name():
    assert names.log_group_arn("us-east-1", "My-EP").endswith(":log-group:/aws/sagemaker/Endpoints/My-EP")


@pytest.mark.parametrize(
    "address",
    [
        "s3://b/path/to/m.tar.gz",
        "https://b.s3.us-west-2.amazonaws.com/path/to/m.tar.gz",
        "https://b.s3.amazonaws.com/path/to/m.tar.gz",
        "https://b.s3-us-west-2.amazonaws.com/path/to/m.tar.gz",
        "https://s3.us-west-2.amazonaws.com/b/path/to/m.tar.gz",
        "https://s3.amazonaws.com/b/path/to/m.tar.gz",
        "https://b.s3.dualstack.us-west-2.amazonaws.com/path/to/m.tar.gz",
        "https://b.s3.cn-north-1.amazonaws.com.cn/path/to/m.tar.gz",
    ],
)
def test_an_object_has_many_addresses(address: str):
    assert names.s3_url(address) == names.data_url(address) == ("b", "path/to/m.tar.gz")


def test_a_bucket_alone_is_an_address():
    assert names.s3_url("s3://b") == ("b", "")
    assert str(names.s3_url("s3://b/p/")) == "s3://b/p/"


@pytest.mark.parametrize(
    "address",
    ["", "b/key", "s3://", "s3:///key", "http://b.s3.amazonaws.com/k", "https://example.com/b/k", "file://b/k",
     "https://b.s3.amazonaws.com.example.com/k", "https://b.s3.amazonaws.com:443/k", "https://b.s3.amazonaws.com\n/k"],
)  # fmt: skip
def test_any_other_address_is_refused(address: str):
    with pytest.raises(UnsafeName):
        names.s3_url(address)
    with pytest.raises(UnsafeName):
        names.data_url(address)


@pytest.mark.parametrize("address", ["file:///srv/m.tar.gz", "file://localhost/srv/m.tar.gz"])
def test_the_address_of_a_file_is_no_s3_address(address: str):
    assert names.data_url(address) == (names.FILES, "srv/m.tar.gz")
    assert str(names.data_url(address)) == "file:///srv/m.tar.gz"
    with pytest.raises(UnsafeName):
        names.s3_url(address)


@given(st.text(max_size=40))
def test_no_s3_address_is_parsed_as_that_of_a_file(text: str):
    for address in (f"s3://{text}", f"https://s3.amazonaws.com/{text}", f"https://{text}.s3.amazonaws.com/k"):
        try:
            bucket, _ = names.data_url(address)
        except UnsafeName:
            continue
        assert bucket != names.FILES


@pytest.mark.parametrize(
    ("root", "key", "path"),
    [
        ("/srv/models", "srv/models/a/m.tar.gz", "/srv/models/a/m.tar.gz"),
        ("/srv/models", "srv/models", "/srv/models"),
        ("/", "etc/m.tar.gz", "/etc/m.tar.gz"),
        ("/", "", "/"),
    ],
)
def test_a_file_below_the_root_has_a_path(root: str, key: str, path: str):
    assert names.file_path(root, key) == Path(path)


@pytest.mark.parametrize("root", ["/srv/models", ""])
@pytest.mark.parametrize(
    "key",
    ["", "srv", "srv/models2/m", "srv/model", "etc/passwd", "srv/models/", "srv/models/../x", "srv/models//x",
     "/srv/models/x", "srv/models/a\\b", "srv/models/a\0", "srv/models/" + "x" * 256, "../srv/models/x"],
)  # fmt: skip
def test_a_file_outside_the_root_has_no_path(root: str, key: str):
    with pytest.raises(UnsafeName):
        names.file_path(root, key)


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_target_is_refused(name: str):
    with pytest.raises(UnsafeName):
        names.target_model(name)


@pytest.mark.parametrize("name", PERCENT)
def test_a_percent_sign_in_a_target_stands_for_itself(tmp_path: Path, name: str):
    assert names.target_model(name) == name
    assert names.resolve(tmp_path, name) == tmp_path / name


def test_one_leading_slash_of_a_target_is_stripped():
    assert names.target_model("/customer/a.tar.gz") == "customer/a.tar.gz"
    assert names.target_model("a b+ü%.tar.gz") == "a b+ü%.tar.gz"


@pytest.mark.parametrize("name", UNSAFE)
def test_an_unsafe_name_never_becomes_a_path(tmp_path: Path, name: str):
    with pytest.raises(UnsafeName):
        names.resolve(tmp_path, name)


def test_a_segment_too_long_for_a_file_is_refused(tmp_path: Path):
    with pytest.raises(UnsafeName):
        names.resolve(tmp_path, "ü" * 128)


def test_a_link_out_of_the_folder_is_refused(tmp_path: Path):
    root = tmp_path / "root"
    root.mkdir()
    (root / "out").symlink_to(tmp_path)
    with pytest.raises(UnsafeName):
        names.resolve(root, "out/secret")


def test_links_in_a_circle_are_refused(tmp_path: Path):
    (tmp_path / "a").symlink_to(tmp_path / "b")
    (tmp_path / "b").symlink_to(tmp_path / "a")
    with pytest.raises(UnsafeName):
        names.resolve(tmp_path, "a/x")


@given(st.text(max_size=40))
def test_whatever_the_text_the_path_stays_below_its_root(text: str):
    root = Path("/nonexistent/root")
    try:
        path = names.resolve(root, text)
    except UnsafeName:
        return
    assert path.is_relative_to(root)
    assert ".." not in path.parts


@pytest.mark.parametrize(
    ("prefix", "key"), [("path/to/artifacts/", "path/to/artifacts/a"), ("path", "path/a"), ("", "a"), ("/", "a")]
)
def test_a_prefix_and_a_target_join_with_one_slash(prefix: str, key: str):
    assert names.join_key(prefix, "a") == key


def test_containers_know_targets_by_opaque_names():
    assert names.model_id("b", "k") != names.model_id("b", "l")
    assert len(names.model_id("b", "../../etc")) == 32
    assert names.model_id("b", "../../etc").isalnum()
