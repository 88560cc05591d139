"""One instance: its container from artifact to answer, and its health from then on.

It owns the container's folder, log and state. It does not know endpoints' status, other instances or gateways;
whoever holds it is poked (`changed`) when its state moves.
"""

from __future__ import annotations

import asyncio
import logging
import re
import shutil
import signal
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hostler import contract, names
from hostler.artifacts.disk import Disk
from hostler.artifacts.storage import InstanceStorage
from hostler.core.status import INSTANCE, InstanceState
from hostler.engines import images
from hostler.engines.engine import Engine, Launch, Seen
from hostler.errors import ArtifactError, EngineError
from hostler.hosting.metrics import Metrics
from hostler.settings import Settings
from hostler.wire.client import CallFailed, Reply, call

log = logging.getLogger("hostler.instance")

MISSED_PERIOD = 1.0  # seconds to the next ping after one that was missed
MISSES = 3  # pings missed one after another before an instance counts as ended (ours; AWS does not say, §5.4)
SENT_BY_OTHERS = (-signal.SIGKILL, -signal.SIGTERM, 128 + signal.SIGKILL, 128 + signal.SIGTERM)  # 128 +: a wrapper's
LAST_LINES = 600  # characters of a container's log that a FailureReason carries


@dataclass(frozen=True)
class Platform:
    """What every instance stands on."""

    settings: Settings
    engine: Engine
    disk: Disk
    metrics: Metrics
    changed: Callable[[], None]  # poke the reconciler

    def folder(self, instance: str) -> Path:
        return self.settings.data / "containers" / instance

    def logs(self, uid: str) -> Path:
        """The folder of an endpoint's containers' logs."""
        return self.settings.data / "logs" / uid


@dataclass(frozen=True)
class Spot:
    """Where an instance belongs: a slot of a variant of a revision of an endpoint, and which try this is."""

    key: str  # region/EndpointName
    uid: str
    revision: int
    variant: str
    index: int  # of the variant in its config
    slot: int
    attempt: int

    @property
    def id(self) -> str:
        return f"{self.uid}.{self.revision}.{self.index}.{self.slot}.{self.attempt}"

    @property
    def variant_key(self) -> tuple[str, str]:
        return (self.key, self.variant)

    def labels(self) -> dict[str, str]:
        return {name: str(value) for name, value in vars(self).items()}

    @staticmethod
    def from_labels(labels: dict[str, str]) -> Spot:
        numbers = {name: int(labels[name]) for name in ("revision", "index", "slot", "attempt")}
        return Spot(key=labels["key"], uid=labels["uid"], variant=labels["variant"], **numbers)


class _Unfit(Exception):
    """The instance is of no use (any more); the text is its reason."""


class Instance:
    """One running copy of a variant's container. Create it, then `begin()`; `stop()` ends everything it did."""

    def __init__(self, platform: Platform, spot: Spot, variant: dict[str, Any], model: dict[str, Any]) -> None:
        self.spot = spot
        self.id = spot.id
        self.variant = variant  # ProductionVariant, as it came
        self.container = (model.get("Containers") or [model.get("PrimaryContainer")])[0]  # ContainerDefinition
        self.multi_model = self.container.get("Mode") == "MultiModel"
        self.state: InstanceState = "pending"
        self.reason = ""  # why it ended; a sentence for people, AWS's own first
        self.ready_at = 0.0  # monotonic, as ended_at; 0: never
        self.ended_at = 0.0
        self.ended_by_itself = False  # as far as can be told: not by a signal that others send
        self.seen: Seen | None = None  # what the engine says of its container, once that runs
        self.storage: InstanceStorage
        self.foreign = False  # not one of our servers
        self.platform = platform
        self._log = platform.logs(spot.uid) / f"{spot.id}.log"
        self._task: asyncio.Task[None] | None = None

    def __repr__(self) -> str:
        return f"<instance {self.id} {self.state}{' ' + self.reason[:60] if self.reason else ''}>"

    @property
    def lived(self) -> float:
        """How long it was ready before it ended, seconds."""
        return self.ended_at - self.ready_at if self.ready_at else 0.0

    @property
    def address(self) -> str:
        """Where the container listens. Only once it runs."""
        assert self.seen is not None
        return self.seen.address

    def begin(self, adopted: Seen | None = None) -> None:
        """Bring it up, or, with `adopted`, take over a container that an earlier control started."""
        if adopted is not None:
            self._adopt(adopted)
        self._task = asyncio.create_task(self._live(launch=adopted is None), name=f"instance {self.id}")

    def give_up(self, cause: str) -> None:
        """The container runs, but is of no use any more."""
        if self.state == "ready":
            self.ended_by_itself = True
            self._end(self._ping_failure(cause))

    def container_ended(self, seen: Seen) -> None:
        """The engine says that the container has exited."""
        if self.state in ("ended", "stopping", "gone"):
            return
        self.ended_by_itself = seen.exit not in SENT_BY_OTHERS
        self.platform.metrics.containers_ended += 1
        how = f"was ended by signal {-(seen.exit or 0)}" if (seen.exit or 0) < 0 else f"exited with code {seen.exit}"
        when = "" if self.state == "ready" else " before it answered a ping"
        self._end(self._ping_failure(f"The container {how}{when}."))

    def retire(self) -> None:
        """From now on nothing is to be sent there; `stop` follows."""
        self._move("stop")

    async def stop(self, grace: float) -> None:
        """End the container and remove all that it had, but for its log."""
        await self._cancel()
        await self.platform.engine.stop(self.id, grace)
        if hasattr(self, "storage"):
            await asyncio.to_thread(self.storage.close)
        await asyncio.to_thread(shutil.rmtree, self.platform.folder(self.id), ignore_errors=True)
        self._move("gone")

    async def detach(self) -> None:
        """Control leaves; the container goes on."""
        await self._cancel()

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, timeout: float
    ) -> Reply:
        """An HTTP call to the container. Raises CallFailed."""
        return await call(self.address, method, path, headers=headers, body=body, timeout=timeout)

    # --- its life -------------------------------------------------------------------------------------------------

    async def _live(self, launch: bool) -> None:
        try:
            if launch:
                await self._launch()
            await self._until_healthy()
            self.ready_at = time.monotonic()
            self._move("ready")
            await self._while_healthy()
        except _Unfit as failure:
            self._end(str(failure))
        except asyncio.CancelledError:
            raise
        except Exception:
            log.exception("instance %s", self.id)
            self._end("hostler itself failed while it looked after this instance; its own log says more.")

    async def _launch(self) -> None:
        settings, container = self.platform.settings, self.container
        url = container.get("ModelDataUrl") or _data_source(container)
        try:
            image = images.resolve(container["Image"], settings, has_artifact=bool(url))
        except EngineError as error:
            raise _Unfit(str(error)) from None
        self.foreign = bool(image.command)
        folder = self.platform.folder(self.id)
        await asyncio.to_thread(_fresh, folder, self._log, self.multi_model)
        self.storage = InstanceStorage(folder, self.platform.disk, copy=self.foreign)
        self._move("fetch")
        environment = self._environment()
        budget = self.variant.get("ModelDataDownloadTimeoutInSeconds", settings.startup_timeout)
        if url and not self.multi_model:
            await self._fetch(self.storage.fetch_model, url, budget)
        submitted = environment.get(contract.ENV_SUBMIT_DIRECTORY, "")
        if submitted.startswith("s3://"):
            code = await self._fetch(self.storage.fetch_code, submitted, budget)
            environment[contract.ENV_SUBMIT_DIRECTORY] = str(code)
        self._move("start")
        launch = Launch(
            id=self.id, folder=str(folder), log=str(self._log), environment=environment,
            labels=self.spot.labels(), framework=image.framework, command=image.command,
        )  # fmt: skip
        try:
            await self.platform.engine.start(launch)
            self.seen = next(seen for seen in await self.platform.engine.list() if seen.id == self.id)
        except EngineError as error:
            raise _Unfit(f"The container could not be started: {error}") from None
        except StopIteration:
            raise _Unfit("The container was stopped while it started.") from None
        self.platform.metrics.containers_started += 1

    def _adopt(self, seen: Seen) -> None:
        self.seen = seen
        self.foreign = seen.address.startswith("tcp:")
        self.storage = InstanceStorage(self.platform.folder(self.id), self.platform.disk, copy=self.foreign)
        self._move("start")

    async def _fetch(self, fetch: Callable[[str, str], Any], url: str, budget: float) -> Any:
        """Fetch an artifact, again and again while the trouble may pass, until the budget is used up."""
        where = names.s3_url(url)
        deadline = time.monotonic() + budget
        pause = 0.2
        while True:
            try:
                return await fetch(*where)
            except ArtifactError as error:
                if error.transient and time.monotonic() + pause < deadline:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 5.0)
                    continue
                raise _Unfit(
                    f'Failed to download model data for container "container_1" from URL: "{url}". Please ensure that'
                    " there is an object located at the URL and that the role passed to CreateModel has permissions to"
                    f" download the object. {error}"
                ) from None

    def _environment(self) -> dict[str, str]:
        region = self.spot.key.partition("/")[0]
        environment = {
            **self.container.get("Environment", {}),
            contract.ENV_REGION: region,
            contract.ENV_DEFAULT_REGION: region,
        }
        if self.multi_model:
            environment[contract.ENV_MULTI_MODEL] = "true"
        if not self.foreign:
            environment[contract.ENV_ARTIFACTS] = str(self.platform.settings.data / "artifacts")
        return environment

    async def _until_healthy(self) -> None:
        settings = self.platform.settings
        budget = self.variant.get("ContainerStartupHealthCheckTimeoutInSeconds", settings.startup_timeout)
        deadline = time.monotonic() + budget
        pause = 0.01
        while (trouble := await self._trouble()) is not None:
            if time.monotonic() + pause > deadline:
                raise _Unfit(self._ping_failure(f"In {budget:g} seconds, {trouble}."))
            await asyncio.sleep(pause)
            pause = min(1.5 * pause, 0.5)

    async def _while_healthy(self) -> None:
        missed, metrics = 0, self.platform.metrics
        while True:
            await asyncio.sleep(MISSED_PERIOD if missed else contract.PING_PERIOD)
            trouble = await self._trouble()
            metrics.pings += 1
            metrics.pings_missed += trouble is not None
            missed = missed + 1 if trouble else 0
            if missed >= MISSES:
                raise _Unfit(self._ping_failure(f"{MISSES} times in a row, {trouble}."))

    async def _trouble(self) -> str | None:
        """One round of health: GET /ping, and for multi-model GET /models right after it (§5.4)."""
        for path in (contract.PING, contract.MODELS) if self.multi_model else (contract.PING,):
            try:
                reply = await self.call("GET", path, timeout=contract.PING_TIMEOUT)
            except CallFailed:
                return f"GET {path} was not answered"
            if reply.status != 200:
                return f"GET {path} was answered with {reply.status} instead of 200"
        return None

    # --- its state ------------------------------------------------------------------------------------------------

    def _move(self, event: str) -> None:
        self.state = INSTANCE.next(self.state, event, repr(self))
        self.platform.changed()

    def _end(self, reason: str) -> None:
        self.reason = reason
        self.ended_at = time.monotonic()
        log.warning("%s: %s", self.id, reason)
        if self._task is not None and self._task is not asyncio.current_task():
            self._task.cancel()
        self._move("end")

    async def _cancel(self) -> None:
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)

    def _ping_failure(self, cause: str) -> str:
        """AWS's sentence first, then the cause, then what the container said last."""
        said = last_lines(self.platform.engine.logs(str(self._log), 4 * LAST_LINES), self.platform.folder(self.id))
        return (
            f"The primary container for production variant {self.spot.variant} did not pass the ping health check."
            f" Please check CloudWatch logs for this endpoint. {cause}"
            + (f" Its last lines: {said}" if said else " It wrote nothing to its log.")
        )


_FILE = re.compile(r"(?<![\w./:])/(?:[^/\s\"':,]+/)+(?=[^/\s\"':,])")


def last_lines(text: str, folder: Path) -> str:
    """The whole lines at a log's end that a FailureReason has room for, without this machine's folders.

    The container's own folder is /opt/ml for whoever reads it; of any other file only the name is left.
    """
    text = text.replace(str(folder), contract.BASE_DIR).strip()
    text = _FILE.sub(lambda found: found[0] if found[0].startswith(contract.BASE_DIR + "/") else "", text)
    if len(text) > LAST_LINES:
        _, _, whole = text[-LAST_LINES:].partition("\n")
        text = whole or text[-LAST_LINES:]
    return text


def _data_source(container: dict[str, Any]) -> str:
    return str(container.get("ModelDataSource", {}).get("S3DataSource", {}).get("S3Uri", ""))


def _fresh(folder: Path, log_file: Path, multi_model: bool) -> None:
    """The container's own folder, empty: a try that control did not live to end may have left things in it."""
    shutil.rmtree(folder, ignore_errors=True)
    folder.mkdir(parents=True, mode=0o700)
    (folder / (contract.MODELS_DIR if multi_model else contract.MODEL_DIR)).mkdir()  # there also when empty (§5.3)
    log_file.parent.mkdir(parents=True, exist_ok=True, mode=0o700)
