"""Which containers Docker's events were about."""

from __future__ import annotations

from aiodocker import Docker

from hostler.engines.docker.changes import Changes


async def test_any_container_is_to_be_inspected_that_may_have_ended_before_events_were_read() -> None:
    async with Docker("unix:///nowhere") as docker:
        changes = Changes(docker, "a=b")
        first = changes.take_touched()
        assert first.has("x")
        assert not changes.take_touched().has("x")
        changes._take(b'{"id": "x"}')
        touched = changes.take_touched()
        assert touched.has("x")
        assert not touched.has("y")
        changes.give_back(touched)
        changes.give_back(first)
        assert changes.take_touched().has("y")
