"""UpdateEndpoint while callers go on: each is answered by the old containers or by the new ones, and nobody fails."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable, Iterator
from typing import Any

import pytest
import targets
from background_load import Load, load
from botocore.exceptions import ClientError
from callers import Caller
from hop_endpoints import ask, deploy, endpoint, hops, image, mapped, model, names, variant, way, wish
from running import BUCKET, Hostler, eventually, hostler_up

NAMES = ("one", "two", "three")


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler]:
    folder = tmp_path_factory.mktemp("changes")
    with hostler_up(folder / "up", config=mapped(folder, *NAMES), startup_timeout=30) as running:
        yield running


def configure(hostler: Hostler, name: str, *variants: dict[str, Any]) -> None:
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=variants)


def update(hostler: Hostler, name: str, config: str, **more: Any) -> dict[str, Any]:
    """DescribeEndpoint, once the update is through."""
    hostler.sm.update_endpoint(EndpointName=name, EndpointConfigName=config, **more)
    hostler.wait_in_service(name)
    told: dict[str, Any] = hostler.sm.describe_endpoint(EndpointName=name)
    return told


def while_callers_go_on(hostler: Hostler, endpoint: str, happening: Callable[[Load], Awaitable[None]]) -> Load:
    async def run() -> Load:
        async with load(hostler.url, endpoint) as going:
            await going.more(50)
            await happening(going)
            await going.more(50)
        return going

    return asyncio.run(asyncio.wait_for(run(), 180))


def ways(load: Load) -> list[tuple[str, ...]]:
    """The different ways that the callers' bodies went, in the order in which each was seen first."""
    return list(dict.fromkeys(tuple(names(call.answer.body)) for call in load.calls))


def test_updates_to_other_containers_drop_nothing_and_mix_nothing(hostler: Hostler):
    lists = [("one",), ("one", "two"), ("three", "two", "one"), ("two",)]
    for number, containers in enumerate(lists):
        model(hostler, f"list-{number}", hops(*containers))
        configure(hostler, f"list-{number}", variant(f"list-{number}", count=1 + number % 2))
    endpoint(hostler, "lists", variant("list-0"))

    async def slow(of: tuple[str, ...]) -> None:
        """What is under way in the middle of an update ends where it began."""
        async with Caller(hostler.url) as caller:
            answer = await ask(caller, "lists", wish(**{of[0]: {"sleep": 1.0}}))
        assert (answer.status, tuple(names(answer.body))) == (200, of)

    async def change(going: Load) -> None:
        for number in range(1, len(lists)):
            slowly = asyncio.create_task(slow(lists[number - 1]))
            await going.more(8)
            told = await asyncio.to_thread(update, hostler, "lists", f"list-{number}")
            assert (told["EndpointConfigName"], told["EndpointStatus"]) == (f"list-{number}", "InService")
            [shown] = told["ProductionVariants"]
            assert shown["CurrentInstanceCount"] == 1 + number % 2
            assert [i["SpecifiedImage"] for i in shown["DeployedImages"]] == [image(name) for name in lists[number]]
            await going.more(8)  # what was sent before
            assert {tuple(names(call.answer.body)) for call in await going.more(50)} == {lists[number]}
            await slowly

    going = while_callers_go_on(hostler, "lists", change)
    assert going.failed == []
    assert ways(going) == lists
    assert len(hostler.named("hop.py")) > 0
    hostler.sm.delete_endpoint(EndpointName="lists")
    eventually(lambda: not hostler.named("hop.py"), 30, "no container is left", lambda: str(hostler.named("hop.py")))


def test_a_failed_update_leaves_the_old_containers_and_says_why_until_the_next_good_one(hostler: Hostler):
    deploy(hostler, "stays", hops("one", "two"))
    broken = {"Image": image("never-mapped"), "ContainerHostname": "broken"}
    model(hostler, "broken", [*hops("one"), broken])
    configure(hostler, "broken", variant("broken"))
    model(hostler, "mended", hops("one", "three"))
    configure(hostler, "mended", variant("mended"))

    async def change(going: Load) -> None:
        told = await asyncio.to_thread(update, hostler, "stays", "broken")
        assert told["EndpointConfigName"] == "stays"
        assert "never-mapped" in told["FailureReason"]
        await going.more(50)
        assert ways(going) == [("one", "two")]
        told = await asyncio.to_thread(update, hostler, "stays", "mended")
        assert told["EndpointConfigName"] == "mended"
        assert "FailureReason" not in told

    going = while_callers_go_on(hostler, "stays", change)
    assert going.failed == []
    assert ways(going) == [("one", "two"), ("one", "three")]
    hostler.sm.delete_endpoint(EndpointName="stays")


def test_the_same_config_again_starts_the_containers_anew(hostler: Hostler):
    deploy(hostler, "again", hops("one"))
    told = functools.partial(hostler.runtime.invoke_endpoint, EndpointName="again", Body=b"")
    before = way(told()["Body"].read())[1][0]["self"]
    going = while_callers_go_on(hostler, "again", lambda _: asyncio.to_thread(update, hostler, "again", "again"))
    assert going.failed == []
    assert way(told()["Body"].read())[1][0]["self"] != before
    hostler.sm.delete_endpoint(EndpointName="again")


def test_what_is_in_use_may_be_deleted_and_only_an_update_misses_the_config(hostler: Hostler):
    deploy(hostler, "bare", hops("one"))
    model(hostler, "next", hops("two"))
    configure(hostler, "next", variant("next"))
    configure(hostler, "after", variant("next"))
    asked = functools.partial(hostler.runtime.invoke_endpoint, EndpointName="bare", Body=b"")
    hostler.sm.delete_model(ModelName="bare")
    assert names(asked()["Body"].read()) == ["one"]
    assert update(hostler, "bare", "next")["EndpointConfigName"] == "next"
    hostler.sm.delete_model(ModelName="next")
    hostler.sm.delete_endpoint_config(EndpointConfigName="next")
    assert names(asked()["Body"].read()) == ["two"]
    with pytest.raises(ClientError, match=r"Could not find endpoint configuration .*endpoint-config/next"):
        update(hostler, "bare", "after")
    assert names(asked()["Body"].read()) == ["two"]
    hostler.sm.delete_endpoint(EndpointName="bare")


def test_the_targets_that_were_asked_for_most_are_loaded_before_an_update_is_through(hostler: Hostler):
    for number in range(5):
        hostler.put(f"warm/{number}.tar.gz", targets.archive({"name": b"%d" % number}))
    many = {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/warm/"}
    [first, second] = hops("one", "two")
    deploy(hostler, "warm", [first | many])
    model(hostler, "warmer", [second, first | many])
    configure(hostler, "warmer", variant("warmer"))
    for number in (0, 1, 2):
        assert hostler.invoke("warm", f"{number}.tar.gz")

    async def ask_on(number: int) -> list[str]:
        found = []
        async with Caller(hostler.url) as caller:
            for _ in range(2):
                answer = await caller.invoke("warm", f"{number}.tar.gz", b"x")
                assert answer.status == 200
                assert way(answer.body)[1][-1]["model"] == str(number)
                found.append(answer.headers["server-timing"].rpartition("desc=")[2])
        return found

    update(hostler, "warm", "warmer")
    assert [asyncio.run(ask_on(number))[0] for number in (0, 1, 2, 3)] == ["hit", "hit", "hit", "miss"]
    hostler.sm.delete_endpoint(EndpointName="warm")
