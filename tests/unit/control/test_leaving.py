"""Control's part in the end of hostler: the engine is asked to leave, and what it cannot do is said."""

from __future__ import annotations

import asyncio
import logging
from pathlib import Path

import pytest

from hostler.control import leaving
from hostler.engines.fake import FakeEngine
from hostler.errors import EngineError

pytestmark = pytest.mark.simulated


class Leaver(FakeEngine):
    """Notes each grace; then does what `outcome` says."""

    def __init__(self, outcome: str = "") -> None:
        super().__init__()
        self.graces: list[float] = []
        self._outcome = outcome

    async def leave(self, grace: float) -> None:
        self.graces.append(grace)
        if self._outcome == "hang":
            await asyncio.Event().wait()
        if self._outcome:
            raise EngineError(self._outcome)


async def test_a_control_that_ends_alone_leaves_everything_running(tmp_path: Path) -> None:
    engine = Leaver()
    await leaving.leave(tmp_path, engine)
    assert engine.graces == []


async def test_when_hostler_ends_the_engine_leaves_with_the_grace_that_was_announced_last(
    tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    engine = Leaver()
    leaving.announce(tmp_path, 5)
    leaving.announce(tmp_path, 0)
    await leaving.leave(tmp_path, engine)
    assert engine.graces == [0]
    assert caplog.records == []


@pytest.mark.parametrize(
    ("outcome", "why"),
    [("Docker does not answer.", "Docker does not answer"), ("hang", "Docker has not stopped them in 15 seconds")],
)
async def test_what_may_be_left_is_said_in_one_line_with_the_command_that_removes_it(
    tmp_path: Path, caplog: pytest.LogCaptureFixture, outcome: str, why: str
) -> None:
    leaving.announce(tmp_path, 5)
    with caplog.at_level(logging.ERROR):
        await leaving.leave(tmp_path, Leaver(outcome))
    assert caplog.messages == [f"containers may be left in Docker, which `hostler gc` removes: {why}"]


def test_without_room_for_the_announcement_nothing_fails(tmp_path: Path) -> None:
    leaving.announce(tmp_path / "nowhere", 5)
    assert leaving.grace(tmp_path / "nowhere") is None
