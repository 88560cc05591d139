"""Authentication before dispatch, with the setting `signatures = verify`: every request needs a good signature.

`aws/classify` says which service a request must be signed for and in which protocol it is refused; signatures are the
matter of `aws/sigv4`. Without that setting this handler is not there at all.

All services but S3 sign their body's hash, so a body that is still arriving is gathered, up to their limit, before
any of it is passed on. S3's requests name the hash in a signed header, and so are passed on as they come: control
compares it with the body that it receives.
"""

from __future__ import annotations

from collections.abc import Callable
from hashlib import sha256
from time import time

from hostler.aws import errors as aws_errors
from hostler.aws.classify import HOSTLER, Call, Protocol, invoked
from hostler.aws.sigv4 import AuthFailure, NotAuthenticated, ParsedSignature, Verifier
from hostler.contract import MAX_BODY
from hostler.errors import ApiError
from hostler.gateway import errors
from hostler.gateway.dispatch import OWN_PAGE
from hostler.gateway.invoke.invoker import Invoker
from hostler.wire.http_request import Request

# They reveal no more than that it is there.
_OPEN = frozenset(["/_hostler/health", "/_hostler/ready", OWN_PAGE, "/_localstack/health"])
_PAYLOAD = "x-amz-content-sha256"

# By AuthFailure: the exception and its HTTP status, 400 of them as `aws/errors` has them. Of the statuses, 400 of
# SageMaker's control plane and 403 of its runtime have been seen for these.
_CODES = {
    AuthFailure.MISSING: "MissingAuthenticationTokenException",
    AuthFailure.OUTDATED: "MissingAuthenticationTokenException",  # unverified
    AuthFailure.INCOMPLETE: "IncompleteSignatureException",
    AuthFailure.UNKNOWN_KEY: "UnrecognizedClientException",
    AuthFailure.MISMATCH: "InvalidSignatureException",
    AuthFailure.SKEWED: "InvalidSignatureException",
    AuthFailure.EXPIRED: "InvalidSignatureException",  # unverified
}
# S3's own: code, status and sentence (empty: as the others have it).
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
_RUNTIME = Call("sagemaker", Protocol.REST_JSON, "")
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

    def handle(self, request: Request) -> None:
        """Pass an authenticated request on; refuse any other as its API does."""
        if request.method in ("GET", "HEAD") and request.path in _OPEN:
            self._inner(request)
            return
        call = _call(request)
        service = call.service
        try:
            # 1. The head, before the body is here.
            parsed = self._verifier.read(request.method, request.path, request.query, request.headers, service, time())
            # 2. The payload's hash: of the body, or the one that the head names.
            if service != "s3" and not request.complete:
                self._gather(request, parsed, call)
                return
            payload = sha256(request.body).hexdigest() if service != "s3" else _named_hash(request)
            # 3. The signature over both.
            self._verifier.prove(parsed, payload)
        except NotAuthenticated as failure:
            self._refuse(request, call, failure)
            return
        self._inner(request)

    def _gather(self, request: Request, parsed: ParsedSignature, call: Call) -> None:
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
                self._refuse(request, call, failure)
            else:
                self._inner(request)

        def reject(error: errors.InvokeError) -> None:
            self._invoker.refuse(request, invoked(request.method, request.path)[0], error, self._request_id())

        if (request.content_length or 0) > MAX_BODY:
            reject(errors.oversize())
        else:
            request.on_disconnect = give_room_back
            request.gather(accept, on_whole)

    def _refuse(self, request: Request, call: Call, failure: NotAuthenticated) -> None:
        request_id = self._request_id()
        answer = aws_errors.render(call, _error(request, call, failure), request_id)
        name, operation = invoked(request.method, request.path)
        if operation:
            code = _CODES[failure.kind]
            self._invoker.log_refusal(request, name, answer.status, code, request_id, len(answer.body))
        errors.send(request, answer)


def _call(request: Request) -> Call:
    """Return the API that a request must be signed for. Our own pages are signed as invocations are."""
    if invoked(request.method, request.path)[1]:
        return _RUNTIME
    call = errors.api(request)
    return _RUNTIME if call.service == HOSTLER else call


def _error(request: Request, call: Call, failure: NotAuthenticated) -> ApiError:
    """Return the error of a refusal, with AWS's sentence, and advice where it helps."""
    code, status, sentence = _CODES[failure.kind], 400, failure.message
    if call.service == "s3":
        code, status, sentence = _S3[failure.kind]
        if failure.kind is AuthFailure.INCOMPLETE and "authorization" not in request.headers:
            code = "AuthorizationQueryParametersError"
        sentence = sentence or failure.message
    elif failure.kind is AuthFailure.MISSING and call.protocol is Protocol.QUERY:
        sentence = "Request is missing Authentication Token"
    if failure.kind in (AuthFailure.MISSING, AuthFailure.UNKNOWN_KEY):
        sentence += ("" if sentence.endswith(".") else ".") + _ADVICE
    return ApiError(code, sentence, status)


def _named_hash(request: Request) -> str:
    """Return the payload's hash that a request to S3 names, or the words that stand for none."""
    named_hash = request.headers.get(_PAYLOAD)
    if named_hash is not None:
        return named_hash
    if "authorization" in request.headers:
        raise NotAuthenticated(AuthFailure.INCOMPLETE, f"Missing required header for this request: {_PAYLOAD}")
    return "UNSIGNED-PAYLOAD"  # a presigned address covers no payload
