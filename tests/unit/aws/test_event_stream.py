"""Frames, as botocore reads them."""

from __future__ import annotations

import json
from typing import Any

import pytest
from botocore.eventstream import EventStreamBuffer

from hostler.aws import event_stream


def read(data: bytes) -> list[Any]:
    buffer = EventStreamBuffer()
    buffer.add_data(data)
    return list(buffer)


@pytest.mark.parametrize("size", [0, 1, 65_536, 1_000_000])
def test_a_part_is_read_as_it_was(size: int) -> None:
    data = bytes(range(256)) * (size // 256) + bytes(size % 256)
    first, second = read(event_stream.part(data) + event_stream.part(b"more"))
    assert first.payload == data
    assert second.payload == b"more"
    assert first.headers == {
        ":message-type": "event",
        ":event-type": "PayloadPart",
        ":content-type": "application/octet-stream",
    }


def test_an_error_says_its_class_its_code_and_its_message() -> None:
    (frame,) = read(event_stream.error("StreamBroken", "It b\u00f6ke."))
    assert frame.headers == {
        ":message-type": "exception",
        ":exception-type": "ModelStreamError",
        ":content-type": "application/json",
    }
    assert json.loads(frame.payload) == {"Message": "It b\u00f6ke.", "ErrorCode": "StreamBroken"}
