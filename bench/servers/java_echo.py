"""The handler of Multi Model Server and of TorchServe that answers a body with itself."""

from __future__ import annotations

from typing import Any


def handle(data: list[dict[str, Any]] | None, context: Any) -> list[bytes] | None:
    return [bytes(data[0]["body"])] if data else None
