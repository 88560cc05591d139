"""One container of an instance: its artifacts, its start, its pings, and the facts about it when it fails.

It owns the container's folder and log. It decides nothing about its instance, which calls it in the right order.
"""

from __future__ import annotations

import asyncio
import os
import shutil
import stat
from collections.abc import Callable, Collection, Iterable, Mapping, Sequence
from pathlib import Path
from typing import Any, TypeVar

import msgspec

from hostler import contract, failures, names
from hostler.artifacts.storage import LocalStorage, in_thread
from hostler.core.endpoints import failure_reason
from hostler.core.endpoints.failure_reason import Facts, Ping
from hostler.core.endpoints.resources import ContainerSpec
from hostler.engines import images
from hostler.engines.engine import Launch, Seen
from hostler.errors import ArtifactBad, ArtifactError, ArtifactMissing, EngineError
from hostler.failures import Failure
from hostler.hosting import clock
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.platform import Platform
from hostler.text import hide_folders, printable
from hostler.wire.http_call import Reply, call
from hostler.wire.http_client import Pool
from hostler.wire.http_exchange import CallFailed, CallTimedOut

LOG_TAIL = 16 * 1024  # bytes at the end of a container's log that are searched for the cause of its failure
LABEL = "container"  # the label with a container's position, beside those of its instance's key

Shape = TypeVar("Shape")


class Unfit(Exception):
    """The container, and so its instance, cannot serve (any more); the text is the FailureReason."""


class Container:
    """`position` counts from 0. `budget`: seconds for fetching its artifacts. `alone`: its instance has no other."""

    def __init__(
        self, platform: Platform, key: InstanceKey, position: int, spec: ContainerSpec, budget: float, *, alone: bool,
    ) -> None:  # fmt: skip
        self.id = f"{key.id}.{position}"
        self.position = position
        self.spec = spec
        self.label = spec.label
        self.multi_model = spec.multi_model
        self.seen: Seen | None = None  # as the engine lists it, once it runs
        self.storage: LocalStorage
        self.foreign = False  # not one of our servers
        self.workers: tuple[str, ...] = ()  # addresses of its processes, if several serve its one model
        self._budget = budget
        self._platform = platform
        self._key = key
        self._log = platform.log(key.uid, key.variant, key.id, *([] if alone else [spec.label]))
        self._environment: dict[str, str] = {}
        self._image = images.Server()

    @property
    def address(self) -> str:
        """Where it listens, once it runs."""
        assert self.seen is not None
        return self.seen.address

    async def fetch(self) -> None:
        """Make its folder, and fetch its artifacts into it. Raises Unfit."""
        url = self.spec.model_data_url
        try:
            self._image = images.resolve(self.spec.image, self._platform.settings, has_artifact=bool(url))
        except EngineError as error:
            raise Unfit(str(error)) from None
        self.foreign = bool(self._image.command)
        folder = self._platform.folder(self.id)
        await in_thread(_fresh, folder, self._log, self.multi_model)
        self.storage = LocalStorage(folder, self._platform.disk, copy=self.foreign)
        self._environment = self._complete_environment()
        if url and not self.multi_model:
            await self._fetch(self.storage.fetch_model, url)
        submitted = self._environment.get(contract.ENV_SUBMIT_DIRECTORY, "")
        if submitted.startswith("s3://"):
            code = await self._fetch(self.storage.fetch_code, submitted)
            self._environment[contract.ENV_SUBMIT_DIRECTORY] = code.shown

    async def start(self) -> None:
        """Start it, after `fetch`. Raises Unfit."""
        engine = self._platform.engine
        launch = Launch(
            id=self.id, folder=str(self._platform.folder(self.id)), log=str(self._log), environment=self._environment,
            labels={**self._key.labels(), LABEL: str(self.position)},
            framework=self._image.framework, command=self._image.command,
        )  # fmt: skip
        try:
            await engine.start(launch)
            self.seen = next(seen for seen in await engine.list() if seen.id == self.id)
        except EngineError as error:
            facts = Facts(self.label, cause=f"The container could not be started: {str(error).rstrip('.')}.")
            raise Unfit(failure_reason.unhealthy(self._key.variant, [facts])) from None
        except StopIteration:
            raise Unfit("The container was stopped while it started.") from None
        self.storage.shown = self.seen.base
        self._platform.metrics.containers_started += 1

    def adopt(self, seen: Seen) -> None:
        """Take over a container that an earlier control started."""
        self.seen = seen
        self.foreign = seen.address.startswith("tcp:")
        folder = self._platform.folder(self.id)
        self.storage = LocalStorage(folder, self._platform.disk, copy=self.foreign, shown=seen.base)

    async def stop(self, grace: float) -> None:
        """End it and remove everything that it had, except its log."""
        await self._platform.engine.stop(self.id, grace)
        if hasattr(self, "storage"):
            await self.storage.close()
        await asyncio.to_thread(shutil.rmtree, self._platform.folder(self.id), ignore_errors=True)

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None,
        *, timeout: float, pool: Pool | None = None,
    ) -> Reply:  # fmt: skip
        """Make an HTTP call to it. Raises CallFailed."""
        return await call(self.address, method, path, headers=headers, body=body, timeout=timeout, pool=pool)

    async def trouble(self) -> Ping | None:
        """Check its health: GET /ping, and GET /models right after it if it is multi-model (§5.4). None: healthy."""
        for path in (contract.PING, contract.MODELS) if self.multi_model else (contract.PING,):
            try:
                reply = await self.call("GET", path, timeout=contract.PING_TIMEOUT)
            except CallFailed as error:
                return Ping(path, timed_out=isinstance(error, CallTimedOut))
            if reply.status != 200:
                return Ping(path, reply.status)
            if path == contract.PING and not self.foreign:
                self._update_workers(reply)
        return None

    def _update_workers(self, reply: Reply) -> None:
        """Take the workers' addresses from the ping of one of our own servers."""
        workers = own_sockets(self.address, decoded(reply, _Pinged).sockets)
        if workers != self.workers:
            self.workers = workers
            self._platform.changed()

    def facts(
        self, *, served: bool, exit: int | None = None, ping: Ping | None = None, when: str = "", cause: str = ""
    ) -> Facts:
        """Collect the facts about it now that it has failed, for failure_reason. Blocks for some milliseconds."""
        engine, folder = self._platform.engine, self._platform.folder(self.id)

        def show(text: str) -> str:
            return presentable(text, folder, self._platform.private(), self._image.command)

        program, interpreter = _program(self._image.command) if exit is not None else ("", "")
        address = self.seen.address if self.seen else ""
        silent = self.foreign and ping is not None and not ping.status
        return Facts(
            self.label,
            ours=not self.foreign,
            served=served,
            exit=exit,
            ping=ping,
            cause=cause,
            when=when,
            port=int(address.rpartition(":")[2]) if self.foreign else 0,
            listening=engine.listening(self.seen.pid) if silent and self.seen else (),
            failure=None if exit is None else _shown_failure(failures.read(folder), show),
            program=program,
            interpreter=interpreter,
            log=show(engine.logs(str(self._log), LOG_TAIL)),
        )

    async def _fetch(self, fetch: Callable[[str, str], Any], url: str) -> Any:
        """Fetch an artifact; repeat it after a transient error, until the budget is used up. Raises Unfit."""
        try:
            bucket, key = names.data_url(url)
        except names.UnsafeName as error:
            raise self._not_fetched(url, error) from None
        deadline = clock.now() + self._budget
        pause = 0.2
        while True:
            try:
                return await fetch(bucket, key)
            except ArtifactError as error:
                if error.transient and clock.now() + pause < deadline:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 5.0)
                    continue
                raise self._not_fetched(url, error) from None

    def _not_fetched(self, url: str, error: Exception) -> Unfit:
        missing, bad = isinstance(error, ArtifactMissing), isinstance(error, ArtifactBad)
        embedded = not self._platform.settings.s3_endpoint
        why = f"{str(error).rstrip('.')}."
        return Unfit(failure_reason.not_fetched(self.position, url, why, missing=missing, bad=bad, embedded=embedded))

    def _complete_environment(self) -> dict[str, str]:
        region = self._key.endpoint_key.partition("/")[0]
        environment = {
            **self.spec.environment,
            contract.ENV_REGION: region,
            contract.ENV_DEFAULT_REGION: region,
            contract.ENV_HOSTNAME: self.spec.hostname,
        }
        environment.pop(contract.ENV_MULTI_MODEL, None)  # hostler alone sets it, like the ports (§5.2)
        if self.multi_model:
            environment[contract.ENV_MULTI_MODEL] = "true"
        if not self.foreign:
            environment[contract.ENV_ARTIFACTS] = str(self._platform.settings.data / "artifacts")
        return environment


class _Pinged(msgspec.Struct):
    sockets: tuple[str, ...] = ()


def decoded(reply: Reply, shape: type[Shape]) -> Shape:
    """Decode a reply's body; return an empty value if it does not have that shape."""
    try:
        return msgspec.json.decode(reply.body, type=shape)
    except msgspec.DecodeError:
        return shape()


def own_sockets(address: str, names: Iterable[str]) -> tuple[str, ...]:
    """Return the addresses of a container's further sockets: those of `names` that are sockets in its socket folder.

    A name with a slash, or of a link, is left out: the container chose it.
    """
    folder = Path(address.removeprefix("unix:")).parent
    return tuple(f"unix:{folder / name}" for name in names if address.startswith("unix:") and _is_socket(folder, name))


def _is_socket(folder: Path, name: str) -> bool:
    try:
        return "/" not in name and stat.S_ISSOCK(os.lstat(folder / name).st_mode)
    except (OSError, ValueError):
        return False


def presentable(text: str, folder: Path, private: Iterable[str | Path] = (), named: Collection[str] = ()) -> str:
    """Return a log without empty lines, control characters, and this machine's folders.

    The container's own folder becomes /opt/ml; a path in one of the `private` folders becomes its file name, unless
    people have `named` it themselves; a character that would control a terminal becomes a question mark.
    """
    text = printable(text, "\t\r\n")
    text = "\n".join(filter(str.strip, text.replace(str(folder), contract.BASE_DIR).splitlines()))
    folders = {path for name in private for path in (str(name), os.path.realpath(name))}
    return hide_folders(text, folders, named)


_HEAD = 256  # bytes at the begin of a program in which the system looks for an interpreter


def _program(command: Sequence[str]) -> tuple[str, str]:
    """Return a command's program, and the interpreter in its first line; empty: none, or no such program here."""
    program = command[0] if command else ""
    try:
        with open(shutil.which(program) or program, "rb") as file:
            first = file.read(_HEAD).partition(b"\n")[0]
    except (OSError, ValueError):
        return program, ""
    words = first[2:].decode(errors="replace").split() if first.startswith(b"#!") else []
    return program, words[0] if words else ""


def _shown_failure(failure: Failure | None, show: Callable[[str], str]) -> Failure | None:
    """Make a failure fit to be shown, as a log is; None without a failure or without a line of text in its message."""
    message = show(failure.message).partition("\n")[0] if failure else ""
    if failure is None or not message:
        return None
    advice = " ".join(show(failure.advice).splitlines())
    return msgspec.structs.replace(failure, message=message, advice=advice, line=show(failure.line))


def _fresh(folder: Path, log_file: Path, multi_model: bool) -> None:
    """Make the container's folder anew, empty: an attempt that control did not finish may have left files in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    (folder / (contract.MODELS_DIR if multi_model else contract.MODEL_DIR)).mkdir()  # there also when empty (§5.3)
    log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
