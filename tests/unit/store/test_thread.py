"""Calls of the store by its thread: a change that cannot be stored is an error of AWS's form, and leaves nothing."""

from __future__ import annotations

from pathlib import Path

import pytest
from sqlalchemy import event

from hostler.errors import ApiError
from hostler.store.records import Record
from hostler.store.store import Store
from hostler.store.thread import StoreThread


async def test_a_full_disk_is_an_error_and_loses_no_stored_record(tmp_path: Path) -> None:
    store = Store(tmp_path / "hostler.db")
    thread = StoreThread(store)
    small = Record("us-east-1", "small", "arn:small", 1.0, {})
    large = Record("us-east-1", "large", "arn:large", 1.0, {"Environment": {"A": "x" * 1_000_000}})
    try:
        await thread.call(store.create_record, "model", small, {})
        event.listen(store.database, "begin", lambda connection: connection.exec_driver_sql("PRAGMA max_page_count=1"))
        with pytest.raises(ApiError, match=r"disk is full\. Make room") as caught:
            await thread.call(store.create_record, "model", large, {})
        assert (caught.value.code, caught.value.status) == ("ServiceUnavailable", 503)
        assert await thread.call(store.record, "model", "us-east-1", "small") == small
        assert await thread.call(store.record, "model", "us-east-1", "large") is None
    finally:
        thread.close()
