"""The variables of `hostler env --aws-hosts`: merged, idempotent, undone."""

from __future__ import annotations

import pytest

from hostler.cli import shell_variables
from hostler.cli.shell_variables import Behind

OWN = "http://127.0.0.1:4567"


def call(environ: dict[str, str], record: shell_variables.Record) -> tuple[dict[str, str], shell_variables.Record]:
    """One call of the command in a shell: its variables afterwards, and its record."""
    shell = shell_variables.before(environ, record)
    chosen = {"AWS_REGION": "us-east-1", **shell_variables.proxy_variables(shell, OWN, ["127.0.0.1"])}
    return {**environ, **chosen}, shell_variables.recorded(shell, chosen, environ, record)


@pytest.mark.parametrize(
    "environ",
    [
        {},
        {"PATH": "/bin", "AWS_REGION": "eu-west-1"},
        {"HTTPS_PROXY": "http://proxy:3128", "NO_PROXY": "corp.example,.amazonaws.com"},
        {"https_proxy": "http://proxy:3128", "no_proxy": "*", "HTTPS_PROXY": "http://other:1"},
        {"HTTPS_PROXY": "", "NO_PROXY": "127.0.0.1"},
    ],
)
def test_a_second_call_changes_nothing_more_and_the_undoing_restores_everything(environ: dict[str, str]) -> None:
    once, record = call(environ, {})
    twice, second = call(once, record)
    assert (twice, second) == (once, record)
    restored = {**twice, **shell_variables.undo(twice, second)}
    assert {name: value for name, value in restored.items() if value is not None} == environ


def test_what_somebody_has_set_since_is_his_and_stays() -> None:
    once, record = call({"HTTPS_PROXY": "http://old:1"}, {})
    changed = {**once, "HTTPS_PROXY": "http://new:2"}
    assert "HTTPS_PROXY" not in shell_variables.undo(changed, record)
    twice, second = call(changed, record)
    assert twice["HTTPS_PROXY"] == OWN
    assert shell_variables.undo(twice, second)["HTTPS_PROXY"] == "http://new:2"


def test_a_variable_that_a_later_call_does_not_set_is_undone_all_the_same() -> None:
    record = {"HOSTLER_DATA": (None, "/data")}
    twice, second = call({"HOSTLER_DATA": "/data"}, record)
    assert shell_variables.undo(twice, second)["HOSTLER_DATA"] is None


def test_lower_case_variables_that_are_set_do_not_win() -> None:
    variables = shell_variables.proxy_variables({"https_proxy": "http://proxy:1", "no_proxy": "corp"}, OWN, [])
    assert variables["https_proxy"] == variables["HTTPS_PROXY"] == OWN
    assert variables["no_proxy"] == variables["NO_PROXY"] == "corp,localhost,127.0.0.1"
    assert set(shell_variables.proxy_variables({}, OWN, [])) == {"HTTPS_PROXY", "NO_PROXY"}


@pytest.mark.parametrize(
    "entry",
    [
        "*", "amazonaws.com", ".amazonaws.com", "*.amazonaws.com", "AmazonAWS.com.", "com", ".com", "aws.com", "s.com",
        "sts.us-east-1.amazonaws.com", "s3.amazonaws.com:443", "*.us-east-1.amazonaws.com", "amazonaws.com.cn", "cn",
        "s3.us-east-1.api.aws", "aws",
    ],
)  # fmt: skip
def test_no_proxy_loses_what_would_let_awss_names_by(entry: str) -> None:
    assert shell_variables.no_proxy(f"corp.example, {entry} ,10.0.0.0/8", []) == (
        "corp.example,10.0.0.0/8,localhost,127.0.0.1"
    )


@pytest.mark.parametrize("entry", ["corp.example", "10.0.0.1", "::1", "notamazonaws.com", "amazon.com", "aws.example"])
def test_no_proxy_keeps_every_other_host(entry: str) -> None:
    assert shell_variables.no_proxy(entry, []).split(",")[0] == entry


def test_no_proxy_names_this_machine_once_and_where_hostler_listens() -> None:
    assert shell_variables.no_proxy("127.0.0.1", ["192.168.1.5"]) == "127.0.0.1,localhost,192.168.1.5"
    assert shell_variables.no_proxy("", ["127.0.0.1"]) == "localhost,127.0.0.1"


@pytest.mark.parametrize(
    ("shell", "expected"),
    [
        ({}, Behind("", "")),
        ({"HTTP_PROXY": "http://proxy:1"}, Behind("", "")),
        ({"HTTPS_PROXY": "http://proxy:1", "NO_PROXY": "a"}, Behind("http://proxy:1", "a")),
        ({"HTTPS_PROXY": "http://a:1", "https_proxy": "http://b:1"}, Behind("http://b:1", "")),
        ({"ALL_PROXY": "http://proxy:1"}, Behind("http://proxy:1", "")),
        ({"HTTPS_PROXY": OWN + "/"}, Behind("", "")),
    ],
)
def test_a_proxy_that_the_shell_has_is_behind_hostlers(shell: dict[str, str], expected: Behind) -> None:
    assert shell_variables.behind(shell, OWN) == expected


@pytest.mark.parametrize(
    ("shell", "variable", "expected"),
    [
        ({}, "AWS_CA_BUNDLE", ""),
        ({"AWS_CA_BUNDLE": "/a"}, "AWS_CA_BUNDLE", "/a"),
        ({"CURL_CA_BUNDLE": "/c"}, "REQUESTS_CA_BUNDLE", "/c"),
        ({"SSL_CERT_FILE": "/s"}, "CURL_CA_BUNDLE", "/s"),
        ({"SSL_CERT_FILE": "/s"}, "AWS_CA_BUNDLE", ""),
        ({"SSL_CERT_FILE": "/data/aws-hosts/bundle-x.pem"}, "SSL_CERT_FILE", ""),
        ({"SSL_CERT_FILE": "/data/aws-hosts-of-mine.pem"}, "SSL_CERT_FILE", "/data/aws-hosts-of-mine.pem"),
    ],
)
def test_a_bundle_is_joined_with_what_the_variables_readers_trust_now(
    shell: dict[str, str], variable: str, expected: str
) -> None:
    assert shell_variables.base(shell, variable, "/data/aws-hosts") == expected
