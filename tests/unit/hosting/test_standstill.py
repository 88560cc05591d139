"""A mapped command that will not come up is given up within seconds; one that still works has the whole time."""

from __future__ import annotations

import pytest
from test_instance import Stage, mine, stage, stopped  # noqa: F401 (the fixture)

from hostler.hosting import clock

pytestmark = pytest.mark.simulated

REFUSED = "open '/var/log/server/x': Read-only file system"
LONG = {"ContainerStartupHealthCheckTimeoutInSeconds": 20}


async def reason(stage: Stage, *, log: str = "", ports: tuple[int, ...] = (), work: float = 0.0) -> tuple[float, str]:  # noqa: F811
    """Return after how many seconds the instance has ended, and why. `work`: seconds of work in each second."""
    stage.engine.address = lambda container: "tcp:127.0.0.1:9"  # where nobody listens
    instance = stage.instance(mine(), **LONG)
    id = f"{instance.id}.0"
    stage.engine.text[id], stage.engine.ports[id] = log, ports
    begun = clock.now()

    class Working(dict[str, float]):
        def get(self, key: str, default: float = 0.0) -> float:  # type: ignore[override]
            return work * (clock.now() - begun)

    stage.engine.processor = Working()
    instance.begin()
    await stage.until(instance, "ended")
    seconds = clock.now() - begun
    await stopped(instance)
    return seconds, instance.reason


async def test_one_that_listens_on_the_port_of_the_contract_is_told_its_own(stage: Stage) -> None:  # noqa: F811
    seconds, why = await reason(stage, ports=(8080,))
    assert 5 < seconds < 10
    assert "listens on port 8080, but it was told 9, in SAGEMAKER_BIND_TO_PORT" in why


async def test_one_whose_write_was_refused_is_told_the_folder(stage: Stage) -> None:  # noqa: F811
    seconds, why = await reason(stage, log=REFUSED)
    assert 5 < seconds < 10
    assert 'tmpfs = ["/var/log/server"]' in why


@pytest.mark.parametrize(("log", "ports"), [("", ()), ("it loads", (8081,)), ("", (9, 8080)), (REFUSED, (9,))])
async def test_one_whose_silence_nothing_explains_has_the_whole_time(
    stage: Stage,  # noqa: F811
    log: str,
    ports: tuple[int, ...],
) -> None:
    seconds, _ = await reason(stage, log=log, ports=ports)
    assert seconds > 19


async def test_one_that_works_has_the_whole_time(stage: Stage) -> None:  # noqa: F811
    seconds, _ = await reason(stage, log=REFUSED, ports=(8080,), work=0.1)
    assert seconds > 19
