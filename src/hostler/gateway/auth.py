"""The gate before the front door, with the setting `signatures = verify`: nobody passes without a good signature.

It knows which API a request speaks, as `front` and control tell them apart, because each words its refusals in its own
way; what a signature is, it leaves to `signature`. Without that setting there is no gate at all.

The JSON APIs and STS sign their body's hash, so a body that is still arriving is gathered, up to their limit, before
anything of it goes on. S3's requests name the hash in a header that is signed, and so pass as they come: control
compares it with what it receives.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from time import time
from xml.sax.saxutils import escape

import msgspec

from hostler.aws.sigv4 import AuthFailure, NotAuthenticated, ParsedSignature, Verifier
from hostler.contract import MAX_BODY
from hostler.gateway import errors
from hostler.gateway.dispatch import invoked
from hostler.gateway.invoke.invoker import Invoker
from hostler.wire.http_request import Headers, Request

Refuse = Callable[[Request, NotAuthenticated], None]

_OPEN = frozenset(["/_hostler/health", "/_hostler/ready", "/_localstack/health"])  # no more than whether it is there
_PAYLOAD = "x-amz-content-sha256"

# Flaw -> the JSON APIs' exception; STS's code and status; S3's code, status and sentence (empty: the JSON APIs').
# Of the statuses, the JSON control plane's 400 and the runtime's 403 have been seen for these exceptions.
_JSON = {
    AuthFailure.MISSING: "MissingAuthenticationTokenException",
    AuthFailure.OUTDATED: "MissingAuthenticationTokenException",  # unverified
    AuthFailure.INCOMPLETE: "IncompleteSignatureException",
    AuthFailure.UNKNOWN_KEY: "UnrecognizedClientException",
    AuthFailure.MISMATCH: "InvalidSignatureException",
    AuthFailure.SKEWED: "InvalidSignatureException",
}
_STS = {
    AuthFailure.MISSING: ("MissingAuthenticationToken", 403),
    AuthFailure.OUTDATED: ("MissingAuthenticationToken", 403),  # unverified
    AuthFailure.INCOMPLETE: ("IncompleteSignature", 400),
    AuthFailure.UNKNOWN_KEY: ("InvalidClientTokenId", 403),
    AuthFailure.MISMATCH: ("SignatureDoesNotMatch", 403),
    AuthFailure.SKEWED: ("SignatureDoesNotMatch", 403),
}
_S3 = {
    AuthFailure.MISSING: ("AccessDenied", 403, "Access Denied"),
    AuthFailure.OUTDATED: (
        "InvalidRequest",
        400,
        "The authorization mechanism you have provided is not supported. Please use AWS4-HMAC-SHA256.",
    ),
    AuthFailure.INCOMPLETE: ("AuthorizationHeaderMalformed", 400, ""),
    AuthFailure.UNKNOWN_KEY: (
        "InvalidAccessKeyId",
        403,
        "The AWS Access Key Id you provided does not exist in our records.",
    ),
    AuthFailure.MISMATCH: (
        "SignatureDoesNotMatch",
        403,
        "The request signature we calculated does not match the signature you provided. Check your key and signing "
        "method.",
    ),
    AuthFailure.SKEWED: (
        "RequestTimeTooSkewed",
        403,
        "The difference between the request time and the current time is too large.",
    ),
    AuthFailure.EXPIRED: ("AccessDenied", 403, ""),
}
_WITHOUT = " This hostler verifies signatures: sign with an access key of its keys_file."


class Authenticator:
    """The server's handler before `inner`, which is given what is proven, with its body whole where that is signed.

    `room`: the most bytes that all bodies may hold while they are gathered.
    """

    def __init__(self, verifier: Verifier, inner: Callable[[Request], None], invoker: Invoker, room: int) -> None:
        self._verifier = verifier
        self._inner = inner
        self._invoker = invoker
        self.room = room
        self._request_id = invoker.request_id
        self._runtime = "sagemaker", self._refuse_invocation
        self._json = "sagemaker", self._refuse_json
        self._sts = "sts", self._refuse_sts
        self._s3 = "s3", self._refuse_s3

    def handle(self, request: Request) -> None:
        if request.method in ("GET", "HEAD") and request.path in _OPEN:
            self._inner(request)
            return
        service, refuse = self._api(request)
        try:
            claim = self._verifier.read(request.method, request.path, request.query, request.headers, service, time())
            if service != "s3" and not request.complete:
                self._gather(request, claim, refuse)
                return
            payload = sha256(request.body).hexdigest() if service != "s3" else _named(request)
            self._verifier.prove(claim, payload)
        except NotAuthenticated as unproven:
            refuse(request, unproven)
            return
        self._inner(request)

    def _gather(self, request: Request, claim: ParsedSignature, refuse: Refuse) -> None:
        """Wait for the whole body, hashing it as it comes, then go on with the request, or refuse it.

        Whoever has seen an access key can write a head that is good so far: what all bodies hold before they are
        proven is bounded.
        """
        hashed = sha256()
        held = 0

        def keep(data: bytes) -> bool:
            nonlocal held
            held += len(data)
            self.room -= len(data)
            if held <= MAX_BODY and self.room >= 0:
                hashed.update(data)
                return True
            leave()
            over(errors.oversize() if held > MAX_BODY else errors.no_room())
            return False

        def leave() -> None:
            self.room += held

        def whole() -> None:
            leave()
            request.on_disconnect = None
            try:
                self._verifier.prove(claim, hashed.hexdigest())
            except NotAuthenticated as unproven:
                refuse(request, unproven)
            else:
                self._inner(request)

        def over(refusal: errors.InvokeError) -> None:
            self._invoker.refuse(request, invoked(request)[0], refusal, self._request_id())

        if (request.content_length or 0) > MAX_BODY:
            over(errors.oversize())
        else:
            request.on_disconnect = leave
            request.gather(keep, whole)

    def _api(self, request: Request) -> tuple[str, Refuse]:
        """The service that a request must be signed for, and how that refuses."""
        method, path = request.method, request.path
        if method == "POST":
            if invoked(request)[1]:
                return self._runtime
            if path == "/":
                if "x-amz-target" in request.headers:
                    return self._json
                if request.headers.get("content-type", "").startswith("application/x-www-form-urlencoded"):
                    return self._sts
        return self._runtime if path.startswith("/_hostler/") else self._s3

    # --- refusals

    def _refuse_invocation(self, request: Request, flaw: NotAuthenticated) -> None:
        kind, request_id = _JSON[flaw.flaw], self._request_id()
        body = msgspec.json.encode({"message": _advised(flaw, flaw.message)})
        name, operation = invoked(request)
        if operation:
            self._invoker.refused(request, name, 403, kind, request_id, len(body))
        request.answer(403, body, headers=[("x-amzn-ErrorType", kind), ("x-amzn-RequestId", request_id)])

    def _refuse_json(self, request: Request, flaw: NotAuthenticated) -> None:
        body = msgspec.json.encode({"__type": _JSON[flaw.flaw], "message": _advised(flaw, flaw.message)})
        headers = [("x-amzn-RequestId", self._request_id())]
        request.answer(400, body, "application/x-amz-json-1.1", headers)

    def _refuse_sts(self, request: Request, flaw: NotAuthenticated) -> None:
        code, status = _STS[flaw.flaw]
        request_id = self._request_id()
        sentence = "Request is missing Authentication Token" if flaw.flaw is AuthFailure.MISSING else flaw.message
        message = escape(_advised(flaw, sentence))
        text = (
            '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
            f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        request.answer(status, text.encode(), "text/xml", [("x-amzn-RequestId", request_id)])

    def _refuse_s3(self, request: Request, flaw: NotAuthenticated) -> None:
        code, status, sentence = _S3[flaw.flaw]
        if flaw.flaw is AuthFailure.INCOMPLETE and "authorization" not in request.headers:
            code = "AuthorizationQueryParametersError"
        message = escape(_advised(flaw, sentence or flaw.message))
        request_id = self._request_id()
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
            f"<RequestId>{request_id}</RequestId></Error>"
        )
        headers: Headers = [("x-amz-request-id", request_id)]
        request.answer(status, text.encode(), "application/xml", headers)


def _named(request: Request) -> str:
    """What a request to S3 says of its payload: the hash, or words that stand for none."""
    named = request.headers.get(_PAYLOAD)
    if named is not None:
        return named
    if "authorization" in request.headers:
        raise NotAuthenticated(AuthFailure.INCOMPLETE, f"Missing required header for this request: {_PAYLOAD}")
    return "UNSIGNED-PAYLOAD"  # a presigned address: who uses it sends what they like


def _advised(flaw: NotAuthenticated, sentence: str) -> str:
    """AWS's sentence, and what would help."""
    if flaw.flaw in (AuthFailure.MISSING, AuthFailure.UNKNOWN_KEY):
        return sentence + ("" if sentence.endswith(".") else ".") + _WITHOUT
    return sentence
