"""`hostler lint --image`: start an image in Docker as an endpoint would, and say what would make it fail.

What runs, waits, pings and explains is the code of hosting, in a folder that is removed afterwards. Nothing stays in
Docker but an image that was pulled.
"""

from __future__ import annotations

import asyncio
import re
import tempfile
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field, replace
from functools import partial
from pathlib import Path

from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.empty_source import EmptySource
from hostler.artifacts.source import FileSource
from hostler.cli.lint import Finding, Report
from hostler.core.endpoints.resources import ContainerSpec, ModelSpec, VariantSpec
from hostler.engines import images
from hostler.engines.both import Both
from hostler.engines.docker import labels
from hostler.engines.docker.client import connect, disconnect
from hostler.engines.docker.images import Image, Images
from hostler.engines.docker.opening import open_docker
from hostler.engines.docker.reach import address, reach
from hostler.engines.fake import FakeEngine
from hostler.engines.rooms import Rooms
from hostler.errors import EngineAway, EngineError, UserError
from hostler.hosting import clock
from hostler.hosting.instance import Instance
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.instances import Instances
from hostler.hosting.metrics import Metrics
from hostler.hosting.platform import Platform
from hostler.settings import Settings
from hostler.text import size

_LOOK = 0.1  # seconds between two looks at the container
_GRACE = 3.0  # seconds from SIGTERM to SIGKILL
_NAME = "lint"
_AWSS_SENTENCE = re.compile(r"^(?:The .+? for this endpoint|Please make sure all images .+? to access them)\. ")


@dataclass(frozen=True)
class Trial:
    """How an image is tried. `archive`: becomes its model; `say`: is told how far the pull of the image is."""

    image: str
    settings: Settings
    variables: Mapping[str, str] = field(default_factory=dict)
    archive: Path | None = None
    multi_model: bool = False  # as a container that holds many models
    of_several: bool = False  # beside another container, which runs the same image
    say: Callable[[str], None] = lambda _: None


async def lint_image(trial: Trial) -> Report:
    """Try an image. Raises UserError without a Docker."""
    choice = images.choose(trial.image, trial.settings, has_artifact=trial.archive is not None)
    if choice.server:
        program = f"the command {choice.server.command[0]}" if choice.server.command else "hostler's own server"
        return Report((), f"{program}, in place of the image: there is nothing to start")
    if choice.invalid:
        return Report((Finding("error", "--image", choice.invalid),))
    where = address(trial.settings)
    try:
        await reach(where)
    except EngineAway as error:
        raise UserError(str(error)) from None
    docker = connect(where)
    try:
        image = await Images(docker).get(choice.reference, trial.say)
    except EngineError as error:
        return Report((Finding("error", trial.image, str(error)),))
    finally:
        await disconnect(docker)
    findings = [*_of_facts(trial, image)]
    reason, seconds = await _start(trial)
    if reason:
        return Report((*findings, Finding("error", trial.image, _AWSS_SENTENCE.sub("", reason.replace("\n", " | ")))))
    user = image.user or "root"
    return Report(
        (*findings,),
        f"Docker ({image.platform}, {size(image.size)}, user {user}): it answered its pings after {seconds:.1f} s",
    )


def _of_facts(trial: Trial, image: Image) -> Iterator[Finding]:
    """Yield what the image's description alone shows."""
    lacking = labels.missing(image.labels, multi_model=trial.multi_model, alone=not trial.of_several)
    for label in lacking:
        level = "error" if trial.settings.strict_labels else "warning"
        text = f"{labels.sentence(trial.image, (label,))} In its Dockerfile: LABEL {label}=true"
        yield Finding("error" if level == "error" else "warning", "labels", text)
    if image.platform.split("/")[:2] != image.machine.split("/")[:2]:
        yield Finding(
            "warning", "architecture",
            f"It is for {image.platform}, and Docker's machine is {image.machine}: it runs only if that emulates the"
            f" other. docker build --platform {image.machine}",
        )  # fmt: skip
    if image.user.partition(":")[0] not in ("", "root", "0"):
        yield Finding(
            "warning", "user",
            f"It runs as {image.user}. On AWS /opt/ml is root's, and an archive's files keep their modes: the user must"
            " be able to read them, and can write nothing there. Without USER in its Dockerfile it runs as root.",
        )  # fmt: skip


async def _start(trial: Trial) -> tuple[str, float]:
    """Start an instance; return its FailureReason, or empty, and the seconds until it was ready. Nothing stays."""
    with tempfile.TemporaryDirectory(prefix="hostler-lint-", ignore_cleanup_errors=True) as folder:
        root = str(trial.archive.absolute().parent) if trial.archive else ""
        settings = replace(
            trial.settings, data=Path(folder), file_root=root, engine="auto", images={}, strict_images=True,
            strict_labels=False,
        )  # fmt: skip
        limits = ArchiveLimits(settings.archive_max_bytes, settings.archive_max_files, settings.archive_max_ratio)
        source = FileSource(root, EmptySource())
        rooms = Rooms(settings, ArtifactCache(settings.data / "artifacts", source, settings.disk_budget, limits))
        engine = Both(FakeEngine().connect(rooms), rooms, partial(open_docker, rooms))  # the fake one runs nothing
        changed = asyncio.Event()
        instances = Instances(Platform(settings, engine, rooms.logs, Metrics(), changed.set))
        try:
            return await _until_it_is_clear(instances, _variant(trial), settings.region)
        finally:
            for instance in instances.values():
                instance.retire()
                await instances.end(instance, _GRACE)
            await engine.leave(0)
            await engine.close()


async def _until_it_is_clear(instances: Instances, variant: VariantSpec, region: str) -> tuple[str, float]:
    key = InstanceKey(f"{region}/{_NAME}", _NAME, 1, 1, _NAME, 0, 0, 0)
    instances.start(key, variant)
    instance: Instance = instances[key.id]
    begun = clock.now()
    while instance.state not in ("ready", "ended"):
        await asyncio.sleep(_LOOK)
        await instances.look(lambda _: variant)
    return instance.reason, instance.ready_at - begun


def _variant(trial: Trial) -> VariantSpec:
    url = "s3://none/" if trial.multi_model else ""
    if trial.archive and not trial.multi_model:
        url = f"file://{trial.archive.absolute()}"
    names = ("first", "second") if trial.of_several else ("primary",)
    return VariantSpec(
        _NAME,
        ModelSpec(
            tuple(
                ContainerSpec(
                    name, name if trial.of_several else "", trial.image, url, trial.variables,
                    multi_model=trial.multi_model,
                )
                for name in names
            )
        ),
    )  # fmt: skip
