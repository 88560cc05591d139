"""The images of one Docker: whether one is there, what it is, and its pull, once for all who wait for it."""

from __future__ import annotations

import asyncio
import json
import logging
import os
from collections.abc import AsyncIterator, Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

import aiohttp
import msgspec
from aiodocker import Docker

from hostler.engines import references
from hostler.engines.docker import credentials, pull_failures
from hostler.engines.docker.client import QUICK, DockerRefused, ask
from hostler.engines.docker.pull_progress import PullProgress
from hostler.engines.pull_log import PullLog
from hostler.engines.references import Reference
from hostler.errors import EngineError

logger = logging.getLogger("hostler.images")

Say = Callable[[str], None]  # is told how far a pull has come, in words


@dataclass(frozen=True)
class Image:
    """An image that Docker has."""

    id: str  # by which a container of just this image is made
    resolved: str  # repository@sha256:…; the id if it never was in a registry under its name
    labels: Mapping[str, str]
    platform: str  # such as linux/amd64
    machine: str  # Docker's own platform
    program: tuple[str, ...]  # ENTRYPOINT, before the word `serve` takes the place of CMD
    user: str
    size: int  # bytes


@dataclass
class _Pull:
    task: asyncio.Task[None]
    waiting: list[Say] = field(default_factory=list)
    said: str = ""


class Images:
    """Sends requests about images to Docker, and has it send them to registries."""

    def __init__(self, docker: Docker, environ: Mapping[str, str] = os.environ) -> None:
        """`environ`: says where the Docker configuration is."""
        self._docker = docker
        self._environ = environ
        self._pulls: dict[str, _Pull] = {}
        self._machine = ""

    async def get(self, image: str, say: Say) -> Image:
        """Return an image: the one that Docker has, else after a pull, of which `say` is told.

        Many who wait for one image wait for one pull; it is cancelled when nobody waits any more. Raises EngineError;
        ImageMissing if the pull failed.
        """
        reference = references.parse(image)
        if (found := await self.present(image)) is not None:
            return found
        key = str(reference)
        pull = self._pulls.get(key)
        if pull is None:
            pull = self._pulls[key] = self._begin(reference)
        pull.waiting.append(say)
        say(pull.said)
        try:
            await asyncio.shield(pull.task)
        finally:
            pull.waiting.remove(say)
            if not pull.waiting and self._pulls.get(key) is pull:
                del self._pulls[key]
                pull.task.cancel()
        if (found := await self.present(image)) is None:
            raise pull_failures.docker_gone(image)
        return found

    async def present(self, image: str) -> Image | None:
        """Return what an image is, if Docker has it. Raises EngineError."""
        reference = references.parse(image)
        try:
            self._machine = self._machine or await self._platform()
            found = await ask(self._docker.images.inspect(str(reference)))
        except DockerRefused as error:
            if error.status == 404:
                return None
            raise
        return _described(reference, found, self._machine)

    # --- a pull ---------------------------------------------------------------------------------------------------

    def _begin(self, reference: Reference) -> _Pull:
        task = asyncio.create_task(self._pull(reference), name=f"pull {reference}")
        task.add_done_callback(lambda ended: ended.cancelled() or ended.exception())  # also if nobody waits any more
        return _Pull(task, said=str(PullProgress(str(reference))))

    async def _pull(self, reference: Reference) -> None:
        """Pull. Raises ImageMissing. A cancelled pull closes its connection, which has Docker cancel it."""
        image = str(reference)
        login = await credentials.find(reference.registry, self._environ)
        progress, log = PullProgress(image), PullLog(image, partial(self._tell, image), partial(logger.info, "%s"))
        status, message = 0, ""
        try:
            async for report in self._stream(reference, login.header):
                status, message = report.get("status_code", status), report.get("error", "")
                if message:
                    break
                progress.take(report)
                log.say(str(progress))
        except (aiohttp.ClientError, OSError):
            raise pull_failures.docker_gone(image) from None
        if message:
            raise pull_failures.failure(
                image, status, message, self._machine, login.problem, had_credentials=bool(login.header)
            )
        log.ended()

    async def _stream(self, reference: Reference, header: str) -> AsyncIterator[dict[str, Any]]:
        """Yield the messages of a pull. The last one of a pull that failed has `error`, and perhaps `status_code`.

        aiodocker's own pull takes an end of Docker for the end of the pull, and leaves its connection open.
        """
        url = f"{self._docker.docker_host}/{self._docker.api_version}/images/create"
        query = {"fromImage": reference.full, "tag": reference.version}
        headers = {"X-Registry-Auth": header} if header else {}
        forever = aiohttp.ClientTimeout(sock_connect=QUICK)
        async with self._docker.session.post(url, params=query, headers=headers, timeout=forever) as response:
            if response.status >= 400:
                yield {"status_code": response.status, "error": _message(await response.read())}
                return
            async for line in response.content:
                if isinstance(message := _decoded(line), dict):
                    if error := message.get("error"):
                        message["error"] = str(error)
                    yield message

    def _tell(self, key: str, text: str) -> None:
        pull = self._pulls.get(key)
        if pull is not None and text != pull.said:
            pull.said = text
            for say in pull.waiting:
                say(text)

    async def _platform(self) -> str:
        version = msgspec.convert(await ask(self._docker.version()), _Version)
        return f"{version.os}/{version.arch}"


class _Version(msgspec.Struct, rename="pascal"):
    os: str = "linux"
    arch: str = ""


class _Config(msgspec.Struct, rename="pascal"):
    labels: dict[str, str] | None = None
    entrypoint: list[str] | None = None
    user: str = ""


class _Inspected(msgspec.Struct, rename="pascal"):
    """What is read of Docker's answer about an image."""

    id: str
    repo_digests: list[str] | None = None
    config: _Config | None = None
    os: str = "linux"
    architecture: str = ""
    variant: str = ""
    size: int = 0


def _described(reference: Reference, found: object, machine: str) -> Image:
    """Raises EngineError."""
    try:
        inspected = msgspec.convert(found, _Inspected)
    except msgspec.ValidationError as error:
        raise EngineError(f"What Docker says of the image {reference} cannot be read: {error}") from None
    config = inspected.config or _Config()
    digest = next(filter(None, (_digest(entry, reference) for entry in inspected.repo_digests or ())), "")
    return Image(
        id=inspected.id,
        resolved=f"{reference.name}@{digest}" if digest else inspected.id,
        labels=config.labels or {},
        platform="/".join(filter(None, (inspected.os, inspected.architecture, inspected.variant))),
        machine=machine,
        program=tuple(config.entrypoint or ()),
        user=config.user,
        size=inspected.size,
    )


def _digest(entry: str, reference: Reference) -> str:
    """Return the digest of repository@digest if it is the reference's repository."""
    try:
        parsed = references.parse(entry)
    except ValueError:
        return ""
    return parsed.digest if parsed.full == reference.full else ""


def _message(body: bytes) -> str:
    decoded = _decoded(body)
    text = decoded.get("message") if isinstance(decoded, dict) else body.decode(errors="replace")
    return str(text).strip() or "nothing"


def _decoded(line: bytes) -> object:
    try:
        return json.loads(line)
    except ValueError:
        return None
