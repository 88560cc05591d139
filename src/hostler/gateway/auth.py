"""Authentication before dispatch, with the setting `signatures = verify`: every request needs a good signature.

It knows which API a request speaks, by the same rules as `dispatch` and control, because each API renders its errors in
its own way; signatures are the matter of `aws/sigv4`. Without that setting this handler is not there at all.

The JSON APIs and STS sign their body's hash, so a body that is still arriving is gathered, up to their limit, before
any of it is passed on. S3's requests name the hash in a signed header, and so are passed on as they come: control
compares it with the body that it receives.
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

_OPEN = frozenset(["/_hostler/health", "/_hostler/ready", "/_localstack/health"])  # they reveal only that it is there
_PAYLOAD = "x-amz-content-sha256"

# By AuthFailure: the JSON APIs' exception; STS's code and status; S3's code, status and sentence (empty: as the JSON
# APIs have it). Of the statuses, 400 of the JSON control plane and 403 of the runtime have been seen for these.
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
_ADVICE = " This hostler verifies signatures: sign with an access key of its keys_file."


class Authenticator:
    """Verifies the signature, then calls `inner`; the body is complete if the signature covers it.

    `room`: bytes that all bodies may still buffer while they are gathered.
    """

    def __init__(self, verifier: Verifier, inner: Callable[[Request], None], invoker: Invoker, room: int) -> None:
        self._verifier = verifier
        self._inner = inner
        self._invoker = invoker
        self.room = room
        self._request_id = invoker.context.request_id
        self._runtime = "sagemaker", self._refuse_invocation
        self._json = "sagemaker", self._refuse_json
        self._sts = "sts", self._refuse_sts
        self._s3 = "s3", self._refuse_s3

    def handle(self, request: Request) -> None:
        """Pass an authenticated request on; refuse any other as its API does."""
        if request.method in ("GET", "HEAD") and request.path in _OPEN:
            self._inner(request)
            return
        service, refuse = self._api(request)
        try:
            # 1. The head, before the body is here.
            parsed = self._verifier.read(request.method, request.path, request.query, request.headers, service, time())
            # 2. The payload's hash: of the body, or the one that the head names.
            if service != "s3" and not request.complete:
                self._gather(request, parsed, refuse)
                return
            payload = sha256(request.body).hexdigest() if service != "s3" else _named_hash(request)
            # 3. The signature over both.
            self._verifier.prove(parsed, payload)
        except NotAuthenticated as failure:
            refuse(request, failure)
            return
        self._inner(request)

    def _gather(self, request: Request, parsed: ParsedSignature, refuse: Refuse) -> None:
        """Gather the whole body, hashing it as it comes, then pass the request on, or refuse it.

        A head that is good so far needs no secret key, only an access key that somebody has seen: so the sum of all
        bodies that are not authenticated yet is bounded.
        """
        payload_hash = sha256()
        size = 0

        def accept(data: bytes) -> bool:
            nonlocal size
            size += len(data)
            self.room -= len(data)
            if size <= MAX_BODY and self.room >= 0:
                payload_hash.update(data)
                return True
            give_room_back()
            reject(errors.oversize() if size > MAX_BODY else errors.no_room())
            return False

        def give_room_back() -> None:
            self.room += size

        def on_whole() -> None:
            give_room_back()
            request.on_disconnect = None
            try:
                self._verifier.prove(parsed, payload_hash.hexdigest())
            except NotAuthenticated as failure:
                refuse(request, failure)
            else:
                self._inner(request)

        def reject(error: errors.InvokeError) -> None:
            self._invoker.refuse(request, invoked(request)[0], error, self._request_id())

        if (request.content_length or 0) > MAX_BODY:
            reject(errors.oversize())
        else:
            request.on_disconnect = give_room_back
            request.gather(accept, on_whole)

    def _api(self, request: Request) -> tuple[str, Refuse]:
        """Return the service that a request must be signed for, and the function that renders its refusals."""
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

    def _refuse_invocation(self, request: Request, failure: NotAuthenticated) -> None:
        kind, request_id = _JSON[failure.kind], self._request_id()
        body = msgspec.json.encode({"message": _advised(failure, failure.message)})
        name, operation = invoked(request)
        if operation:
            self._invoker.log_refusal(request, name, 403, kind, request_id, len(body))
        request.answer(403, body, headers=[("x-amzn-ErrorType", kind), ("x-amzn-RequestId", request_id)])

    def _refuse_json(self, request: Request, failure: NotAuthenticated) -> None:
        body = msgspec.json.encode({"__type": _JSON[failure.kind], "message": _advised(failure, failure.message)})
        headers = [("x-amzn-RequestId", self._request_id())]
        request.answer(400, body, "application/x-amz-json-1.1", headers)

    def _refuse_sts(self, request: Request, failure: NotAuthenticated) -> None:
        code, status = _STS[failure.kind]
        request_id = self._request_id()
        sentence = "Request is missing Authentication Token" if failure.kind is AuthFailure.MISSING else failure.message
        message = escape(_advised(failure, sentence))
        text = (
            '<ErrorResponse xmlns="https://sts.amazonaws.com/doc/2011-06-15/"><Error><Type>Sender</Type>'
            f"<Code>{code}</Code><Message>{message}</Message></Error><RequestId>{request_id}</RequestId></ErrorResponse>"
        )
        request.answer(status, text.encode(), "text/xml", [("x-amzn-RequestId", request_id)])

    def _refuse_s3(self, request: Request, failure: NotAuthenticated) -> None:
        code, status, sentence = _S3[failure.kind]
        if failure.kind is AuthFailure.INCOMPLETE and "authorization" not in request.headers:
            code = "AuthorizationQueryParametersError"
        message = escape(_advised(failure, sentence or failure.message))
        request_id = self._request_id()
        text = (
            f'<?xml version="1.0" encoding="UTF-8"?>\n<Error><Code>{code}</Code><Message>{message}</Message>'
            f"<RequestId>{request_id}</RequestId></Error>"
        )
        headers: Headers = [("x-amz-request-id", request_id)]
        request.answer(status, text.encode(), "application/xml", headers)


def _named_hash(request: Request) -> str:
    """Return the payload's hash that a request to S3 names, or the words that stand for none."""
    named_hash = request.headers.get(_PAYLOAD)
    if named_hash is not None:
        return named_hash
    if "authorization" in request.headers:
        raise NotAuthenticated(AuthFailure.INCOMPLETE, f"Missing required header for this request: {_PAYLOAD}")
    return "UNSIGNED-PAYLOAD"  # a presigned address covers no payload


def _advised(failure: NotAuthenticated, sentence: str) -> str:
    """Return AWS's sentence, and advice where it helps."""
    if failure.kind in (AuthFailure.MISSING, AuthFailure.UNKNOWN_KEY):
        return sentence + ("" if sentence.endswith(".") else ".") + _ADVICE
    return sentence
