"""Receive an object: decode aws-chunked, write the request's body to a synced file, compare the checksums.

MD5, CRC32, SHA-1 and SHA-256 are compared. CRC32C and CRC64NVME are stored and returned as the client sent them, but
not compared: without a compiled library they would cost more than all the rest together. Readers can compare them.
"""

from __future__ import annotations

import asyncio
import base64
import binascii
import hashlib
import re
import zlib
from collections.abc import AsyncIterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from starlette.requests import ClientDisconnect, Request

from hostler.s3.buckets import Buckets, S3Error, sync_to_disk

PIECE = 1 << 20  # bytes that are collected before a thread writes and digests them
MAX_OBJECT = 5 * 2**30  # bytes of one upload
MAX_DOCUMENT = 4 * 2**20  # bytes of an XML body
_CHECKSUM = "x-amz-checksum-"
_ALGORITHMS = ("crc32", "crc32c", "crc64nvme", "sha1", "sha256")
_MAX_LINE = 8192  # bytes of a line of the chunk framing


@dataclass(frozen=True)
class Received:
    """A complete upload, staged below the buckets' temporary folder; its owner moves or removes it."""

    path: Path
    size: int
    md5: str  # hex
    checksums: dict[str, str]  # algorithm -> base64, as the client sent them


async def receive(request: Request, buckets: Buckets) -> Received:
    """Write the body to a staged file. Raises S3Error, and leaves no file, for a truncated body or a wrong checksum."""
    file, path = await asyncio.to_thread(buckets.stage)
    try:
        with file:
            digests, trailers = await _write(request, file)
            checksums = _checksum_headers({**request.headers, **trailers})
            _compare(digests, checksums, request.headers)
            await asyncio.to_thread(sync_to_disk, file)
    except BaseException as error:
        path.unlink()
        if isinstance(error, ClientDisconnect):
            raise _incomplete() from None
        raise
    return Received(path, digests.size, digests.md5.hexdigest(), checksums)


async def read_document(request: Request) -> bytes:
    """Read an XML body of at most MAX_DOCUMENT bytes. Raises S3Error."""
    body = bytearray()
    async for piece in _pieces(request, {}):
        body += piece
        if len(body) > MAX_DOCUMENT:
            raise S3Error("MaxMessageLengthExceeded", "Your request was too large.", 400)
    _compare_sha256(request.headers, hashlib.sha256(body))
    return bytes(body)


async def _write(request: Request, file: IO[bytes]) -> tuple[_Digests, dict[str, str]]:
    trailers: dict[str, str] = {}
    digests = _Digests()
    async for piece in _pieces(request, trailers):
        if digests.size + len(piece) > MAX_OBJECT:
            raise S3Error("EntityTooLarge", "Your proposed upload exceeds the maximum allowed size", 400)
        await asyncio.to_thread(_write_piece, piece, file, digests)
    return digests, trailers


def _write_piece(piece: bytes, file: IO[bytes], digests: _Digests) -> None:
    digests.update(piece)
    file.write(piece)


async def _pieces(request: Request, trailers: dict[str, str]) -> AsyncIterator[bytes]:
    """Yield the payload in pieces of about PIECE bytes; fill `trailers` after the last."""
    headers = request.headers
    signed = headers.get("x-amz-content-sha256", "").startswith("STREAMING-")
    decoder = ChunkDecoder() if signed or "aws-chunked" in headers.get("content-encoding", "") else None
    buffer = bytearray()
    async for data in request.stream():
        buffer += decoder.feed(data) if decoder else data
        if len(buffer) >= PIECE:
            yield bytes(buffer)
            buffer.clear()
    if buffer:
        yield bytes(buffer)
    if decoder:
        decoder.check_complete(headers.get("x-amz-decoded-content-length"))
        trailers.update(decoder.trailers)


class ChunkDecoder:
    """Incremental decoder of aws-chunked: `size[;chunk-signature=…]`, data, …, `0`, trailing headers, an empty line."""

    def __init__(self) -> None:
        self.trailers: dict[str, str] = {}
        self._buffer = bytearray()
        self._remaining = 0  # bytes of the current chunk that have not arrived
        self._decoded = 0  # bytes of data so far
        self._state = "size"  # then: data, data end; after the last chunk: trailers, done

    def feed(self, data: bytes) -> bytes:
        """Take the next bytes of the body; return the data in them. Raises S3Error."""
        self._buffer += data
        out = bytearray()
        while self._state != "done":
            if self._state == "data":
                piece = self._buffer[: self._remaining]
                del self._buffer[: len(piece)]
                out += piece
                self._remaining -= len(piece)
                if self._remaining:
                    break
                self._state = "data end"
            elif (line := self._next_line()) is None:
                break
            else:
                self._read_line(line)
        self._decoded += len(out)
        return bytes(out)

    def check_complete(self, decoded_length: str | None) -> None:
        """Raise S3Error unless the body was complete and its data as long as `decoded_length`, where that is given."""
        if self._state != "done" or (decoded_length is not None and decoded_length.strip() != str(self._decoded)):
            raise _incomplete()

    def _next_line(self) -> bytes | None:
        end = self._buffer.find(b"\n", 0, _MAX_LINE)
        if end < 0:
            if len(self._buffer) >= _MAX_LINE:
                raise _bad_framing()
            return None
        line = bytes(self._buffer[:end])
        del self._buffer[: end + 1]
        return line.rstrip(b"\r")

    def _read_line(self, line: bytes) -> None:
        if self._state == "size":
            size = line.partition(b";")[0].strip()
            if not re.fullmatch(rb"[0-9a-fA-F]{1,10}", size):
                raise _bad_framing()
            self._remaining = int(size, 16)
            self._state = "data" if self._remaining else "trailers"
        elif self._state == "data end":
            if line:
                raise _bad_framing()
            self._state = "size"
        elif line:
            name, _, value = line.decode("latin-1").partition(":")
            self.trailers[name.strip().lower()] = value.strip()
            if len(self.trailers) > 20:
                raise _bad_framing()
        else:
            self._state = "done"


class _Digests:
    """The digests that a client may send, over all bytes written. hashlib and zlib release the interpreter lock."""

    def __init__(self) -> None:
        self.size = 0
        self.md5 = hashlib.md5(usedforsecurity=False)
        self.sha1 = hashlib.sha1(usedforsecurity=False)
        self.sha256 = hashlib.sha256()
        self.crc32 = 0

    def update(self, piece: bytes) -> None:
        self.size += len(piece)
        self.crc32 = zlib.crc32(piece, self.crc32)
        for digest in (self.md5, self.sha1, self.sha256):
            digest.update(piece)

    def digest(self, algorithm: str) -> bytes | None:
        """Return a digest, or None for an algorithm that is not compared here."""
        digests = {"crc32": self.crc32.to_bytes(4, "big"), "sha1": self.sha1.digest(), "sha256": self.sha256.digest()}
        return digests.get(algorithm)


def _checksum_headers(headers: Mapping[str, str]) -> dict[str, str]:
    return {name: headers[_CHECKSUM + name] for name in _ALGORITHMS if _CHECKSUM + name in headers}


def _compare(digests: _Digests, checksums: dict[str, str], headers: Mapping[str, str]) -> None:
    if text := headers.get("content-md5"):
        if len(content_md5 := _base64(text)) != 16:
            raise S3Error("InvalidDigest", "The Content-MD5 you specified was invalid.", 400)
        if content_md5 != digests.md5.digest():
            raise S3Error("BadDigest", "The Content-MD5 you specified did not match what we received.", 400)
    for name, text in checksums.items():
        if digests.digest(name) not in (None, _base64(text)):
            message = f"The {name.upper()} you specified did not match the calculated checksum."
            raise S3Error("BadDigest", message, 400)
    _compare_sha256(headers, digests.sha256)


def _compare_sha256(headers: Mapping[str, str], digest: hashlib._Hash) -> None:
    """Compare the SHA-256 that the request's signature covers; an unsigned payload has none."""
    sha256 = headers.get("x-amz-content-sha256", "").lower()
    if re.fullmatch(r"[0-9a-f]{64}", sha256) and sha256 != digest.hexdigest():
        message = "The provided 'x-amz-content-sha256' header does not match what was computed."
        raise S3Error("XAmzContentSHA256Mismatch", message, 400)


def _base64(text: str) -> bytes:
    try:
        return base64.b64decode(text, validate=True)
    except (binascii.Error, ValueError):
        return b""


def _incomplete() -> S3Error:
    message = "You did not provide the number of bytes specified by the Content-Length HTTP header"
    return S3Error("IncompleteBody", message, 400)


def _bad_framing() -> S3Error:
    return S3Error("InvalidRequest", "The body is not framed as aws-chunked, though its headers say so.", 400)
