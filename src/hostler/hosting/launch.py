"""The three steps in which an instance's containers come up: room, artifacts, start. Each raises Unfit.

It owns no state: the instance calls the steps in this order, and knows which containers run already.
"""

from __future__ import annotations

import asyncio
import contextlib
from collections.abc import AsyncIterator, Callable, Iterable, Sequence

from hostler.core.endpoints import failure_reason, image_failure
from hostler.core.endpoints.failure_facts import Facts
from hostler.core.endpoints.resources import VariantSpec
from hostler.engines.engine import Engine, InstanceLaunch, InstanceReport
from hostler.errors import EngineError, ImageMissing, NoCapacity, NotStarted
from hostler.hosting.container import Container, Unfit
from hostler.hosting.instance_key import InstanceKey


async def prepare(
    engine: Engine, key: InstanceKey, variant: VariantSpec, containers: Sequence[Container], seconds: float,
    report: Callable[[], InstanceReport], avoid: tuple[str, ...] = (),
) -> None:  # fmt: skip
    """Have the engine make room, also for what runs already: so each container gets its storage.

    `report`: returns what the engine says of the instance now. Its trouble may change for as long as it takes, such as
    the pull of a large image; it may stay the same for so many `seconds`. `avoid`: machines that do not answer.
    """
    launch = InstanceLaunch(
        key.id, key.labels(), tuple(container.launch() for container in containers),
        variant.model.network_isolation, variant.instance_type, key.spread, avoid,
    )  # fmt: skip
    try:
        async with _while_it_changes(lambda: report().trouble, seconds):
            storages = await engine.prepare(launch)
    except ImageMissing as error:
        raise Unfit(image_failure.missing(key.variant, str(error))) from None
    except NoCapacity as error:
        raise Unfit(failure_reason.no_capacity(str(error))) from None
    except EngineError as error:
        raise Unfit(str(error)) from None
    except TimeoutError:
        raise _no_room(key, report(), seconds) from None
    for container, storage in zip(containers, storages, strict=True):
        container.storage = storage


async def fetch(containers: Iterable[Container]) -> None:
    """Fetch the artifacts of these containers together; the first that fails ends the others, and is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for container in containers:
                group.create_task(container.fetch())
    except ExceptionGroup as failures:  # not `except*`, which raises a group again in Python 3.11.2
        raise failures.exceptions[0] from None


async def start(
    engine: Engine, key: InstanceKey, containers: Sequence[Container], seconds: float,
    report: Callable[[], InstanceReport],
) -> InstanceReport:  # fmt: skip
    """Have the engine start the containers that do not run yet; return what runs. `seconds`, `report`: see prepare."""
    try:
        async with _while_it_changes(lambda: report().trouble, seconds):
            return await engine.start(key.id)
    except TimeoutError:
        raise _no_room(key, report(), seconds) from None
    except ImageMissing as error:
        raise Unfit(image_failure.missing(key.variant, str(error))) from None
    except EngineError as error:
        position = error.position if isinstance(error, NotStarted) else 0
        cause = f"The container could not be started: {str(error).rstrip('.')}."
        facts = Facts(containers[position].label, cause=cause)
        raise Unfit(failure_reason.unhealthy(key.variant, [facts])) from None


def _no_room(key: InstanceKey, report: InstanceReport, seconds: float) -> Unfit:
    return Unfit(failure_reason.no_room(key.variant, report.lack, report.trouble, seconds))


@contextlib.asynccontextmanager
async def _while_it_changes(look: Callable[[], str], seconds: float) -> AsyncIterator[None]:
    """Raise TimeoutError inside once a text, looked at from time to time, has not changed for about so many seconds."""
    loop = asyncio.get_running_loop()
    timer: asyncio.TimerHandle | None = None

    def look_again(last: str) -> None:
        nonlocal timer
        if (now := look()) != last:
            limit.reschedule(loop.time() + seconds)
        timer = loop.call_later(0.9 * seconds, look_again, now)

    async with asyncio.timeout(seconds) as limit:
        timer = loop.call_later(0.9 * seconds, look_again, "")
        try:
            yield
        finally:
            timer.cancel()
