"""Terms: each control's is higher than those of all before it."""

from __future__ import annotations

from pathlib import Path

from hostler.store import lives
from hostler.store.store import Store

NOW = 1_700_000_000.5


def test_each_life_has_a_higher_term_and_the_stores_passkey(tmp_path: Path) -> None:
    for began, term in ((NOW, 1_700_000_000), (NOW + 60, 1_700_000_060), (NOW + 60, 1_700_000_061)):
        store = Store(tmp_path / "hostler.db")
        assert lives.begin(store, began, f"drawn at {began}") == lives.Life(term, f"drawn at {NOW}")
        store.close()


def test_a_term_rises_though_the_clock_is_put_back(tmp_path: Path) -> None:
    store = Store(tmp_path / "hostler.db")
    first = lives.begin(store, NOW, "first")
    assert lives.begin(store, NOW - 3600, "second") == lives.Life(first.term + 1, "first")
    store.close()


def test_a_store_that_is_made_anew_comes_after_the_one_before(tmp_path: Path) -> None:
    lost, new = Store(tmp_path / "lost.db"), Store(tmp_path / "new.db")
    for _ in range(3):
        before = lives.begin(lost, NOW, "lost")
    assert lives.begin(new, NOW + 60, "new").term > before.term
    lost.close()
    new.close()
