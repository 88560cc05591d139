"""The one way to the store: what cannot be kept is said as AWS says it, and leaves nothing behind."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import event

from hostler.control.context import Context
from hostler.errors import ApiError
from hostler.settings import Settings
from hostler.store.records import Record
from hostler.store.store import Store


def test_a_full_disk_is_told_and_what_was_kept_stays(tmp_path: Path) -> None:
    store = Store(tmp_path / "hostler.db")
    nobody: Any = None
    context = Context(Settings(), store, nobody, nobody, bytes, nobody, lambda: True, lambda: 0.0)
    small = Record("us-east-1", "small", "arn:small", 1.0, {})
    large = Record("us-east-1", "large", "arn:large", 1.0, {"Environment": {"A": "x" * 1_000_000}})

    async def story() -> None:
        await context.store_call(store.create_record, "model", small, {})
        event.listen(store._engine, "begin", lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1"))
        with pytest.raises(ApiError, match=r"disk is full\. Make room") as caught:
            await context.store_call(store.create_record, "model", large, {})
        assert (caught.value.code, caught.value.status) == ("ServiceUnavailable", 503)
        assert await context.store_call(store.record, "model", "us-east-1", "small") == small
        assert await context.store_call(store.record, "model", "us-east-1", "large") is None

    try:
        asyncio.run(story())
    finally:
        context.close()
