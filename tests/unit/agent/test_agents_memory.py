"""What an agent remembers over its restart."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.agent.memory import Memory, Remembered
from small_disk import small_disk


def test_what_was_noted_is_known_to_the_next_agent(tmp_path: Path) -> None:
    memory = Memory(tmp_path)
    assert memory.now == Remembered()
    memory.note(term=3, started=True)
    memory.note(serving=True)
    assert Memory(tmp_path).now == Remembered(3, True, True)


@pytest.mark.parametrize("content", [b"", b"{", b"[]", b'{"term":"x"}', b"\xff"])
def test_a_file_that_cannot_be_read_counts_as_none(tmp_path: Path, content: bytes) -> None:
    (tmp_path / "agent.json").write_bytes(content)
    memory = Memory(tmp_path)
    assert memory.now == Remembered()
    memory.note(term=1)
    assert Memory(tmp_path).now.term == 1


def test_on_a_full_disk_the_agent_itself_knows_it_still(tmp_path: Path) -> None:
    with small_disk(tmp_path / "disk") as folder:
        memory = Memory(folder)
        memory.note(term=1)
        (folder / "filler").write_bytes(bytes(4 * 2**20 - 8192))
        with pytest.raises(OSError, match="No space"):
            (folder / "more").write_bytes(bytes(2**20))
        memory.note(started=True)
        assert memory.now.started
        assert Memory(folder).now.term == 1  # what was there before is whole
