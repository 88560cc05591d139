"""One container of an instance: its artifacts, its start, its pings, and in which words it fails.

It owns the container's folder and log. It decides nothing about its instance: whoever holds it says what comes when.
"""

from __future__ import annotations

import asyncio
import re
import shutil
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

from hostler import contract, names
from hostler.artifacts.storage import InstanceStorage
from hostler.engines import images
from hostler.engines.engine import Launch, Seen
from hostler.errors import ArtifactError, EngineError
from hostler.hosting import clock
from hostler.hosting.platform import Platform
from hostler.hosting.spot import Spot
from hostler.wire.client import CallFailed, Reply, call

LAST_LINES = 600  # characters of a container's log that a FailureReason carries
LABEL = "container"  # the label that holds a container's position, beside its spot's


class Unfit(Exception):
    """The container, and so its instance, is of no use (any more); the text is its reason."""


class Container:
    """`position` counts from 0. `label` is its name for people: its hostname, or `primary` where it is alone (§4.5)."""

    def __init__(
        self, platform: Platform, spot: Spot, position: int, label: str, definition: dict[str, Any], budget: float
    ) -> None:
        self.id = f"{spot.id}.{position}"
        self.position = position
        self.label = label
        self.definition = definition  # ContainerDefinition, as it came
        self.multi_model = definition.get("Mode") == "MultiModel"
        self.seen: Seen | None = None  # what the engine says of it, once it runs
        self.storage: InstanceStorage
        self.foreign = False  # not one of our servers
        self._budget = budget  # seconds for its artifacts to come
        self._platform = platform
        self._spot = spot
        self._log = platform.logs(spot.uid) / f"{self.id}.log"
        self._environment: dict[str, str] = {}
        self._image = images.Server()

    @property
    def address(self) -> str:
        """Where it listens. Only once it runs."""
        assert self.seen is not None
        return self.seen.address

    async def fetch(self) -> None:
        """Make its folder and bring its artifacts there. Raises Unfit."""
        definition, settings = self.definition, self._platform.settings
        url = definition.get("ModelDataUrl") or _data_source(definition)
        try:
            self._image = images.resolve(definition["Image"], settings, has_artifact=bool(url))
        except EngineError as error:
            raise Unfit(str(error)) from None
        self.foreign = bool(self._image.command)
        folder = self._platform.folder(self.id)
        await asyncio.to_thread(_fresh, folder, self._log, self.multi_model)
        self.storage = InstanceStorage(folder, self._platform.disk, copy=self.foreign)
        self._environment = self._complete_environment()
        if url and not self.multi_model:
            await self._fetch(self.storage.fetch_model, url)
        submitted = self._environment.get(contract.ENV_SUBMIT_DIRECTORY, "")
        if submitted.startswith("s3://"):
            code = await self._fetch(self.storage.fetch_code, submitted)
            self._environment[contract.ENV_SUBMIT_DIRECTORY] = str(code)

    async def start(self) -> None:
        """Start it, after `fetch`. Raises Unfit."""
        engine = self._platform.engine
        launch = Launch(
            id=self.id, folder=str(self._platform.folder(self.id)), log=str(self._log), environment=self._environment,
            labels={**self._spot.labels(), LABEL: str(self.position)},
            framework=self._image.framework, command=self._image.command,
        )  # fmt: skip
        try:
            await engine.start(launch)
            self.seen = next(seen for seen in await engine.list() if seen.id == self.id)
        except EngineError as error:
            raise Unfit(f"The container could not be started: {error}") from None
        except StopIteration:
            raise Unfit("The container was stopped while it started.") from None
        self._platform.metrics.containers_started += 1

    def adopt(self, seen: Seen) -> None:
        """Take over what an earlier control started."""
        self.seen = seen
        self.foreign = seen.address.startswith("tcp:")
        self.storage = InstanceStorage(self._platform.folder(self.id), self._platform.disk, copy=self.foreign)

    async def stop(self, grace: float) -> None:
        """End it and remove all that it had, but for its log."""
        await self._platform.engine.stop(self.id, grace)
        if hasattr(self, "storage"):
            await asyncio.to_thread(self.storage.close)
        await asyncio.to_thread(shutil.rmtree, self._platform.folder(self.id), ignore_errors=True)

    async def call(
        self, method: str, path: str, body: bytes = b"", headers: Mapping[str, str] | None = None, *, timeout: float
    ) -> Reply:
        """An HTTP call to it. Raises CallFailed."""
        return await call(self.address, method, path, headers=headers, body=body, timeout=timeout)

    async def trouble(self) -> str | None:
        """One round of health: GET /ping, and for multi-model GET /models right after it (§5.4). None: all is well."""
        for path in (contract.PING, contract.MODELS) if self.multi_model else (contract.PING,):
            try:
                reply = await self.call("GET", path, timeout=contract.PING_TIMEOUT)
            except CallFailed:
                return f"GET {path} was not answered"
            if reply.status != 200:
                return f"GET {path} was answered with {reply.status} instead of 200"
        return None

    def failure(self, cause: str) -> str:
        """AWS's sentence first, then the cause, then what the container said last."""
        said = last_lines(self._platform.engine.logs(str(self._log), 4 * LAST_LINES), self._platform.folder(self.id))
        return (
            f"The {self.label} container for production variant {self._spot.variant} did not pass the ping health"
            f" check. Please check CloudWatch logs for this endpoint. {cause}"
            + (f" Its last lines: {said}" if said else " It wrote nothing to its log.")
        )

    async def _fetch(self, fetch: Callable[[str, str], Any], url: str) -> Any:
        """Fetch an artifact, again and again while the trouble may pass, until the budget is used up."""
        where = names.s3_url(url)
        deadline = clock.now() + self._budget
        pause = 0.2
        while True:
            try:
                return await fetch(*where)
            except ArtifactError as error:
                if error.transient and clock.now() + pause < deadline:
                    await asyncio.sleep(pause)
                    pause = min(2 * pause, 5.0)
                    continue
                raise Unfit(
                    f'Failed to download model data for container "container_{self.position + 1}" from URL: "{url}".'
                    " Please ensure that there is an object located at the URL and that the role passed to CreateModel"
                    f" has permissions to download the object. {error}"
                ) from None

    def _complete_environment(self) -> dict[str, str]:
        region = self._spot.key.partition("/")[0]
        environment = {
            **self.definition.get("Environment", {}),
            contract.ENV_REGION: region,
            contract.ENV_DEFAULT_REGION: region,
        }
        if self.multi_model:
            environment[contract.ENV_MULTI_MODEL] = "true"
        if not self.foreign:
            environment[contract.ENV_ARTIFACTS] = str(self._platform.settings.data / "artifacts")
        return environment


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
