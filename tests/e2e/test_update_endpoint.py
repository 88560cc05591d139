"""UpdateEndpoint under load: the old or the new containers answer each call, and no call fails."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import targets
from background_load import Load, keep_calling
from botocore.exceptions import ClientError
from callers import Caller
from hop_endpoints import (
    call_endpoint,
    create_endpoint,
    create_model,
    deploy,
    hop_names,
    hops,
    image,
    instructions,
    is_logged,
    mapped_config,
    trace,
    variant,
)
from running import BUCKET, Hostler, eventually, hostler_up

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory, in_cell: Hostler | None) -> Iterator[Hostler]:
    if in_cell:
        yield in_cell
        return
    folder = tmp_path_factory.mktemp("changes")
    with hostler_up(folder / "up", config=mapped_config(folder, *NAMES), startup_timeout=120) as running:
        yield running


def configure(hostler: Hostler, name: str, *variants: dict[str, Any]) -> None:
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)


def update(hostler: Hostler, name: str, config: str, **more: Any) -> dict[str, Any]:
    """Update the endpoint; return DescribeEndpoint after the update."""
    hostler.sm.update_endpoint(EndpointName=name, EndpointConfigName=config, **more)
    hostler.wait_in_service(name)
    description: dict[str, Any] = hostler.sm.describe_endpoint(EndpointName=name)
    return description


def under_load(hostler: Hostler, endpoint: str, change: Callable[[Load], Awaitable[None]]) -> Load:
    """Keep calling the endpoint before, during and after the change; return the calls."""

    async def run() -> Load:
        async with keep_calling(hostler.url, endpoint) as load:
            await load.next_calls(50)
            await change(load)
            await load.next_calls(50)
        return load

    return asyncio.run(asyncio.wait_for(run(), 600))


def routes(load: Load) -> list[tuple[str, ...]]:
    """Return the different lists of hops that answered, each once, in order of its first answer."""
    return list(dict.fromkeys(tuple(hop_names(call.answer.body)) for call in load.calls))


def test_updates_to_other_containers_drop_no_call_and_mix_no_pipelines(hostler: Hostler):
    lists = [("one",), ("one", "two"), ("three", "two", "one"), ("two",)]
    for number, containers in enumerate(lists):
        create_model(hostler, f"list-{number}", hops(*containers))
        configure(hostler, f"list-{number}", variant(f"list-{number}", count=1 + number % 2))
    create_endpoint(hostler, "lists", variant("list-0"))

    async def slow(pipeline: tuple[str, ...], line: str) -> None:
        """A call in flight during an update is answered by the pipeline that it was sent to."""
        async with Caller(hostler.url) as caller:
            answer = await call_endpoint(caller, "lists", instructions(**{pipeline[0]: {"sleep": 1.0, "log": line}}))
        assert (answer.status, tuple(hop_names(answer.body))) == (200, pipeline)

    async def change(load: Load) -> None:
        for number in range(1, len(lists)):
            line = f"in flight while list-{number} comes"
            in_flight = asyncio.create_task(slow(lists[number - 1], line))
            await asyncio.to_thread(eventually, functools.partial(is_logged, hostler, line), 60, line)
            description = await asyncio.to_thread(update, hostler, "lists", f"list-{number}")
            assert (description["EndpointConfigName"], description["EndpointStatus"]) == (f"list-{number}", "InService")
            [deployed] = description["ProductionVariants"]
            assert deployed["CurrentInstanceCount"] == 1 + number % 2
            assert [i["SpecifiedImage"] for i in deployed["DeployedImages"]] == [image(name) for name in lists[number]]
            assert {tuple(hop_names(call.answer.body)) for call in await load.calls_from_now(50)} == {lists[number]}
            await in_flight

    load = under_load(hostler, "lists", change)
    assert load.failed == []
    assert routes(load) == lists
    hostler.sm.delete_endpoint(EndpointName="lists")
    hostler.assert_nothing_runs()


def test_a_failed_update_keeps_the_old_containers_and_its_reason_until_the_next_successful_one(hostler: Hostler):
    deploy(hostler, "stays", hops("one", "two"))
    broken = {"Image": image("never-mapped"), "ContainerHostname": "broken"}
    create_model(hostler, "broken", [*hops("one"), broken])
    configure(hostler, "broken", variant("broken"))
    create_model(hostler, "mended", hops("one", "three"))
    configure(hostler, "mended", variant("mended"))

    async def change(load: Load) -> None:
        description = await asyncio.to_thread(update, hostler, "stays", "broken")
        assert description["EndpointConfigName"] == "stays"
        assert "never-mapped" in description["FailureReason"]
        await load.next_calls(50)
        assert routes(load) == [("one", "two")]
        description = await asyncio.to_thread(update, hostler, "stays", "mended")
        assert description["EndpointConfigName"] == "mended"
        assert "FailureReason" not in description

    load = under_load(hostler, "stays", change)
    assert load.failed == []
    assert routes(load) == [("one", "two"), ("one", "three")]
    hostler.sm.delete_endpoint(EndpointName="stays")


def test_an_update_to_the_same_config_starts_new_containers(hostler: Hostler):
    deploy(hostler, "again", hops("one"))
    invoke = functools.partial(hostler.runtime.invoke_endpoint, EndpointName="again", Body=b"")
    before = trace(invoke()["Body"].read())[1][0]["process"]
    load = under_load(hostler, "again", lambda _: asyncio.to_thread(update, hostler, "again", "again"))
    assert load.failed == []
    assert trace(invoke()["Body"].read())[1][0]["process"] != before
    hostler.sm.delete_endpoint(EndpointName="again")


def test_a_model_and_config_in_use_can_be_deleted_and_only_an_update_misses_the_config(hostler: Hostler):
    deploy(hostler, "bare", hops("one"))
    create_model(hostler, "next", hops("two"))
    configure(hostler, "next", variant("next"))
    configure(hostler, "after", variant("next"))
    invoke = functools.partial(hostler.runtime.invoke_endpoint, EndpointName="bare", Body=b"")
    hostler.sm.delete_model(ModelName="bare")
    assert hop_names(invoke()["Body"].read()) == ["one"]
    assert update(hostler, "bare", "next")["EndpointConfigName"] == "next"
    hostler.sm.delete_model(ModelName="next")
    hostler.sm.delete_endpoint_config(EndpointConfigName="next")
    assert hop_names(invoke()["Body"].read()) == ["two"]
    with pytest.raises(ClientError, match=r"Could not find endpoint configuration .*endpoint-config/next"):
        update(hostler, "bare", "after")
    assert hop_names(invoke()["Body"].read()) == ["two"]
    hostler.sm.delete_endpoint(EndpointName="bare")


def test_the_most_requested_targets_are_loaded_before_an_update_ends(hostler: Hostler):
    for number in range(5):
        hostler.put(f"warm/{number}.tar.gz", targets.archive({"name": b"%d" % number}))
    multi_model = {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/warm/"}
    [first, second] = hops("one", "two")
    deploy(hostler, "warm", [first | multi_model])
    create_model(hostler, "warmer", [second, first | multi_model])
    configure(hostler, "warmer", variant("warmer"))
    for number in (0, 1, 2):
        assert hostler.invoke("warm", f"{number}.tar.gz")

    async def invoke_twice(number: int) -> list[str]:
        results = []
        async with Caller(hostler.url) as caller:
            for _ in range(2):
                answer = await caller.invoke("warm", f"{number}.tar.gz", b"x")
                assert answer.status == 200
                assert trace(answer.body)[1][-1]["model"] == str(number)
                results.append(answer.headers["server-timing"].rpartition("desc=")[2])
        return results

    update(hostler, "warm", "warmer")
    assert [asyncio.run(invoke_twice(number))[0] for number in (0, 1, 2, 3)] == ["hit", "hit", "hit", "miss"]
    hostler.sm.delete_endpoint(EndpointName="warm")
