"""Cheap HTTP clients: InvokeEndpoint over one kept-alive connection each, in asyncio.

boto3 would be most of the work on a small machine; every test that uses these sends one request through boto3, too.
"""

from __future__ import annotations

import asyncio
import re
import time
import urllib.parse
from dataclasses import dataclass
from types import TracebackType


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]  # lower-case names
    body: bytes

    def timing(self, name: str) -> float:
        """Return the seconds of an entry of Server-Timing; 0 without such an entry."""
        entry = re.search(rf"\b{name};(?:[^,]*;)?dur=([\d.]+)", self.headers.get("server-timing", ""))
        return float(entry[1]) / 1000 if entry else 0.0


class UnansweredError(Exception):
    """The connection ended. `begun`: after a part of an answer had come."""

    def __init__(self, begun: bool) -> None:
        super().__init__("the connection ended " + ("within an answer" if begun else "before an answer"))
        self.begun = begun


class Caller:
    """A connection to `url`, made at the first call and again after the server closed it."""

    def __init__(self, url: str) -> None:
        parts = urllib.parse.urlsplit(url)
        self._host, self._port = parts.hostname or "", parts.port or 80
        self._streams: tuple[asyncio.StreamReader, asyncio.StreamWriter] | None = None
        self.connecting = 0.0  # monotonic: when it began to make the connection

    async def __aenter__(self) -> Caller:
        return self

    async def __aexit__(self, kind: type[BaseException] | None, error: BaseException | None, at: TracebackType | None):
        await self.close()

    async def connect(self) -> None:
        if self._streams is not None and self._streams[0].at_eof():
            await self.close()
        if self._streams is None:
            self.connecting = time.monotonic()
            self._streams = await asyncio.open_connection(self._host, self._port)

    async def close(self) -> None:
        if self._streams is not None:
            self._streams[1].close()
            self._streams = None

    async def invoke(self, endpoint: str, target: str, body: bytes = b"1,2", content_type: str = "text/csv") -> Answer:
        headers = {"Content-Type": content_type, "X-Amzn-SageMaker-Target-Model": target}
        return await self.call("POST", f"/endpoints/{endpoint}/invocations", headers, body)

    async def call(self, method: str, path: str, headers: dict[str, str], body: bytes = b"") -> Answer:
        """Send a request and return the answer. Raises UnansweredError, or OSError if the connection cannot be made."""
        await self.connect()
        assert self._streams is not None
        reader, writer = self._streams
        lines = "".join(f"{name}: {value}\r\n" for name, value in headers.items())
        head = f"{method} {path} HTTP/1.1\r\nHost: {self._host}:{self._port}\r\nContent-Length: {len(body)}\r\n{lines}"
        writer.write(head.encode() + b"\r\n" + body)
        begun = False
        try:
            status, *lines = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1").split("\r\n")
            begun = True
            pairs = (line.partition(":") for line in lines if line)
            fields = {name.lower(): value.strip() for name, _, value in pairs}
            content = await _body(reader, fields)
        except (asyncio.IncompleteReadError, ConnectionError) as error:
            await self.close()
            raise UnansweredError(begun or bool(getattr(error, "partial", b""))) from None
        if fields.get("connection", "").lower() == "close":
            await self.close()
        return Answer(int(status.split(" ")[1]), fields, content)


async def _body(reader: asyncio.StreamReader, headers: dict[str, str]) -> bytes:
    if headers.get("transfer-encoding", "").lower() != "chunked":
        return await reader.readexactly(int(headers.get("content-length", 0)))
    content = b""
    while size := int(await reader.readline(), 16):
        content += await reader.readexactly(size)
        await reader.readexactly(2)
    await reader.readline()
    return content
