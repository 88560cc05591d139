"""What a model's file is by the byte with which it begins: model data alone, or perhaps a user's code."""

from __future__ import annotations

XGBOOST = b"{"  # XGBoost's own formats, JSON and UBJSON; no pickle begins with it
ONNX = b"\x08"  # ONNX: protobuf's tag of a model's first field, ir_version; no pickle begins with it


def is_data(name: str, start: bytes) -> bool:
    """Return whether a file, by its name and its first byte, is certainly data: whoever loads it runs no user's code.

    Not certain, and so False, are scripts, pickles, which name classes, and TorchScript, which holds code.
    """
    return (start == XGBOOST and not name.endswith(".py")) or (start == ONNX and name.endswith(".onnx"))
