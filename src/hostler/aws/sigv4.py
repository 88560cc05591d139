"""Is a request signed by an access key that we know, and is it still what was signed? Signature Version 4 (§1.2).

It is handed the time, and gives a verdict; it knows neither connections nor how a refusal is written down. The
sentences are AWS's as people have quoted them of services with the same signatures. Of SageMaker itself UNKNOWN_KEY's,
MISSING's and the one about the service's name have been seen; for it the others are unverified. Those about names that
came twice, headers that must be signed, and what a presigned address lacks are ours.

A verdict takes two steps, because the head of a request is here before its body: `read`, then `prove`.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from contextlib import suppress
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from enum import Enum, auto
from functools import lru_cache
from hashlib import sha256
from hmac import compare_digest, digest
from operator import itemgetter
from typing import TYPE_CHECKING, Any
from urllib.parse import quote, unquote, unquote_to_bytes

import msgspec

from hostler.errors import HostlerError
from hostler.text import quoted

if TYPE_CHECKING:
    from hashlib import _Hash as HASH

ALGORITHM = "AWS4-HMAC-SHA256"
_END = "aws4_request"
_REMEMBERED = 1024
_WINDOWS = {"s3": 15, "sts": 15}  # minutes that a request's clock may be off, either way; 5 for the others
_LONGEST = 7 * 86_400  # seconds that a presigned address may be good for
_PLAIN = re.compile(r"[A-Za-z0-9/._~-]*").fullmatch  # a path that encoding does not change
_BLANKS = re.compile(r"[ \t]+")
_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII).fullmatch


class AuthFailure(Enum):
    MISSING = auto()  # nothing says who sent it
    OUTDATED = auto()  # signed by an older version, which only S3 ever took
    INCOMPLETE = auto()  # what says it cannot be read
    UNKNOWN_KEY = auto()
    MISMATCH = auto()
    SKEWED = auto()
    EXPIRED = auto()  # a presigned address


class NotAuthenticated(HostlerError):
    """Who sent this request is not shown. The message is the JSON APIs'; it holds nothing that the caller lacks."""

    def __init__(self, kind: AuthFailure, message: str) -> None:
        super().__init__(message)
        self.kind = kind
        self.message = message


class SigningKey:
    """The key of one secret, day, region and service, ready for use: HMAC with its two pads hashed beforehand."""

    def __init__(self, secret: str, *scope: str) -> None:
        key = b"AWS4" + secret.encode()
        for part in (*scope, _END):
            key = digest(key, part.encode("latin-1"), "sha256")
        padded = key.ljust(64, b"\0")
        self._inner = sha256(bytes(byte ^ 0x36 for byte in padded))
        self._outer = sha256(bytes(byte ^ 0x5C for byte in padded))

    def begin(self, text: str) -> HASH:
        """The hash in which the signature of a text that begins so begins."""
        begun = self._inner.copy()
        begun.update(text.encode("latin-1"))
        return begun

    def sign(self, begun: HASH, rest: str) -> str:
        """The signature in hex of what has begun and ends with `rest`."""
        inner, outer = begun.copy(), self._outer.copy()
        inner.update(rest.encode("latin-1"))
        outer.update(inner.digest())
        return outer.hexdigest()


class _CachedCredential:
    """All of an Authorization header but the signature: the same for many requests of a caller.

    What it remembers of a request only spares work: whether the next one is the same in that is looked at each time,
    and each one's payload and signature are its own.
    """

    known = False  # a signature of it was right
    stamp = ""  # of its last request whose time was good, ...
    since = until = 0.0  # when that is, epoch seconds
    begun: HASH  # the hash of what it signs up to and with its scope
    asked: tuple[Any, ...] = ()  # of its last good request: method, path, query, signed headers' values, and ...
    canonical: HASH  # the hash of what follows from that

    def __init__(self, credential: tuple[str, str, str, str], signed: str, key: SigningKey) -> None:
        self.credential = credential  # access key, day, region, service
        self.day, self.service = credential[1], credential[3]
        self.scope = f"{'/'.join(credential[1:])}/{_END}"
        self.signed = signed  # the names of the signed headers, as they stand in the request
        self.names = frozenset(signed.split(";"))
        self.admitted: tuple[str, ...] = ()  # the headers' names of its last request of which none lacked a signature
        self.values: Any = itemgetter(*signed.split(";"))
        self.lines = "".join(f"{name}:%s\n" for name in signed.replace("%", "%%").split(";"))
        self.key = key

    def begin(self, stamp: str) -> HASH:
        return self.key.begin(f"{ALGORITHM}\n{stamp}\n{self.scope}\n")


class ParsedSignature(msgspec.Struct):
    """A request that says who sent it, and what it would have signed, save the payload's hash."""

    grant: _CachedCredential
    begun: HASH  # of what is signed: all before the canonical request's hash
    asked: tuple[Any, ...]
    canonical: HASH  # of the canonical request up to its last line
    signature: str
    front: str  # of the Authorization header, up to the signature; empty if it does not end with that


class Verifier:
    """What is proven by whom. `keys`: access key -> secret key.

    What is computed for a caller is remembered when the signature was right, so strangers fill no memory.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = keys
        self.grants: dict[str, _CachedCredential] = {}
        self.signing_keys: dict[tuple[str, str, str, str], SigningKey] = {}

    def read(
        self, method: str, path: str, query: str, headers: Mapping[str, str], service: str, now: float
    ) -> ParsedSignature:
        """The claim in a request's head. `path`, `query` and `headers` as they came, latin-1; `now`: epoch seconds.

        Raises Unproven for what no payload can make right. A header that came twice must not be signed: it is read
        joined by a comma and a blank, and AWS joins without the blank.
        """
        authorization = headers.get("authorization")
        if authorization is None:
            if service == "s3" and "X-Amz-Signature=" in query:
                return self._presigned(method, path, query, headers, now)
            outdated = service == "s3" and "AWSAccessKeyId=" in query
            raise NotAuthenticated(
                AuthFailure.OUTDATED if outdated else AuthFailure.MISSING, "Missing Authentication Token"
            )
        front, _, signature = authorization.rpartition("Signature=")
        # what is no word may end otherwise than it seems: only reading all of it tells
        grant = self.grants.get(front) if signature.isalnum() else None
        if grant is None:
            credential, signed, given = _parts(authorization)
            grant = self._grant(credential, signed, service)
            if given != signature:
                front, signature = "", given
        elif grant.service != service:
            raise _wrong_service(service)
        stamp = headers.get("x-amz-date") or _dated(headers.get("date"))
        if stamp != grant.stamp or not grant.since <= now <= grant.until:
            window = _window(stamp, service, now)
            if stamp[:8] != grant.day:
                raise _mismatch(
                    "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                    f"'{quoted(grant.day)}' != '{stamp[:8]}', from '{stamp}'."
                )
            grant.stamp, grant.begun, (grant.since, grant.until) = stamp, grant.begin(stamp), window
        asked, canonical = _canonical(grant, method, path, query, headers)
        return ParsedSignature(grant, grant.begun, asked, canonical, signature, front)

    def prove(self, claim: ParsedSignature, payload: str) -> None:
        """Raise Unproven unless this claim's request with this payload hash (hex, or what stands for it) was signed."""
        grant, signature, front = claim.grant, claim.signature, claim.front
        canonical = claim.canonical.copy()
        canonical.update(payload.encode("latin-1"))
        expected = grant.key.sign(claim.begun, canonical.hexdigest())
        if not (signature.isascii() and compare_digest(expected, signature)):
            raise _mismatch()
        grant.asked, grant.canonical = claim.asked, claim.canonical
        if not grant.known:
            grant.known = True
            if front:
                _remember(self.grants, front, grant)
            if grant.credential not in self.signing_keys:
                _remember(self.signing_keys, grant.credential, grant.key)

    def _presigned(self, method: str, path: str, query: str, headers: Mapping[str, str], now: float) -> ParsedSignature:
        """The claim in an S3 address that was signed for others to use."""
        pairs = [pair.partition("=") for pair in query.split("&")]
        found = {unquote(name, "latin-1"): unquote(value, "latin-1") for name, _, value in pairs}
        if len(found) != len(pairs) or found.get("X-Amz-Algorithm") != ALGORITHM:
            raise NotAuthenticated(
                AuthFailure.INCOMPLETE, f"The address must name X-Amz-Algorithm={ALGORITHM}, and nothing twice."
            )
        try:
            grant = self._grant(found["X-Amz-Credential"], found["X-Amz-SignedHeaders"], "s3")
            stamp, lasts = found["X-Amz-Date"], found["X-Amz-Expires"]
        except KeyError as missing:
            raise NotAuthenticated(AuthFailure.INCOMPLETE, f"The address has no {missing.args[0]}.") from None
        if not (lasts.isascii() and lasts.isdigit() and len(lasts) < 8 and int(lasts) <= _LONGEST):
            raise NotAuthenticated(
                AuthFailure.INCOMPLETE, f"X-Amz-Expires must be a number of seconds, at most {_LONGEST}."
            )
        since = _epoch(stamp)
        if stamp[:8] != grant.day or now < since - 60 * _WINDOWS["s3"] or now > since + int(lasts):
            raise NotAuthenticated(AuthFailure.EXPIRED, "Request has expired")
        signed = "&".join(f"{name}={value}" for name, _, value in pairs if name != "X-Amz-Signature")
        asked, canonical = _canonical(grant, method, path, signed, headers)
        return ParsedSignature(grant, grant.begin(stamp), asked, canonical, found["X-Amz-Signature"], "")

    def _grant(self, credential: str, signed: str, service: str) -> _CachedCredential:
        parts = credential.rsplit("/", 4)
        if len(parts) != 5:
            raise NotAuthenticated(
                AuthFailure.INCOMPLETE,
                "Credential must have exactly 5 slash-delimited elements, e.g. keyid/date/region/service/term, "
                f"got '{quoted(credential)}'.",
            )
        access_key, day, region, named, end = parts
        secret = self._keys.get(access_key)
        if secret is None:
            raise NotAuthenticated(AuthFailure.UNKNOWN_KEY, "The security token included in the request is invalid.")
        if named != service:
            raise _wrong_service(service)
        if end != _END:
            raise _mismatch(f"Credential should be scoped with a valid terminator: '{_END}', not '{quoted(end)}'.")
        if "host" not in signed.split(";"):
            raise _mismatch("'Host' must be a 'SignedHeader' in the AWS Authorization.")
        whole = (access_key, day, region, named)
        key = self.signing_keys.get(whole) or SigningKey(secret, day, region, named)
        return _CachedCredential(whole, signed, key)


# --- what was signed --------------------------------------------------------------------------------------------------


def _canonical(
    grant: _CachedCredential, method: str, path: str, query: str, headers: Mapping[str, str]
) -> tuple[tuple[Any, ...], HASH]:
    """What the canonical request is made of, and its hash without its last line, the payload's hash."""
    names = tuple(headers)
    for name in names if names != grant.admitted else ():
        if name.startswith("x-amz-") and name not in grant.names:
            raise _mismatch(
                f"The header '{quoted(name)}' must be signed, as every header whose name begins with x-amz-."
            )
    grant.admitted = names
    try:
        values = grant.values(headers)
    except KeyError:
        raise _mismatch() from None
    asked = method, path, query, values
    if asked == grant.asked:
        return asked, grant.canonical
    lines: str = grant.lines % values
    if "  " in lines or "\t" in lines or " \n" in lines:
        lines = _BLANKS.sub(" ", lines).replace(" \n", "\n")
    if not _PLAIN(path):
        path = _key(path) if grant.service == "s3" else quote(path, safe="/~", encoding="latin-1")
    text = f"{method}\n{path}\n{query and _query(query)}\n{lines}\n{grant.signed}\n"
    return asked, sha256(text.encode("latin-1"))


def _key(path: str) -> str:
    """S3's paths are encoded once, however the client spelt them; only %2F stays what it is."""
    return "/".join(_encoded(part) for part in path.split("/"))


def _query(query: str) -> str:
    """Sorted, and encoded in the one way."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in sorted((_encoded(n), _encoded(v)) for n, _, v in pairs))


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text.encode("latin-1")), safe="~")


# --- the Authorization header, and the time ---------------------------------------------------------------------------


def _parts(authorization: str) -> tuple[str, str, str]:
    """Its Credential, SignedHeaders and Signature."""
    algorithm, _, rest = authorization.strip().partition(" ")
    if algorithm == "AWS":
        raise NotAuthenticated(AuthFailure.OUTDATED, "Missing Authentication Token")
    found: dict[str, str] = {}
    for part in rest.split(",") if algorithm == ALGORITHM else ():
        name, equals, value = part.strip().partition("=")
        if not equals or name in found:
            wrong = "is there twice" if equals else "not a valid key=value pair (missing equal-sign)"
            raise NotAuthenticated(AuthFailure.INCOMPLETE, f"'{quoted(name)}' {wrong} in Authorization header.")
        found[name] = value
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not found.get(name)]
    if missing:
        sentences = (f"Authorization header requires '{name}' parameter." for name in missing)
        raise NotAuthenticated(AuthFailure.INCOMPLETE, " ".join(sentences))
    return found["Credential"], found["SignedHeaders"], found["Signature"]


def _dated(date: str | None) -> str:
    """The time stamp of a request that has a Date header only."""
    if date is None:
        text = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        raise NotAuthenticated(AuthFailure.INCOMPLETE, text)
    if _STAMP(date):
        return date
    try:
        when = parsedate_to_datetime(date)
        return _stamp((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise _undated(date) from None


def _window(stamp: str, service: str, now: float) -> tuple[float, float]:
    """A request is good for some minutes; within them it may come again, as with AWS. From when and until when."""
    minutes = _WINDOWS.get(service, 5)
    signed = _epoch(stamp)
    late = now - signed
    if late > 60 * minutes:
        bound = f"{_stamp(now - 60 * minutes)} ({_stamp(now)} - {minutes} min.)"
        raise NotAuthenticated(AuthFailure.SKEWED, f"Signature expired: {stamp} is now earlier than {bound}")
    if -late > 60 * minutes:
        bound = f"{_stamp(now + 60 * minutes)} ({_stamp(now)} + {minutes} min.)"
        raise NotAuthenticated(AuthFailure.SKEWED, f"Signature not yet current: {stamp} is still later than {bound}")
    return signed - 60 * minutes, signed + 60 * minutes


@lru_cache(_REMEMBERED)
def _epoch(stamp: str) -> float:
    """Epoch seconds. Raises Unproven."""
    if match := _STAMP(stamp):
        year, month, day, hour, minute, second = map(int, match.groups())
        with suppress(ValueError):
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    raise _undated(stamp)


def _stamp(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%dT%H%M%SZ")


# --- small things -----------------------------------------------------------------------------------------------------


def _undated(text: str) -> NotAuthenticated:
    return NotAuthenticated(AuthFailure.INCOMPLETE, f"Date must be in ISO-8601 'basic format'. Got '{quoted(text)}'.")


def _wrong_service(service: str) -> NotAuthenticated:
    return _mismatch(f"Credential should be scoped to correct service: '{service}'.")


def _mismatch(
    message: str = "The request signature we calculated does not match the signature you provided. Check your AWS "
    "Secret Access Key and signing method. Consult the service documentation for details.",
) -> NotAuthenticated:
    return NotAuthenticated(AuthFailure.MISMATCH, message)


def _remember(memory: dict[Any, Any], name: Any, value: Any) -> None:
    if len(memory) >= _REMEMBERED:
        memory.clear()
    memory[name] = value
