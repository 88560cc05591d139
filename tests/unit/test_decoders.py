"""msgspec 0.22 crashes when two threads are the first to decode a type: one reads what the other still builds."""

from __future__ import annotations

import ast
from pathlib import Path

SOURCE = Path(__file__).resolve().parents[2] / "src" / "hostler"
IN_THREADS = [*(path for folder in ("s3", "artifacts", "servers/frameworks") for path in SOURCE.glob(f"{folder}/*.py"))]
IN_THREADS.append(SOURCE / "failures.py")


def test_what_threads_decode_has_a_decoder_before_they_begin() -> None:
    assert len(IN_THREADS) > 10
    late = [
        f"{path.name}:{node.lineno}"
        for path in IN_THREADS
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Call) and any(keyword.arg == "type" for keyword in node.keywords)
        if isinstance(node.func, ast.Attribute) and node.func.attr == "decode"
    ]
    assert late == []
