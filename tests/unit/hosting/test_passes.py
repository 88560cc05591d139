"""The reconciler's passes: what one that fails leaves in the log."""

from __future__ import annotations

import asyncio

import pytest

from hostler.errors import ApiError
from hostler.hosting.passes import Passes

pytestmark = pytest.mark.simulated


@pytest.mark.parametrize(
    ("error", "traceback"), [(ApiError("ServiceUnavailable", "The disk is full.", 503), False), (KeyError("x"), True)]
)
async def test_a_pass_that_fails_for_a_reason_in_words_logs_these_words_alone(
    caplog: pytest.LogCaptureFixture, error: Exception, traceback: bool
) -> None:
    async def fail() -> float | None:
        raise error

    passes = Passes(asyncio.Event())
    running = asyncio.create_task(passes.run(fail))
    await passes.next()
    running.cancel()
    (record,) = caplog.records
    assert bool(record.exc_info) == traceback
    assert ("The disk is full." in record.getMessage()) != traceback
