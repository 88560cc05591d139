"""Signatures as botocore makes them are proven; whatever is changed in a signed request is not."""

from __future__ import annotations

import time
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from email.utils import format_datetime
from hashlib import sha256
from typing import Any
from urllib.parse import quote, urlsplit

import pytest
from botocore.auth import S3SigV4Auth, S3SigV4QueryAuth, SigV4Auth, SigV4QueryAuth
from botocore.awsrequest import AWSRequest
from botocore.credentials import Credentials
from hypothesis import given
from hypothesis import strategies as some

from hostler.aws.sigv4 import ALGORITHM, AuthFailure, NotAuthenticated, SigningKey, Verifier

KEYS = {"AKIDEXAMPLE": "wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "AKIDOTHER": "another secret"}
SIGNERS = {"sagemaker": SigV4Auth, "sts": SigV4Auth, "s3": S3SigV4Auth}
TARGET = "x-amzn-sagemaker-target-model"


class Signed:
    """A request as the gateway sees it: what may be changed, and whether it is proven still."""

    def __init__(
        self,
        method: str = "POST",
        path: str = "/endpoints/ep/invocations",
        query: str = "",
        headers: Mapping[str, str] | None = None,
        body: bytes = b"1,2,3",
        *,
        service: str = "sagemaker",
        access_key: str = "AKIDEXAMPLE",
        secret: str = "",
        region: str = "eu-west-1",
        token: str | None = None,
        signer: Any = None,
    ) -> None:
        url = f"http://127.0.0.1:4566{path}" + (f"?{query}" if query else "")
        request = AWSRequest(method, url, dict(headers or {}), body)
        credentials = Credentials(access_key, secret or KEYS[access_key], token)
        (signer or SIGNERS[service])(credentials, service, region).add_auth(request)
        self.method, self.path, self.service, self.body = method, path, service, body
        self.query = urlsplit(request.url).query
        # on the wire, and back as the gateway reads it
        self.headers = {
            name.lower(): value.encode().decode("latin-1").lstrip() for name, value in request.headers.items()
        }
        self.headers.setdefault("host", "127.0.0.1:4566")

    def prove(self, verifier: Verifier | None = None, now: float | None = None) -> None:
        """Raises Unproven."""
        verifier = verifier or Verifier(KEYS)
        now = time.time() if now is None else now
        claim = verifier.read(self.method, self.path, self.query, self.headers, self.service, now)
        hashed = sha256(self.body).hexdigest()
        verifier.prove(
            claim, self.headers.get("x-amz-content-sha256", "UNSIGNED-PAYLOAD") if self.service == "s3" else hashed
        )

    def failure(self, verifier: Verifier | None = None, now: float | None = None) -> AuthFailure:
        with pytest.raises(NotAuthenticated) as unproven:
            self.prove(verifier, now)
        return unproven.value.kind

    def message(self, now: float | None = None) -> str:
        with pytest.raises(NotAuthenticated) as unproven:
            self.prove(now=now)
        return unproven.value.message

    def authorize(self, old: str, new: str) -> Signed:
        assert old in self.headers["authorization"]
        self.headers["authorization"] = self.headers["authorization"].replace(old, new)
        return self

    @property
    def when(self) -> datetime:
        return datetime.strptime(self.headers["x-amz-date"], "%Y%m%dT%H%M%SZ").replace(tzinfo=UTC)


# --- what botocore signs ----------------------------------------------------------------------------------------------

VALUE = (
    some.text(some.characters(min_codepoint=32, max_codepoint=126), min_size=1, max_size=20).map(str.strip).filter(len)
)
NAME = some.from_regex(r"x-amzn-sagemaker-[a-z]{1,8}|content-type|accept|x-amz-[a-z]{4,9}|x-y", fullmatch=True)
SEGMENT = some.text(some.characters(codec="utf-8", exclude_characters="/"), min_size=1, max_size=12).filter(
    lambda text: text not in (".", "..")
)
PATH = some.lists(SEGMENT, max_size=4).map(lambda parts: "/" + "/".join(quote(part, safe="~") for part in parts))
WORD = some.text(some.characters(codec="utf-8"), max_size=8).map(lambda text: quote(text, safe="~"))
QUERY = some.lists(some.tuples(WORD.filter(len), WORD), max_size=4).map(lambda p: "&".join(f"{k}={v}" for k, v in p))
SERVICE = some.sampled_from(sorted(SIGNERS))
REGION = some.sampled_from(["us-east-1", "eu-west-3", "us-gov-west-1"])


@given(
    service=SERVICE, path=PATH, query=QUERY, headers=some.dictionaries(NAME, VALUE, max_size=5),
    body=some.binary(max_size=200), access_key=some.sampled_from(sorted(KEYS)), region=REGION,
    method=some.sampled_from(["GET", "POST", "PUT"]), token=some.none() | VALUE,
)  # fmt: skip
def test_what_botocore_signs_is_proven(**request: Any) -> None:
    verifier = Verifier(KEYS)
    for _ in range(2):  # the second time out of memory
        Signed(**request).prove(verifier)


@given(service=SERVICE, data=some.data(), headers=some.dictionaries(NAME, VALUE, min_size=1, max_size=4))
def test_whatever_is_changed_after_the_signing_is_not_proven(service: str, data: Any, headers: dict[str, str]) -> None:
    request = Signed("POST", "/a/b", "x=1", headers, service=service)
    verifier = Verifier(KEYS)
    request.prove(verifier)
    changed = data.draw(some.sampled_from(["method", "path", "query", "body", "signature", *request.headers]))
    if changed in ("method", "path", "query"):
        setattr(request, changed, getattr(request, changed) + "1")
    elif changed == "body":
        request.body += b"1"
        if service == "s3":
            request.headers["x-amz-content-sha256"] = sha256(request.body).hexdigest()
    elif changed in ("signature", "authorization"):
        digit = data.draw(some.integers(1, 64))
        text = request.headers["authorization"]
        other = "0" if text[-digit] != "0" else "1"
        request.headers["authorization"] = text[:-digit] + other + text[len(text) - digit + 1 :]
    elif data.draw(some.booleans()) or changed == "x-amz-date":
        request.headers[changed] += "1"
    else:
        del request.headers[changed]
    with pytest.raises(NotAuthenticated):
        request.prove(verifier)


def test_the_signature_is_awss_own_example() -> None:
    """From AWS's documentation of how a signing key is derived: its key, day, region and service."""
    key = SigningKey("wJalrXUtnFEMI/K7MDENG+bPxRfiCYEXAMPLEKEY", "20150830", "us-east-1", "iam")
    begun = key.begin("AWS4-HMAC-SHA256\n20150830T123600Z\n20150830/us-east-1/iam/aws4_request\n")
    hashed = "f536975d06c0309214f805bb90ccff089219ecd68b2577efef23edd43b7e1a59"
    assert key.sign(begun, hashed) == "5d672d79c15b13162d9279b0855cfba6789a8edb4c82c400e06b5924a6f2b5d7"


@pytest.mark.parametrize("value", ["a  b", " a b", "a b ", "a\tb", "a   b    c"])
def test_blanks_in_a_header_count_as_one(value: str) -> None:
    Signed(headers={"content-type": value}).prove()


@pytest.mark.parametrize("text", ["größe", "日本", "é\u00e0"])
def test_a_header_may_hold_utf8(text: str) -> None:
    request = Signed(headers={"x-amzn-sagemaker-custom-attributes": text})
    request.prove()
    request.headers["x-amzn-sagemaker-custom-attributes"] += "!"
    assert request.failure() is AuthFailure.MISMATCH


def test_a_percent_sign_in_signed_headers_is_a_name_like_any_other() -> None:
    assert Signed().authorize("SignedHeaders=", "SignedHeaders=%s;%d;").failure() is AuthFailure.MISMATCH


def test_a_path_is_encoded_twice_but_for_s3() -> None:
    for service in SIGNERS:
        Signed(path="/a%20b%2Fc/%E2%82%AC", service=service).prove()
    request = Signed(path="/bad%20name", service="s3")
    request.service, request.body = "sagemaker", b""
    assert request.failure() is AuthFailure.MISMATCH


@pytest.mark.parametrize("spelt", ["/b/a(1)=$", "/b/a%281%29%3D%24"])
def test_however_a_client_spells_an_s3_path_it_signs_it_encoded(spelt: str) -> None:
    request = Signed("GET", "/b/a%281%29%3D%24", service="s3")
    request.path = spelt
    request.prove()


# --- presigned addresses ----------------------------------------------------------------------------------------------


def presigned(seconds: int = 60, **more: Any) -> Signed:
    def signer(credentials: Credentials, service: str, region: str) -> S3SigV4QueryAuth:
        return S3SigV4QueryAuth(credentials, service, region, expires=seconds)

    return Signed(
        "GET", "/bucket/a%20key", "response-content-type=text%2Fcsv", body=b"", service="s3", signer=signer, **more
    )


def test_a_presigned_address_is_good_for_its_time() -> None:
    request = presigned(token="a/token+")
    request.prove()
    assert request.failure(now=time.time() + 62) is AuthFailure.EXPIRED
    assert request.failure(now=time.time() - 3600) is AuthFailure.EXPIRED


@pytest.mark.parametrize(
    ("old", "new", "failure"),
    [
        ("text%2Fcsv", "text%2Fhtml", AuthFailure.MISMATCH),
        ("Expires=60", "Expires=61", AuthFailure.MISMATCH),
        ("Expires=60", "Expires=604801", AuthFailure.INCOMPLETE),
        ("Expires=60", "Expires=-1", AuthFailure.INCOMPLETE),
        ("Expires=60", "Expires=", AuthFailure.INCOMPLETE),
        ("X-Amz-Expires=60&", "", AuthFailure.INCOMPLETE),
        ("X-Amz-Expires=60", "X-Amz-Expires=60&X-Amz-Expires=61", AuthFailure.INCOMPLETE),
        ("X-Amz-SignedHeaders=host", "X-Amz-SignedHeaders=x", AuthFailure.MISMATCH),
        ("AKIDEXAMPLE", "AKIDNOBODY", AuthFailure.UNKNOWN_KEY),
        ("AKIDEXAMPLE", "AKIDOTHER", AuthFailure.MISMATCH),
        ("AWS4-HMAC-SHA256", "AWS4-HMAC-SHA1", AuthFailure.INCOMPLETE),
    ],
)
def test_what_is_changed_in_a_presigned_address_is_not_proven(old: str, new: str, failure: AuthFailure) -> None:
    request = presigned()
    assert old in request.query
    request.query = request.query.replace(old, new)
    assert request.failure() is failure


def test_an_address_of_another_service_may_be_presigned_too_and_covers_its_body() -> None:
    def signer(credentials: Credentials, service: str, region: str) -> SigV4QueryAuth:
        return SigV4QueryAuth(credentials, service, region, expires=60)

    request = Signed("GET", "/", "Action=GetCallerIdentity&Version=2011-06-15", body=b"", service="sts", signer=signer)
    request.prove()
    assert request.failure(now=time.time() + 62) is AuthFailure.EXPIRED
    request.body = b"Action=GetSessionToken"
    assert request.failure() is AuthFailure.MISMATCH


def test_an_address_that_is_presigned_for_a_service_is_good_for_no_other() -> None:
    request = presigned()
    request.service = "sagemaker"
    assert request.failure() is AuthFailure.MISMATCH


# --- when -------------------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(("service", "minutes"), [("sagemaker", 5), ("sts", 15), ("s3", 15)])
def test_a_request_is_good_for_some_minutes_either_way_and_more_than_once(service: str, minutes: int) -> None:
    request, verifier = Signed(service=service), Verifier(KEYS)
    at = request.when.timestamp()
    for now in (at - 60 * minutes, at, at, at + 60 * minutes):
        request.prove(verifier, now)
    for now in (at - 60 * minutes - 1, at + 60 * minutes + 1):
        assert request.failure(verifier, now) is AuthFailure.SKEWED


def test_a_request_stays_too_old_whatever_came_between() -> None:
    """The time of a caller's last request is remembered as good: a time that is refused for its day must not be."""
    request, verifier = Signed(), Verifier(KEYS)
    at = request.when.timestamp()
    request.prove(verifier, at)
    tomorrow = Signed()
    tomorrow.headers = {**request.headers, "x-amz-date": (request.when + timedelta(days=1)).strftime("%Y%m%dT%H%M%SZ")}
    assert tomorrow.failure(verifier, at + 86_400) is AuthFailure.MISMATCH
    assert request.failure(verifier, at + 86_400) is AuthFailure.SKEWED
    request.prove(verifier, at)


def test_a_skewed_clock_gets_both_times() -> None:
    request = Signed()
    stamp, now = request.headers["x-amz-date"], request.when + timedelta(minutes=10)
    text = f"Signature expired: {stamp} is now earlier than {now - timedelta(minutes=5):%Y%m%dT%H%M%SZ}"
    assert request.message(now.timestamp()) == f"{text} ({now:%Y%m%dT%H%M%SZ} - 5 min.)"
    now = request.when - timedelta(minutes=10)
    text = f"Signature not yet current: {stamp} is still later than {now + timedelta(minutes=5):%Y%m%dT%H%M%SZ}"
    assert request.message(now.timestamp()) == f"{text} ({now:%Y%m%dT%H%M%SZ} + 5 min.)"


def test_a_date_header_will_do() -> None:
    now = datetime.now(UTC)
    request = Signed(headers={"Date": format_datetime(now, usegmt=True)})
    assert "x-amz-date" not in request.headers
    request.prove()
    request.headers["date"] = format_datetime(now + timedelta(seconds=1), usegmt=True)
    assert request.failure() is AuthFailure.MISMATCH


@pytest.mark.parametrize(
    "stamp", ["", "now", "20261321T000000Z", "2026-11-21T00:00:00Z", "20261121T000000Z, 1", "٢" * 8]
)
def test_a_date_that_is_none_is_refused(stamp: str) -> None:
    request = Signed()
    request.headers["x-amz-date"] = stamp
    assert request.failure() is AuthFailure.INCOMPLETE
    request.headers["date"] = request.headers.pop("x-amz-date")
    assert request.failure() is AuthFailure.INCOMPLETE


def test_without_a_date_it_is_refused() -> None:
    request = Signed()
    del request.headers["x-amz-date"]
    assert "either a 'X-Amz-Date' or a 'Date' header" in request.message()


# --- who, and how -----------------------------------------------------------------------------------------------------


def test_a_wrong_secret_gets_the_sentence_of_aws() -> None:
    request = Signed(secret="wrong")
    assert request.failure() is AuthFailure.MISMATCH
    assert request.message() == (
        "The request signature we calculated does not match the signature you provided. Check your AWS Secret "
        "Access Key and signing method. Consult the service documentation for details."
    )


def test_an_unknown_key_gets_the_sentence_of_aws() -> None:
    request = Signed(access_key="NOBODY", secret="x")
    assert request.failure() is AuthFailure.UNKNOWN_KEY
    assert request.message() == "The security token included in the request is invalid."


def test_nothing_is_known_by_its_look_alone() -> None:
    """What was proven once is remembered by the header's beginning: another signature behind it is still wrong."""
    verifier, request = Verifier(KEYS), Signed()
    request.prove(verifier)
    request.headers["authorization"] = request.headers["authorization"][:-64] + "0" * 64
    assert request.failure(verifier) is AuthFailure.MISMATCH
    other = Signed()
    other.service = "sts"
    assert other.failure(verifier) is AuthFailure.MISMATCH


def test_a_forged_request_replaces_no_good_one_in_the_cache() -> None:
    verifier, request = Verifier(KEYS), Signed(headers={"accept": "a"})
    request.prove(verifier)
    [grant] = verifier.cached_credentials.values()
    asked = grant.signed_parts
    forged = Signed()
    forged.headers = {**request.headers, "accept": "b" * 10_000}
    assert forged.failure(verifier) is AuthFailure.MISMATCH
    assert grant.signed_parts is asked
    assert [*verifier.cached_credentials.values()] == [grant]


@given(
    tail=some.text(some.sampled_from(" \t,=aAf0;/xX\xa0\xaa"), max_size=3) | some.just(", Foo=Signature=abc"),
    cut=some.integers(0, 66),
    other=some.booleans(),
    service=some.sampled_from(["sagemaker", "sts", "s3"]),
    later=some.sampled_from([0, 299, 301, 86_400, -301]),
)
def test_what_is_remembered_changes_no_verdict(tail: str, cut: int, other: bool, service: str, later: int) -> None:
    now = time.time()
    warm = Verifier(KEYS)
    Signed().prove(warm, now)
    changed = Signed(access_key="AKIDOTHER" if other else "AKIDEXAMPLE")
    authorization = changed.headers["authorization"]
    changed.headers["authorization"] = authorization[: len(authorization) - cut] + tail
    changed.service = service

    def verdict(verifier: Verifier) -> tuple[AuthFailure, str] | None:
        try:
            return changed.prove(verifier, now + later)
        except NotAuthenticated as unproven:
            return unproven.kind, unproven.message

    assert verdict(warm) == verdict(Verifier(KEYS))


def test_a_stranger_fills_no_memory() -> None:
    verifier = Verifier(KEYS)
    for n in range(50):
        assert Signed(region=f"r{n}", secret="wrong").failure(verifier) is AuthFailure.MISMATCH
    assert not verifier.cached_credentials
    assert not verifier.signing_keys
    for n in range(1500):
        Signed(region=f"r{n}").prove(verifier)
    assert max(len(verifier.cached_credentials), len(verifier.signing_keys)) <= 1024


HEADERS: list[tuple[str | None, AuthFailure]] = [
    (None, AuthFailure.MISSING),
    ("", AuthFailure.INCOMPLETE),
    ("Basic dTpw", AuthFailure.INCOMPLETE),
    ("Bearer x", AuthFailure.INCOMPLETE),
    ("AWS AKIDEXAMPLE:abc=", AuthFailure.OUTDATED),
    (ALGORITHM, AuthFailure.INCOMPLETE),
    (f"{ALGORITHM} ", AuthFailure.INCOMPLETE),
    (f"{ALGORITHM} Credential", AuthFailure.INCOMPLETE),
    (f"{ALGORITHM} Credential=AKIDEXAMPLE/20261121/r/sagemaker/aws4_request", AuthFailure.INCOMPLETE),
    (f"{ALGORITHM} Credential=a/b, SignedHeaders=host, Signature=0", AuthFailure.INCOMPLETE),
    (f"{ALGORITHM} Credential=a/b/c/d/e, Credential=a, SignedHeaders=host, Signature=0", AuthFailure.INCOMPLETE),
    ("AWS4-HMAC-SHA512 Credential=a/b/c/d/e, SignedHeaders=host, Signature=0", AuthFailure.INCOMPLETE),
    (f"{ALGORITHM} Credential=/////, SignedHeaders=host, Signature=0", AuthFailure.UNKNOWN_KEY),
]


@pytest.mark.parametrize(("authorization", "failure"), HEADERS)
def test_a_missing_or_malformed_header_is_refused(authorization: str | None, failure: AuthFailure) -> None:
    request = Signed()
    del request.headers["authorization"]
    if authorization is not None:
        request.headers["authorization"] = authorization
    assert request.failure() is failure


def test_an_error_names_the_parts_that_a_header_lacks() -> None:
    request = Signed()
    request.headers["authorization"] = "Basic dTpw"
    assert request.message() == (
        "Authorization header requires 'Credential' parameter. Authorization header requires 'Signature' parameter. "
        "Authorization header requires 'SignedHeaders' parameter."
    )


@pytest.mark.parametrize(
    ("old", "new"),
    [
        ("Signature=", "Signature=é"),
        ("Signature=", "Signature=+"),
        ("AKIDEXAMPLE", "AKIDOTHER"),
        ("eu-west-1", "us-east-1"),
        ("/sagemaker/", "/s3/"),
        ("aws4_request", "aws5_request"),
        ("host;", ""),
        ("host;", "host;host;"),
        ("SignedHeaders=", "SignedHeaders=not-there;"),
        ("SignedHeaders=", "SignedHeaders=;"),
        (f";{TARGET}", ""),
        (";x-amz-security-token", ""),
        ("x-amz-date;x-amz-security-token", "x-amz-security-token;x-amz-date"),
        (datetime.now(UTC).strftime("/%Y"), "/2020"),
    ],
)
def test_whatever_is_changed_in_the_header_is_not_proven(old: str, new: str) -> None:
    request = Signed(headers={TARGET: "a.tar.gz", "Accept": "*/*"}, token="a token")
    request.prove()
    assert request.authorize(old, new).failure() is AuthFailure.MISMATCH


@pytest.mark.parametrize("separator", [",", ",  ", " , "])
def test_the_headers_parts_may_stand_apart_otherwise_and_in_another_order(separator: str) -> None:
    request = Signed().authorize(", ", separator)
    request.prove()
    first, second, third = request.headers["authorization"].removeprefix(f"{ALGORITHM} ").split(separator)
    verifier = Verifier(KEYS)
    for _ in range(2):
        request.headers["authorization"] = f"{ALGORITHM} {separator.join([third, second, first])}"
        request.prove(verifier)
    request.authorize("Signature=", "Signature=0")
    assert request.failure(verifier) is AuthFailure.MISMATCH


@pytest.mark.parametrize("name", ["x-amz-target", "x-amz-security-token", "x-amz-meta-a"])
def test_headers_of_amazons_must_be_signed(name: str) -> None:
    request = Signed()
    request.headers[name] = "slipped in"
    assert request.failure() is AuthFailure.MISMATCH


@pytest.mark.parametrize("name", ["user-agent", "amz-sdk-request", "x-amzn-trace-id", "x-forwarded-for"])
def test_other_headers_need_not(name: str) -> None:
    request = Signed()
    request.headers[name] = "of the way"
    request.prove()


def test_another_hosts_request_is_not_for_us() -> None:
    for host in ("127.0.0.1", "127.0.0.1:80", "localhost:4566"):  # the port is signed, too
        request = Signed()
        request.headers["host"] = host
        assert request.failure() is AuthFailure.MISMATCH


def test_temporary_credentials_pass_with_their_token() -> None:
    request = Signed(token="AQoDYXdzEPT//////////wEXAMPLE")
    request.prove()
    request.headers["x-amz-security-token"] = "another"
    assert request.failure() is AuthFailure.MISMATCH
