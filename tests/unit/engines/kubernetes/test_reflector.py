"""The list that a watch keeps up to date, against servers that end their watches."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Mapping
from typing import Any

import pytest

from hostler.engines.kubernetes.answers import Change, Pod
from hostler.engines.kubernetes.api import Api, Expired
from hostler.engines.kubernetes.reflector import Reflector

pytestmark = pytest.mark.simulated


class Hasty(Api):
    """A server without objects that ends each watch as soon as it has begun. `forgets`: each by 410."""

    def __init__(self, *, forgets: bool) -> None:
        self.watches = 0
        self._forgets = forgets

    async def list(self, path: str, query: Mapping[str, str], kind: type[Any]) -> tuple[list[Any], str]:
        return [], "1"

    async def watch(self, path: str, query: Mapping[str, str], version: str) -> AsyncIterator[Change | None]:
        self.watches += 1
        if self._forgets:
            raise Expired("too old resource version")
        yield None


@pytest.mark.parametrize("forgets", [False, True])
async def test_a_server_that_ends_each_watch_at_once_is_asked_a_few_times_in_a_second(forgets: bool) -> None:
    api = Hasty(forgets=forgets)
    reflector = Reflector(api, "/pods", {}, Pod, lambda _: None)
    running = asyncio.create_task(reflector.run())
    await asyncio.sleep(10)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
    reflector.check()
    assert 10 < api.watches < 100
