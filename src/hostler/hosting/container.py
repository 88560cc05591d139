"""One container of an instance: its artifacts, its launch, its pings, and the facts about it when it fails.

It decides nothing about its instance, which calls it in the right order, and it does not know where or how it runs.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Mapping
from typing import TypeVar

import msgspec

from hostler import contract, names
from hostler.artifacts.storage import Storage
from hostler.core.endpoints import failure_reason
from hostler.core.endpoints.failure_facts import Facts, Ping
from hostler.core.endpoints.resources import ContainerSpec, ModelData
from hostler.engines.engine import ContainerLaunch, ContainerReport
from hostler.engines.sockets import own_addresses
from hostler.errors import ArtifactError
from hostler.hosting import clock
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.platform import Platform
from hostler.wire.http_call import Reply, call
from hostler.wire.http_client import ConnectionPool
from hostler.wire.http_exchange import CallFailed, CallTimedOut

STOOD_STILL = 1.0  # seconds after a call's time is up at which it is ended too late to say anything of the container
LOG_TAIL = 16 * 1024  # bytes at the end of a container's log that are searched for the cause of its failure

Shape = TypeVar("Shape")


class Unfit(Exception):
    """The container, and so its instance, cannot serve (any more); the text is the FailureReason."""


class Container:
    """`position` counts from 0. `budget`: seconds for fetching its artifacts. `alone`: its instance has no other.

    `report`: returns what the engine says of it now.
    """

    def __init__(
        self, platform: Platform, key: InstanceKey, position: int, spec: ContainerSpec, budget: float,
        report: Callable[[], ContainerReport], *, alone: bool,
    ) -> None:  # fmt: skip
        self.id = f"{key.id}.{position}"
        self.position = position
        self.spec = spec
        self.label = spec.label
        self.multi_model = spec.multi_model
        self.storage: Storage  # once its instance is prepared
        self.workers: tuple[str, ...] = ()  # addresses of its processes, if several serve its one model
        self.log = "/".join((key.uid, key.variant, key.aws_id, *([] if alone else [spec.label])))  # stream (§8.7)
        self._budget = budget
        self._platform = platform
        self._key = key
        self._report = report

    @property
    def address(self) -> str:
        """Where it listens, once it runs; empty before."""
        return self._report().address

    @property
    def foreign(self) -> bool:
        """Whether it is none of our servers, once it runs."""
        return not self._report().ours

    def launch(self) -> ContainerLaunch:
        """Return how it is to run."""
        region, _, endpoint = self._key.endpoint_key.partition("/")
        environment = {
            contract.ENV_NO_METADATA: "true",
            **self.spec.environment,
            contract.ENV_REGION: region,
            contract.ENV_DEFAULT_REGION: region,
            contract.ENV_HOSTNAME: self.spec.hostname,
        }
        environment.pop(contract.ENV_MULTI_MODEL, None)  # hostler alone sets it, like the ports (§5.2)
        if self.multi_model:
            environment[contract.ENV_MULTI_MODEL] = "true"
        has_artifact = bool(self.spec.model_data_url)
        return ContainerLaunch(
            self.spec.image, environment, self.multi_model, has_artifact, self.log, endpoint, self.spec.hostname
        )

    async def memory(self) -> int:
        """Return the bytes of memory that it holds; 0: its engine cannot know that."""
        return await self._platform.engine.memory(self._key.id, self.position)

    async def processor_time(self) -> float:
        """Return the seconds of processor time that it has used; 0: its engine cannot know that."""
        return await self._platform.engine.processor_time(self._key.id, self.position)

    async def tail(self, tail: int) -> str:
        """Return the last `tail` bytes of its output."""
        return await self._platform.engine.logs(self._key.id, self.position, tail)

    async def fetch(self) -> None:
        """Fetch its artifacts into its storage. Raises Unfit."""
        url = self.spec.model_data_url
        if url and not self.multi_model:
            await self._fetch(contract.MODEL_DIR, ModelData(url, self.spec.data_form))
        for channel, data in self.spec.channels.items():
            await self._fetch(f"{contract.CHANNELS_DIR}/{channel}", data)
        submitted = self.spec.environment.get(contract.ENV_SUBMIT_DIRECTORY, "")
        if submitted.startswith("s3://"):
            await self._fetch(contract.CODE_DIR, ModelData(submitted))

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None,
        *, timeout: float, pool: ConnectionPool | None = None,
    ) -> Reply:  # fmt: skip
        """Make an HTTP call to it. Raises CallFailed."""
        return await call(self.address, method, path, headers=headers, body=body, timeout=timeout, pool=pool)

    async def trouble(self) -> Ping | None:
        """Check its health: GET /ping, and GET /models right after it if it is multi-model (§5.4). None: healthy."""
        for path in (contract.PING, contract.MODELS) if self.multi_model else (contract.PING,):
            try:
                reply = await self._ask(path)
            except CallFailed as error:
                return Ping(path, timed_out=isinstance(error, CallTimedOut))
            if reply.status != 200:
                return Ping(path, reply.status)
            if path == contract.PING and not self.foreign:
                self._update_workers(reply)
        return None

    async def _ask(self, path: str) -> Reply:
        """GET a page, and again if its time was up while control itself stood still. Raises CallFailed."""
        while True:
            async with self._platform.pings.turn():
                begun = clock.now()
                try:
                    return await self.call("GET", path, timeout=contract.PING_TIMEOUT)
                except CallTimedOut:
                    if clock.now() - begun < contract.PING_TIMEOUT + STOOD_STILL:
                        raise

    def _update_workers(self, reply: Reply) -> None:
        """Take the workers' addresses from the ping of one of our own servers."""
        pinged = decoded(reply, _Pinged)
        workers = own_addresses(self.address, pinged.sockets, pinged.ports)
        if workers != self.workers:
            self.workers = workers
            self._platform.changed()

    async def facts(
        self, *, served: bool, exit: int | None = None, ping: Ping | None = None, when: str = "", cause: str = ""
    ) -> Facts:
        """Collect the facts about it now that it has failed, for failure_reason."""
        left = await self._platform.engine.autopsy(self._key.id, self.position, LOG_TAIL)
        silent = self.foreign and ping is not None and not ping.status
        return Facts(
            self.label,
            ours=not self.foreign,
            served=served,
            exit=exit,
            ping=ping,
            cause=cause,
            when=when,
            port=left.port,
            listening=left.listening if silent else (),
            failure=None if exit is None else left.failure,
            program="" if exit is None else left.program,
            interpreter="" if exit is None else left.interpreter,
            image=self.spec.image,
            log=left.log,
            oom=self._report().oom,
            engine=self._report().engine,
            limit=left.limit,
            loopback=silent and left.loopback,
            platform=left.platform,
            machine=left.machine,
        )

    async def _fetch(self, folder: str, data: ModelData) -> None:
        """Fetch an artifact; repeat it after a transient error, until the budget is used up. Raises Unfit."""
        try:
            bucket, key = names.data_url(data.url)
        except names.UnsafeName as error:
            raise self._not_fetched(data.url, ArtifactError(str(error))) from None
        deadline = clock.now() + self._budget
        pause = 0.2
        while True:
            try:
                await self.storage.fetch_folder(folder, bucket, key, data.form)
                return
            except ArtifactError as error:
                if error.transient and clock.now() + pause < deadline:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 5.0)
                    continue
                raise self._not_fetched(data.url, error) from None

    def _not_fetched(self, url: str, error: ArtifactError) -> Unfit:
        embedded = not self._platform.settings.s3_endpoint
        return Unfit(failure_reason.not_fetched(self.position, url, error, embedded=embedded))


class _Pinged(msgspec.Struct):
    sockets: tuple[str, ...] = ()
    ports: tuple[int, ...] = ()


def decoded(reply: Reply, shape: type[Shape]) -> Shape:
    """Decode a reply's body; return an empty value if it does not have that shape."""
    try:
        return msgspec.json.decode(reply.body, type=shape)
    except msgspec.DecodeError:
        return shape()
