"""The C library's own count of the heap, read through its ABI: another layout of its struct would fail here."""

from __future__ import annotations

from hostler.servers import memory

SIZE = 2**25


def test_allocated_memory_is_in_use_and_freed_memory_is_not() -> None:
    before = memory.in_use()
    block = b"x" * SIZE
    assert abs(memory.in_use() - before - SIZE) < SIZE / 10
    del block
    memory.trim()
    assert abs(memory.in_use() - before) < SIZE / 10
