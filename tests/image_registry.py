"""A registry for tests: Debian's docker-registry on loopback, images made without Docker, and a line that may break.

Docker takes http from 127.0.0.0/8. An image is written straight into the registry by its HTTP API, so no Docker needs
to have had it before, and it may be for any platform.
"""

from __future__ import annotations

import asyncio
import contextlib
import gzip
import hashlib
import json
import os
import shutil
import socket
import subprocess
import time
import urllib.request
from collections.abc import AsyncIterator, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import packing
from free_ports import free_port

USER, PASSWORD = "me", "secret-of-tests"
_HTPASSWD = f"{USER}:$2y$05$.gw2lSUVz90vJlfBC2AiU.HXCnpV4YOAuoaORlnXgPgRXHOsjjFCu\n"  # of PASSWORD
_MANIFEST = "application/vnd.docker.distribution.manifest.v2+json"
_LIST = "application/vnd.docker.distribution.manifest.list.v2+json"
_CONFIG = "application/vnd.docker.container.image.v1+json"
_LAYER = "application/vnd.docker.image.rootfs.diff.tar.gzip"


@dataclass
class Registry:
    """A running registry. `closed` is the address at which it asks for USER and PASSWORD."""

    address: str
    closed: str
    folder: Path

    def put(
        self, image: str, *layers: int, architecture: str = "amd64", user: str = "",
        labels: Mapping[str, str] | None = None, serves: bool = False,
    ) -> str:  # fmt: skip
        """Write an image, repository:tag, with layers of so many random bytes; return its digest.

        `serves`: it answers pings, by the machine's busybox.
        """
        repository, _, tag = image.partition(":")
        packed = [_random(size) for size in layers or (1000,)] + ([_layer(_server())] if serves else [])
        config = json.dumps(
            {
                "architecture": architecture, "os": "linux",
                "config": {"Cmd": ["serve"], "Labels": dict(labels or {}), "User": user},
                "rootfs": {"type": "layers", "diff_ids": [_digest(gzip.decompress(layer)) for layer in packed]},
            }
        ).encode()  # fmt: skip
        for blob in (config, *packed):
            self._upload(repository, blob)
        manifest = {
            "schemaVersion": 2, "mediaType": _MANIFEST, "config": _descriptor(_CONFIG, config),
            "layers": [_descriptor(_LAYER, layer) for layer in packed],
        }  # fmt: skip
        return self._put_manifest(repository, tag, _MANIFEST, manifest)

    def put_for_other_machines(self, image: str) -> str:
        """Write a list of manifests, none of which is for this machine."""
        repository, _, tag = image.partition(":")
        digest = self.put(f"{repository}:only", architecture="s390x")
        of_platform = {
            "mediaType": _MANIFEST, "digest": digest, "size": self._size_of(repository, digest),
            "platform": {"architecture": "s390x", "os": "linux"},
        }  # fmt: skip
        manifest = {"schemaVersion": 2, "mediaType": _LIST, "manifests": [of_platform]}
        return self._put_manifest(repository, tag, _LIST, manifest)

    def damage(self) -> None:
        """Change the last byte of each layer that the registry has."""
        for path in self.folder.rglob("blobs/sha256/*/*/data"):
            data = path.read_bytes()
            if data.startswith(b"\x1f\x8b"):
                path.write_bytes(data[:-1] + bytes([data[-1] ^ 1]))

    def _upload(self, repository: str, blob: bytes) -> None:
        place = self._ask("POST", f"/v2/{repository}/blobs/uploads/").headers["Location"]
        self._ask("PUT", f"{place}&digest={_digest(blob)}", blob, "application/octet-stream")

    def _put_manifest(self, repository: str, tag: str, kind: str, manifest: Mapping[str, Any]) -> str:
        body = json.dumps(manifest).encode()
        self._ask("PUT", f"/v2/{repository}/manifests/{tag}", body, kind)
        return _digest(body)

    def _size_of(self, repository: str, digest: str) -> int:
        answer = self._ask("GET", f"/v2/{repository}/manifests/{digest}", accept=_MANIFEST)
        return len(answer.read())

    def _ask(self, method: str, path: str, body: bytes | None = None, kind: str = "", accept: str = "*/*") -> Any:
        url = path if path.startswith("http") else f"http://{self.address}{path}"
        headers = {"Accept": accept, **({"Content-Type": kind} if kind else {})}
        return urllib.request.urlopen(urllib.request.Request(url, body, headers, method=method))


@contextlib.contextmanager
def registry(folder: Path) -> Iterator[Registry]:
    """Run a registry, open at one port and with a password at another, over the same images."""
    (folder / "htpasswd").write_text(_HTPASSWD)
    with contextlib.ExitStack() as stack:
        addresses = []
        for name, access in (("open", ""), ("closed", f"auth: {{htpasswd: {{realm: r, path: {folder}/htpasswd}}}}\n")):
            address = f"127.0.0.1:{free_port()}"
            stack.enter_context(_serving(folder, name, address, access))
            _wait_for(address)
            addresses.append(address)
        yield Registry(addresses[0], addresses[1], folder / "images")


@contextlib.contextmanager
def elsewhere(shop: Registry, *before: str) -> Iterator[str]:
    """Serve the same images at 127.0.0.1 of another network namespace; yield the address there.

    `before`: the words that run a program there.
    """
    address = "127.0.0.1:5000"
    with _serving(shop.folder.parent, "elsewhere", address, "", *before):
        yield address


@contextlib.contextmanager
def _serving(folder: Path, name: str, address: str, access: str, *before: str) -> Iterator[None]:
    (folder / f"{name}.yml").write_text(
        f"version: 0.1\nlog: {{level: error}}\nhttp: {{addr: {address}}}\n"
        f"storage: {{filesystem: {{rootdirectory: {folder}/images}}}}\n{access}"
    )
    words = [*before, "docker-registry", "serve", f"{folder}/{name}.yml"]
    with open(folder / f"{name}.log", "wb") as log:
        running = subprocess.Popen(words, stdout=log, stderr=log, env={**os.environ, "OTEL_TRACES_EXPORTER": "none"})
        try:
            yield
        finally:
            running.terminate()
            running.wait()


class Line:
    """A connection to an address through which bytes may come slowly, or not at all."""

    def __init__(self, target: str) -> None:
        """`target`: host:port, or the path of a socket."""
        self._target = target
        self.address = ""
        self.rate = 0  # bytes a second, of each connection; 0: any
        self.cut_after = 0  # bytes of an answer after which a connection is cut; 0: none is
        self.cuts = 10**9  # how many connections are cut
        self.open = 0  # connections
        self.asked: list[bytes] = []  # the first lines of requests

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.open += 1
        try:
            there, back = await _connect(self._target)
            await asyncio.gather(self._requests(reader, back), self._answers(there, writer))
        except (OSError, ConnectionError):
            pass
        finally:
            self.open -= 1
            for each in (writer, back):
                each.close()

    async def _requests(self, reader: asyncio.StreamReader, back: asyncio.StreamWriter) -> None:
        while data := await reader.read(65_536):
            self.asked.append(data.partition(b"\r\n")[0])
            back.write(data)
            await back.drain()
        raise ConnectionError

    async def _answers(self, there: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        passed = 0
        while data := await there.read(65_536):
            if self.cut_after and passed + len(data) > self.cut_after and self.cuts:
                self.cuts -= 1
                writer.transport.abort()
                raise ConnectionError
            passed += len(data)
            writer.write(data)
            await writer.drain()
            if self.rate:
                await asyncio.sleep(len(data) / self.rate)
        raise ConnectionError


@contextlib.asynccontextmanager
async def line(target: str, path: Path | None = None) -> AsyncIterator[Line]:
    """Run a line to a target: at a port of loopback, or at the socket `path`."""
    made = Line(target)
    if path:
        server = await asyncio.start_unix_server(made._serve, path)
        made.address = f"unix://{path}"
    else:
        server = await asyncio.start_server(made._serve, "127.0.0.1", 0)
        made.address = f"127.0.0.1:{server.sockets[0].getsockname()[1]}"
    try:
        yield made
    finally:
        server.close()


async def _connect(target: str) -> tuple[asyncio.StreamReader, asyncio.StreamWriter]:
    if target.startswith("/"):
        return await asyncio.open_unix_connection(target)
    host, _, port = target.partition(":")
    return await asyncio.open_connection(host, int(port))


def _random(size: int) -> bytes:
    return _layer({f"blob-{os.urandom(4).hex()}": os.urandom(size)})


def _server() -> dict[str, bytes]:
    busybox = shutil.which("busybox")
    assert busybox
    serve = b"#!/bin/busybox sh\nexec /bin/busybox httpd -f -p $SAGEMAKER_BIND_TO_PORT -h /www\n"
    return {"bin/busybox": Path(busybox).read_bytes(), "bin/serve": serve, "www/ping": b"\n"}


def _layer(files: Mapping[str, bytes]) -> bytes:
    return gzip.compress(packing.tar(files), 0)


def _descriptor(kind: str, blob: bytes) -> dict[str, object]:
    return {"mediaType": kind, "size": len(blob), "digest": _digest(blob)}


def _digest(blob: bytes) -> str:
    return f"sha256:{hashlib.sha256(blob).hexdigest()}"


def _wait_for(address: str) -> None:
    host, _, port = address.partition(":")
    for _ in range(1000):
        with contextlib.suppress(OSError), socket.create_connection((host, int(port))):
            return
        time.sleep(0.01)
    raise TimeoutError(f"no registry answers at {address}")
