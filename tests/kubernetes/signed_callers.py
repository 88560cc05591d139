"""Callers of targets in a process of their own, each with a connection and bodies of its own; the rate is the servers'.

A program. Its first line of input says whom they call (`Calls`, as JSON); with the end of the input they end. Each line
of its output is how many calls had each outcome until then: "right", or what came instead.
"""

from __future__ import annotations

import asyncio
import hashlib
import hmac
import json
import random
import sys
import time
from collections import Counter

import msgspec
from callers import Answer, Caller, UnansweredError

_EVERY = 0.1  # seconds between two lines
_PATIENCE = 70.0  # seconds for an answer, as other clients of the tests have it
_SERVICE, _SIGNED = "sagemaker", "host;x-amz-date;x-amzn-sagemaker-target-model"


class Calls(msgspec.Struct, frozen=True):
    """`name`: their bodies begin with it. `pause`: seconds after each call."""

    url: str
    key: str
    secret: str
    region: str
    endpoint: str
    targets: list[str]
    callers: int
    name: str
    pause: float


class Signer:
    """Signs calls of an endpoint with Signature Version 4."""

    def __init__(self, calls: Calls) -> None:
        self._calls, self._host = calls, calls.url.removeprefix("http://")
        self._path = f"/endpoints/{calls.endpoint}/invocations"

    def headers(self, target: str, body: bytes) -> dict[str, str]:
        stamp = time.strftime("%Y%m%dT%H%M%SZ", time.gmtime())
        scope = f"{stamp[:8]}/{self._calls.region}/{_SERVICE}/aws4_request"
        named = f"host:{self._host}\nx-amz-date:{stamp}\nx-amzn-sagemaker-target-model:{target}\n"
        canonical = f"POST\n{self._path}\n\n{named}\n{_SIGNED}\n{hashlib.sha256(body).hexdigest()}"
        text = f"AWS4-HMAC-SHA256\n{stamp}\n{scope}\n{hashlib.sha256(canonical.encode()).hexdigest()}"
        key = f"AWS4{self._calls.secret}".encode()
        for part in scope.split("/"):
            key = hmac.digest(key, part.encode(), "sha256")
        signature = hmac.digest(key, text.encode(), "sha256").hex()
        credential = f"Credential={self._calls.key}/{scope}, SignedHeaders={_SIGNED}, Signature={signature}"
        return {
            "Authorization": f"AWS4-HMAC-SHA256 {credential}",
            "X-Amz-Date": stamp,
            "X-Amzn-SageMaker-Target-Model": target,
            "Content-Type": "text/csv",
        }

    async def call(self, caller: Caller, target: str, body: bytes) -> Answer:
        """Raises UnansweredError, OSError and TimeoutError."""
        async with asyncio.timeout(_PATIENCE):
            return await caller.call("POST", self._path, self.headers(f"{target}.tar.gz", body), body)


async def call(calls: Calls, number: int, outcomes: Counter[str], ends: asyncio.Event) -> None:
    signer, count = Signer(calls), 0
    async with Caller(calls.url) as caller:
        while not ends.is_set():
            count += 1
            target, body = random.choice(calls.targets), f"{calls.name}-{number}-{count}"
            try:
                answer = await signer.call(caller, target, body.encode())
                outcomes[outcome(answer, f"{target}:{body}".encode())] += 1
            except (UnansweredError, OSError) as error:
                await caller.close()
                outcomes[f"lost: {type(error).__name__}: {error}"] += 1
            await asyncio.sleep(calls.pause)


def outcome(answer: Answer, expected: bytes) -> str:
    if answer.status != 200:
        error = answer.headers.get("x-amzn-errortype", "")
        return f"lost: {answer.status} {error}: {answer.body.decode(errors='replace')}"[:300]
    return "right" if answer.body == expected else f"wrong: {answer.body[:80]!r}"


async def main() -> None:
    calls = msgspec.json.decode(sys.stdin.readline(), type=Calls)
    outcomes: Counter[str] = Counter()
    ends = asyncio.Event()
    async with asyncio.TaskGroup() as group:
        for number in range(calls.callers):
            group.create_task(call(calls, number, outcomes, ends))
        ended = group.create_task(asyncio.to_thread(sys.stdin.read))
        while not ended.done():
            print(json.dumps(outcomes), flush=True)
            await asyncio.sleep(_EVERY)
        ends.set()
    print(json.dumps(outcomes), flush=True)


if __name__ == "__main__":
    asyncio.run(main())
