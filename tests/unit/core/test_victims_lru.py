import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.core.targets.victims_lrfu import AdaptiveLrfu
from hostler.core.targets.victims_lru import Lru


def filled(**sizes: int) -> Lru:
    lru = Lru()
    for key, size in sizes.items():
        lru.add(key, size)
    return lru


def test_victims_are_the_least_recently_used():
    lru = filled(a=1, b=1, c=1)
    lru.touch("a")
    assert lru.victims(2) == ["b", "c"]
    assert list(lru) == ["b", "c", "a"]


def test_no_victims_are_named_when_all_together_do_not_suffice():
    lru = filled(a=1, b=2)
    lru.pin("b")
    assert lru.victims(1) == ["a"]
    assert lru.victims(2) is None


def test_nothing_is_evicted_for_nothing():
    assert filled(a=1).victims(0) == []
    assert filled(a=1).victims(-5) == []


def test_small_victims_are_spared_when_a_large_one_suffices():
    assert filled(a=1, b=1, c=10).victims(10) == ["c"]


def test_pins_are_counted():
    lru = filled(a=1)
    lru.pin("a")
    lru.pin("a")
    lru.unpin("a")
    assert lru.first_victim() is None
    lru.unpin("a")
    assert lru.first_victim() == "a"


def test_a_late_report_of_use_is_no_error_but_other_unknown_keys_are():
    lru = filled()
    lru.touch("a")
    for deed in (lru.remove, lru.pin, lru.unpin, lru.size):
        with pytest.raises(KeyError):
            deed("a")
    with pytest.raises(KeyError):
        lru.resize("a", 1)


def test_a_key_is_added_once():
    lru = filled(a=1)
    with pytest.raises(ValueError, match="there already"):
        lru.add("a", 2)
    assert repr(lru) == "<Lru 1 bytes: a 1>"


deeds = st.tuples(st.sampled_from(["add", "touch", "remove", "pin", "unpin", "resize"]), st.sampled_from("abcde"))


@pytest.mark.parametrize("kind", [Lru, AdaptiveLrfu])
@given(steps=st.lists(st.tuples(deeds, st.integers(0, 20)), max_size=60), need=st.integers(0, 60))
def test_totals_are_exact_and_victims_are_unpinned_sufficient_and_none_in_vain(kind, steps, need):
    lru, sizes, pins, order = kind(), {}, {}, []
    for (deed, key), size in steps:
        if deed == "add" and key not in sizes:
            lru.add(key, size)
            sizes[key], pins[key] = size, 0
            order.append(key)
        elif key not in sizes or (deed == "unpin" and not pins[key]) or deed == "add":
            continue
        elif deed == "touch":
            lru.touch(key)
            order.remove(key)
            order.append(key)
        elif deed == "remove":
            lru.remove(key)
            order.remove(key)
            del sizes[key], pins[key]
        elif deed == "resize":
            lru.resize(key, size)
            sizes[key] = size
        else:
            getattr(lru, deed)(key)
            pins[key] += 1 if deed == "pin" else -1
    free = [key for key in order if not pins[key]]
    assert list(lru) == order
    assert len(lru) == len(order)
    assert lru.total == sum(sizes.values())
    assert lru.evictable == sum(sizes[key] for key in free)
    ranked = list(lru.candidates())
    assert sorted(ranked) == sorted(free)
    assert list(lru.candidates()) == ranked
    assert kind is AdaptiveLrfu or ranked == free
    assert lru.first_victim() == (ranked[0] if ranked else None)
    victims = lru.victims(need)
    if victims is None:
        assert need > lru.evictable
    else:
        assert [key for key in ranked if key in victims] == victims
        found = sum(sizes[key] for key in victims)
        assert found >= need
        assert all(found - sizes[key] < need for key in victims)
