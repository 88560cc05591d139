"""An S3 that is not hostler's own, in a thread of this process, which may be away: `with running(folder, host) as s3:`.

s3.client                            boto3's
with s3.away("refuses"): …           each request gets 503; "mute": none gets an answer
s3.callers                           the addresses from which requests came
"""

from __future__ import annotations

import asyncio
import contextlib
import socket
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import boto3
import uvicorn
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from hostler.s3.app import s3_app

KEYS = {"AWS_ACCESS_KEY_ID": "AKIAHOSTLERTEST", "AWS_SECRET_ACCESS_KEY": "a-secret-for-a-test"}
_DOWN = (
    b'<?xml version="1.0" encoding="UTF-8"?><Error><Code>ServiceUnavailable</Code><Message>Reduce your request rate.'
    b"</Message></Error>"
)


class OtherS3:
    """One whose port stays its own also while it is away. `asked`: how many requests came meanwhile."""

    def __init__(self, folder: Path, host: str) -> None:
        self._app = s3_app(folder)
        self._away = ""
        self._back = threading.Event()
        self.asked = 0
        self.callers: set[str] = set()
        self._sock = socket.create_server((host, 0))
        self.endpoint = f"http://{host}:{self._sock.getsockname()[1]}"
        self.client: Any = boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
        )
        config = uvicorn.Config(
            self._answer, log_config=None, lifespan="off", interface="asgi3", timeout_graceful_shutdown=5
        )
        self._server = uvicorn.Server(config)
        self._thread = threading.Thread(target=asyncio.run, args=(self._serve(),))

    @contextlib.contextmanager
    def away(self, how: str) -> Iterator[None]:
        """Answer each request with 503 ("refuses"), or none ("mute"): those get 503 at the end."""
        self._back.clear()
        self.asked = 0
        self._away = how
        try:
            yield
        finally:
            self._away = ""
            self._back.set()

    def open(self) -> None:
        self._thread.start()

    def close(self) -> None:
        self._server.should_exit = True
        self._thread.join()
        self._sock.close()

    async def _serve(self) -> None:
        await self._server._serve([self._sock])  # `serve` is for the main thread: it takes signals

    async def _answer(self, scope: Scope, receive: Receive, send: Send) -> None:
        self.callers.add(scope["client"][0])
        if not (away := self._away):
            await self._app(scope, receive, send)
            return
        self.asked += 1
        if away == "mute":
            await asyncio.to_thread(self._back.wait)
        await Response(_DOWN, 503, media_type="application/xml")(scope, receive, send)


@contextlib.contextmanager
def running(folder: Path, host: str) -> Iterator[OtherS3]:
    s3 = OtherS3(folder, host)
    s3.open()
    try:
        yield s3
    finally:
        s3.close()
