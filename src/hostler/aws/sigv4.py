"""Verify that a request was signed with a known access key and not changed since. Signature Version 4 (§1.2).

It gets the time as a parameter; it knows neither connections nor how an API renders a refusal. The sentences are AWS's
as people have quoted them of services with the same signatures. Of SageMaker itself, those for UNKNOWN_KEY and MISSING
and the one about the service's name have been seen; the others are unverified for it. Those about names that came
twice, headers that must be signed, and parameters that a presigned address lacks are ours.

Verification takes two steps, because the head of a request is here before its body: `read`, then `prove`.
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
_LONGEST = 7 * 86_400  # seconds that a presigned address may be valid
_PLAIN = re.compile(r"[A-Za-z0-9/._~-]*").fullmatch  # a path that encoding does not change
_BLANKS = re.compile(r"[ \t]+")
_STAMP = re.compile(r"(\d{4})(\d\d)(\d\d)T(\d\d)(\d\d)(\d\d)Z", re.ASCII).fullmatch


class AuthFailure(Enum):
    MISSING = auto()  # there is no signature
    OUTDATED = auto()  # a signature of an older version, which only S3 ever accepted
    INCOMPLETE = auto()  # the signature's parameters cannot be read
    UNKNOWN_KEY = auto()
    MISMATCH = auto()
    SKEWED = auto()
    EXPIRED = auto()  # a presigned address


class NotAuthenticated(HostlerError):
    """The request's signature does not prove its sender. The message is the JSON APIs'; it holds no secret."""

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
        """Return the inner hash of a text to sign, begun with its first part."""
        inner = self._inner.copy()
        inner.update(text.encode("latin-1"))
        return inner

    def sign(self, begun: HASH, ending: str) -> str:
        """Return the signature, in hex, of a text that was begun and ends with `ending`."""
        inner, outer = begun.copy(), self._outer.copy()
        inner.update(ending.encode("latin-1"))
        outer.update(inner.digest())
        return outer.hexdigest()


class _CachedCredential:
    """An Authorization header without the signature: the same for many requests of a caller.

    The values that it keeps of the last request only save work: each request is compared with them, and each one's
    payload and signature are its own.
    """

    proven = False  # a signature with it was right
    stamp = ""  # the time stamp of the last request whose time was valid, ...
    since = until = 0.0  # ... and when it is valid, epoch seconds
    begun: HASH  # the inner hash of the text to sign, up to and with the scope
    signed_parts: tuple[Any, ...] = ()  # of the last good request: method, path, query, values of signed headers
    canonical: HASH  # the hash of the canonical request made of them, without its last line

    def __init__(self, credential: tuple[str, str, str, str], signed: str, key: SigningKey) -> None:
        self.credential = credential  # access key, day, region, service
        self.day, self.service = credential[1], credential[3]
        self.scope = f"{'/'.join(credential[1:])}/{_END}"
        self.signed = signed  # the names of the signed headers, as they stand in the request
        self.names = frozenset(signed.split(";"))
        self.checked_names: tuple[str, ...] = ()  # names of the last headers of which none lacked a signature
        self.values: Any = itemgetter(*signed.split(";"))
        self.lines = "".join(f"{name}:%s\n" for name in signed.replace("%", "%%").split(";"))
        self.key = key

    def begin(self, stamp: str) -> HASH:
        return self.key.begin(f"{ALGORITHM}\n{stamp}\n{self.scope}\n")


class ParsedSignature(msgspec.Struct):
    """The signature of a request and the text that it must cover, except the payload's hash."""

    cached: _CachedCredential
    begun: HASH  # of the text to sign: all before the canonical request's hash
    signed_parts: tuple[Any, ...]
    canonical: HASH  # of the canonical request up to its last line
    signature: str
    prefix: str  # of the Authorization header, up to the signature; empty if it does not end with that


class Verifier:
    """Verifies signatures. `keys`: access key -> secret key.

    Values computed for a caller are cached only when a signature was right, so strangers fill no memory.
    """

    def __init__(self, keys: Mapping[str, str]) -> None:
        self._keys = keys
        self.cached_credentials: dict[str, _CachedCredential] = {}
        self.signing_keys: dict[tuple[str, str, str, str], SigningKey] = {}

    def read(
        self, method: str, path: str, query: str, headers: Mapping[str, str], service: str, now: float
    ) -> ParsedSignature:
        """Parse the signature in a request's head. `path`, `query` and `headers` as they came, latin-1; `now`: epoch
        seconds.

        Raises NotAuthenticated for a head that no payload can make right. A header that came twice must not be signed:
        it is read joined by a comma and a blank, and AWS joins without the blank.
        """
        # 1. The Authorization header, or the parameters of a presigned address.
        authorization = headers.get("authorization")
        if authorization is None:
            if "X-Amz-Signature=" in query:
                return self._presigned(method, path, query, headers, service, now)
            outdated = service == "s3" and "AWSAccessKeyId=" in query
            raise NotAuthenticated(
                AuthFailure.OUTDATED if outdated else AuthFailure.MISSING, "Missing Authentication Token"
            )
        # 2. The credential, cached or parsed. After a signature that is no plain word the header may go on.
        prefix, _, signature = authorization.rpartition("Signature=")
        cached = self.cached_credentials.get(prefix) if signature.isalnum() else None
        if cached is None:
            credential, signed, given = _parse(authorization)
            cached = self._credential(credential, signed, service)
            if given != signature:
                prefix, signature = "", given
        elif cached.service != service:
            raise _wrong_service(service)
        # 3. The time.
        stamp = headers.get("x-amz-date") or _stamp_of_date(headers.get("date"))
        if stamp != cached.stamp or not cached.since <= now <= cached.until:
            window = _window(stamp, service, now)
            if stamp[:8] != cached.day:
                raise _mismatch(
                    "Date in Credential scope does not match YYYYMMDD from ISO-8601 version of date from HTTP: "
                    f"'{quoted(cached.day)}' != '{stamp[:8]}', from '{stamp}'."
                )
            cached.stamp, cached.begun, (cached.since, cached.until) = stamp, cached.begin(stamp), window
        # 4. The canonical request.
        signed_parts, canonical = _canonical(cached, method, path, query, headers)
        return ParsedSignature(cached, cached.begun, signed_parts, canonical, signature, prefix)

    def prove(self, parsed: ParsedSignature, payload: str) -> None:
        """Raise NotAuthenticated unless the request with this payload hash (hex, or the words for none) was signed."""
        cached, signature, prefix = parsed.cached, parsed.signature, parsed.prefix
        canonical = parsed.canonical.copy()
        canonical.update(payload.encode("latin-1"))
        expected = cached.key.sign(parsed.begun, canonical.hexdigest())
        if not (signature.isascii() and compare_digest(expected, signature)):
            raise _mismatch()
        cached.signed_parts, cached.canonical = parsed.signed_parts, parsed.canonical
        if not cached.proven:
            cached.proven = True
            if prefix:
                _remember(self.cached_credentials, prefix, cached)
            if cached.credential not in self.signing_keys:
                _remember(self.signing_keys, cached.credential, cached.key)

    def _presigned(
        self, method: str, path: str, query: str, headers: Mapping[str, str], service: str, now: float
    ) -> ParsedSignature:
        """Parse the signature in a presigned address."""
        pairs = [pair.partition("=") for pair in query.split("&")]
        parameters = {unquote(name, "latin-1"): unquote(value, "latin-1") for name, _, value in pairs}
        if len(parameters) != len(pairs) or parameters.get("X-Amz-Algorithm") != ALGORITHM:
            raise NotAuthenticated(
                AuthFailure.INCOMPLETE, f"The address must name X-Amz-Algorithm={ALGORITHM}, and nothing twice."
            )
        try:
            cached = self._credential(parameters["X-Amz-Credential"], parameters["X-Amz-SignedHeaders"], service)
            stamp, lifetime = parameters["X-Amz-Date"], parameters["X-Amz-Expires"]
        except KeyError as missing:
            raise NotAuthenticated(AuthFailure.INCOMPLETE, f"The address has no {missing.args[0]}.") from None
        if not (lifetime.isascii() and lifetime.isdigit() and len(lifetime) < 8 and int(lifetime) <= _LONGEST):
            raise NotAuthenticated(
                AuthFailure.INCOMPLETE, f"X-Amz-Expires must be a number of seconds, at most {_LONGEST}."
            )
        since = _epoch(stamp)
        if stamp[:8] != cached.day or now < since - 60 * _WINDOWS.get(service, 5) or now > since + int(lifetime):
            raise NotAuthenticated(AuthFailure.EXPIRED, "Request has expired")
        signed = "&".join(f"{name}={value}" for name, _, value in pairs if name != "X-Amz-Signature")
        signed_parts, canonical = _canonical(cached, method, path, signed, headers)
        return ParsedSignature(cached, cached.begin(stamp), signed_parts, canonical, parameters["X-Amz-Signature"], "")

    def _credential(self, credential: str, signed: str, service: str) -> _CachedCredential:
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
        scope = (access_key, day, region, named)
        key = self.signing_keys.get(scope) or SigningKey(secret, day, region, named)
        return _CachedCredential(scope, signed, key)


# --- the canonical request --------------------------------------------------------------------------------------------


def _canonical(
    cached: _CachedCredential, method: str, path: str, query: str, headers: Mapping[str, str]
) -> tuple[tuple[Any, ...], HASH]:
    """Return the parts of the canonical request, and its hash without its last line, the payload's hash."""
    names = tuple(headers)
    for name in names if names != cached.checked_names else ():
        if name.startswith("x-amz-") and name not in cached.names:
            raise _mismatch(
                f"The header '{quoted(name)}' must be signed, as every header whose name begins with x-amz-."
            )
    cached.checked_names = names
    try:
        values = cached.values(headers)
    except KeyError:
        raise _mismatch() from None
    signed_parts = method, path, query, values
    if signed_parts == cached.signed_parts:
        return signed_parts, cached.canonical
    lines: str = cached.lines % values
    if "  " in lines or "\t" in lines or " \n" in lines:
        lines = _BLANKS.sub(" ", lines).replace(" \n", "\n")
    if not _PLAIN(path):
        path = _s3_path(path) if cached.service == "s3" else quote(path, safe="/~", encoding="latin-1")
    text = f"{method}\n{path}\n{query and _canonical_query(query)}\n{lines}\n{cached.signed}\n"
    return signed_parts, sha256(text.encode("latin-1"))


def _s3_path(path: str) -> str:
    """Encode an S3 path once, however the client spelt it; %2F stays %2F."""
    return "/".join(_encoded(part) for part in path.split("/"))


def _canonical_query(query: str) -> str:
    """Sort a query's parameters, and encode them in the canonical way."""
    pairs = (pair.partition("=") for pair in query.split("&"))
    return "&".join(f"{name}={value}" for name, value in sorted((_encoded(n), _encoded(v)) for n, _, v in pairs))


def _encoded(text: str) -> str:
    return quote(unquote_to_bytes(text.encode("latin-1")), safe="~")


# --- the Authorization header, and the time ---------------------------------------------------------------------------


def _parse(authorization: str) -> tuple[str, str, str]:
    """Return the Credential, SignedHeaders and Signature of an Authorization header. Raises NotAuthenticated."""
    algorithm, _, fields = authorization.strip().partition(" ")
    if algorithm == "AWS":
        raise NotAuthenticated(AuthFailure.OUTDATED, "Missing Authentication Token")
    parameters: dict[str, str] = {}
    for part in fields.split(",") if algorithm == ALGORITHM else ():
        name, equals, value = part.strip().partition("=")
        if not equals or name in parameters:
            problem = "is there twice" if equals else "not a valid key=value pair (missing equal-sign)"
            raise NotAuthenticated(AuthFailure.INCOMPLETE, f"'{quoted(name)}' {problem} in Authorization header.")
        parameters[name] = value
    missing = [name for name in ("Credential", "Signature", "SignedHeaders") if not parameters.get(name)]
    if missing:
        sentences = (f"Authorization header requires '{name}' parameter." for name in missing)
        raise NotAuthenticated(AuthFailure.INCOMPLETE, " ".join(sentences))
    return parameters["Credential"], parameters["SignedHeaders"], parameters["Signature"]


def _stamp_of_date(date: str | None) -> str:
    """Return the time stamp of a request that has a Date header only. Raises NotAuthenticated."""
    if date is None:
        text = "Authorization header requires existence of either a 'X-Amz-Date' or a 'Date' header."
        raise NotAuthenticated(AuthFailure.INCOMPLETE, text)
    if _STAMP(date):
        return date
    try:
        when = parsedate_to_datetime(date)
        return _stamp((when if when.tzinfo else when.replace(tzinfo=UTC)).timestamp())
    except (ValueError, OverflowError):
        raise _bad_date(date) from None


def _window(stamp: str, service: str, now: float) -> tuple[float, float]:
    """Return since when and until when a request is valid: some minutes, in which it may be repeated, as with AWS."""
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
    """Return a time stamp as epoch seconds. Raises NotAuthenticated."""
    if match := _STAMP(stamp):
        year, month, day, hour, minute, second = map(int, match.groups())
        with suppress(ValueError):
            return datetime(year, month, day, hour, minute, second, tzinfo=UTC).timestamp()
    raise _bad_date(stamp)


def _stamp(epoch: float) -> str:
    return datetime.fromtimestamp(epoch, UTC).strftime("%Y%m%dT%H%M%SZ")


# --- small things -----------------------------------------------------------------------------------------------------


def _bad_date(text: str) -> NotAuthenticated:
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
