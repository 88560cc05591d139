"""What the proxy does with a request, by its head."""

from __future__ import annotations

import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.aws.hosts import is_aws
from hostler.proxy.request import Destination, Refused, destination


def ask(target: str, *fields: str, offline: bool = False) -> Destination:
    return destination("\r\n".join([f"CONNECT {target} HTTP/1.1", *fields]).encode(), offline)


def refusal(head: bytes, offline: bool = False) -> tuple[int, str]:
    with pytest.raises(Refused) as refused:
        destination(head, offline)
    assert refused.value.sentence.isascii()
    assert not set(refused.value.sentence) & set("\r\n")
    return refused.value.status, refused.value.sentence


@pytest.mark.parametrize("offline", [False, True])
@pytest.mark.parametrize(
    "target",
    [
        "sts.us-east-1.amazonaws.com:443",
        "STS.us-east-1.AmazonAWS.com:443",
        "sts.us-east-1.amazonaws.com.:443",
        "sts.us-east-1.amazonaws.com:0443",
    ],
)
def test_awss_names_are_hosted_however_they_are_spelt(target: str, offline: bool) -> None:
    assert ask(target, offline=offline) == Destination("sts.us-east-1.amazonaws.com", 443, hosted=True)


@pytest.mark.parametrize(
    "target",
    [
        "sts.us-east-1.amazonaws.com:80",
        "sts.us-east-1.amazonaws.com:8443",
        "amazonaws.com.:444",
        "sts.cn-north-1.amazonaws.com.cn:443",
        "STS.CN-NORTH-1.AMAZONAWS.COM.CN.:443",
        "s3.us-east-1.api.aws:443",
        "x.lambda-url.us-east-1.on.aws:443",
    ],
)
def test_names_of_awss_that_are_not_hosted_are_refused_and_never_tunnelled(target: str) -> None:
    assert refusal(f"CONNECT {target} HTTP/1.1".encode())[0] == 403


@pytest.mark.parametrize(
    ("target", "host", "port"),
    [
        ("pypi.org:443", "pypi.org", 443),
        ("github.com:22", "github.com", 22),
        ("Example.ORG:8443", "example.org", 8443),
        ("notamazonaws.com:443", "notamazonaws.com", 443),
        ("amazonaws.com.example.org:443", "amazonaws.com.example.org", 443),
        ("192.0.2.1:443", "192.0.2.1", 443),
        ("[2001:DB8::1]:443", "2001:db8::1", 443),
        ("localhost:1", "localhost", 1),
    ],
)
def test_any_other_host_is_tunnelled_and_refused_by_an_offline_proxy(target: str, host: str, port: int) -> None:
    assert ask(target) == Destination(host, port, hosted=False)
    status, sentence = refusal(f"CONNECT {target} HTTP/1.1".encode(), offline=True)
    assert (status, sentence) == (403, f"hostler is offline, by its setting, and does not pass on {host}")


def test_the_fields_of_a_connect_are_not_looked_at() -> None:
    fields = ("Host: sts.us-east-1.amazonaws.com:443", "Proxy-Authorization: Basic eDp5", "User-Agent: \t x", "X:")
    assert ask("pypi.org:443", *fields) == Destination("pypi.org", 443, hosted=False)
    assert destination(b"CONNECT pypi.org:443 HTTP/1.0", False).host == "pypi.org"


@pytest.mark.parametrize(
    "target",
    [
        "pypi.org",
        "pypi.org:",
        ":443",
        "pypi.org:0",
        "pypi.org:65536",
        "pypi.org:+443",
        "pypi.org:4 43",
        "pypi..org:443",
        ".pypi.org:443",
        "pypi.org..:443",
        "-x:443",
        "a@pypi.org:443",
        "https://pypi.org:443",
        "pypi.org:443/",
        "[::1:443",
        "::1:443",
        "[::1%25lo]:443",
        "[pypi.org]:443",
        "%70ypi.org:443",
        "sts.amazonaws.com%00.evil.org:443",
        "*:443",
        f"{'a' * 64}.org:443",
        f"{'a.' * 127}org:443",
        "pypi.org:\u0664\u0664\u0663",
        "sts。amazonaws。com:443",
    ],
)
def test_a_target_that_is_no_host_and_port_is_refused(target: str) -> None:
    assert refusal(f"CONNECT {target} HTTP/1.1".encode())[0] == 400


@pytest.mark.parametrize(
    "line",
    [
        b"GET / HTTP/1.1",
        b"GET http://sts.us-east-1.amazonaws.com/ HTTP/1.1",
        b"POST http://pypi.org/ HTTP/1.0",
        b"OPTIONS * HTTP/1.1",
        b"PRI * HTTP/1.1",
    ],
)
def test_what_is_no_connect_is_refused_with_a_sentence_that_says_what_the_port_is(line: bytes) -> None:
    status, sentence = refusal(line + b"\r\nHost: localhost\r\nOrigin: https://evil.com")
    assert (status, sentence) == (
        405,
        "This port is hostler's HTTPS proxy for AWS's host names: it takes CONNECT alone",
    )


@pytest.mark.parametrize(
    "head",
    [
        b"",
        b"\r\nCONNECT pypi.org:443 HTTP/1.1",
        b"connect pypi.org:443 HTTP/1.1",
        b"CONNECT  pypi.org:443 HTTP/1.1",
        b"CONNECT pypi.org:443 HTTP/2.0",
        b"CONNECT pypi.org:443",
        b"CONNECT pypi.org:443 HTTP/1.1\nX: y",
        b"CONNECT pypi.org:443 HTTP/1.1\r\nX: y\n z",
        b"CONNECT pypi.org:443 HTTP/1.1\r\n folded",
        b"CONNECT pypi.org:443 HTTP/1.1\r\nX : y",
        b"CONNECT pypi.org:443 HTTP/1.1\r\nno colon",
        b"CONNECT pypi.org:443 HTTP/1.1\r\nContent-Length: 0",
        b"CONNECT pypi.org:443 HTTP/1.1\r\nTransfer-Encoding: chunked",
        b"CONNECT pypi.org:443 HTTP/1.1" + b"\r\nx: y" * 101,
        b"CONNECT \xff:443 HTTP/1.1",
        b"\x16\x03\x01\x02",
    ],
)
def test_a_malformed_request_is_refused(head: bytes) -> None:
    assert refusal(head)[0] == 400


@given(st.binary(max_size=200) | st.from_regex(rb"CONNECT [!-~]{1,40} HTTP/1\.1(\r\n[ -~]{0,20}){0,3}", fullmatch=True))
def test_any_bytes_go_somewhere_or_are_refused(head: bytes) -> None:
    with contextlib.suppress(Refused):
        to = destination(head, False)
        assert to.hosted == is_aws(to.host)
        assert 0 < to.port < 65_536
