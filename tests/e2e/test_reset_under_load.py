"""A reset while callers are busy: those whose endpoint or bucket goes get the errors of AWS, others notice nothing."""

from __future__ import annotations

import asyncio
import collections
import itertools
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager

from callers import Caller

from hostler.testing import Hostler, running

ROUNDS = 3
Statuses = collections.Counter[int]


def test_a_reset_under_load_is_noticed_by_those_alone_whose_things_are_gone() -> None:
    with running() as hostler:
        hostler.endpoint("kept", answer="kept")
        asyncio.run(_reset_repeatedly(hostler, hostler.contents()))
        assert _groups(hostler) == ["/aws/sagemaker/Endpoints/kept"]
        hostler.reset()
        assert _groups(hostler) == hostler.contents() == []
        assert hostler.page("GET", "/_hostler/endpoints") == {"endpoints": []}


def _groups(hostler: Hostler) -> list[str]:
    return [group["logGroupName"] for group in hostler.client("logs").describe_log_groups()["logGroups"]]


async def _reset_repeatedly(hostler: Hostler, keep: list[str]) -> None:
    invocation = "/endpoints/{}/invocations"
    calls = {
        "kept": lambda number: ("POST", invocation.format("kept")),
        "gone": lambda number: ("POST", invocation.format("gone")),
        "write": lambda number: ("PUT", f"/bucket/folder-{number % 7}/{number}"),
        "read": lambda number: ("GET", f"/bucket/folder-{number % 7}/{number}"),
        "list": lambda number: ("GET", "/bucket?list-type=2"),
    }
    async with asyncio.TaskGroup() as group, _calling(group, hostler.url, calls) as statuses:
        for number in range(ROUNDS):
            await asyncio.to_thread(hostler.send, "PUT", "/bucket")
            await asyncio.to_thread(hostler.endpoint, "gone", answer=str(number))
            seen = {name: statuses[name].total() for name in calls}
            while any(statuses[name].total() < count + 20 for name, count in seen.items()):  # noqa: ASYNC110
                await asyncio.sleep(0.01)
            await asyncio.to_thread(hostler.reset, keep)
            assert hostler.contents() == keep
    assert set(statuses["kept"]) == {200}
    assert set(statuses["gone"]) == {200, 400}
    assert set(statuses["write"]) == {200, 404}
    assert set(statuses["read"]) <= {200, 404}
    assert set(statuses["list"]) == {200, 404}


@asynccontextmanager
async def _calling(group: asyncio.TaskGroup, url: str, calls: dict) -> AsyncIterator[dict[str, Statuses]]:
    """Make each of the calls repeatedly, from two connections, within this context; yield the answers' statuses."""
    statuses: dict[str, Statuses] = {name: collections.Counter() for name in calls}

    async def call(name: str) -> None:
        async with Caller(url) as caller:
            for number in itertools.count():
                method, path = calls[name](number)
                answer = await caller.call(method, path, {"Content-Type": "text/csv"}, b"1")
                statuses[name][answer.status] += 1

    tasks = [group.create_task(call(name)) for name in calls for _ in range(2)]
    yield statuses
    for task in tasks:
        task.cancel()
