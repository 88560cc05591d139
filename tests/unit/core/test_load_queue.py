from hostler.core.targets.load_queue import FIRST_TURN, LONGEST_TURN, LoadQueue


def of(*targets: str) -> LoadQueue:
    line = LoadQueue()
    for target in targets:
        line.join(target, first=False)
    return line


def test_first_come_first_served_but_who_tries_again_comes_first():
    line = of("a", "b")
    line.join("c", first=True)
    assert list(line) == ["c", "a", "b"]
    assert line.head == "c"


def test_who_cannot_start_in_its_turn_lets_the_others_pass_and_has_a_longer_turn_next():
    line = of("big", "small")
    assert not line.yield_turn(0.0)
    assert line.ends == FIRST_TURN
    assert line.yield_turn(FIRST_TURN)
    assert list(line) == ["small", "big"]
    assert line.ends is None
    line.leave("small")
    line.join("small", first=False)
    assert not line.yield_turn(10.0)
    assert line.ends == 10.0 + 2 * FIRST_TURN


def test_turns_do_not_grow_for_ever():
    line, now = of("a", "b"), 0.0
    for _ in range(40):
        line.yield_turn(now)
        now = line.ends
        assert line.yield_turn(now)
    line.yield_turn(now)
    assert line.ends == now + LONGEST_TURN


def test_alone_in_line_nobody_needs_to_pass():
    line = of("a")
    assert not line.yield_turn(0.0)
    assert line.ends is None
    assert not line.yield_turn(100.0)
    line.join("b", first=False)
    assert line.yield_turn(100.0)
    assert line.head == "b"


def test_the_turn_of_one_who_left_is_not_charged_to_the_next():
    line = of("a", "b", "c")
    line.yield_turn(0.0)
    line.leave("a")
    assert not line.yield_turn(5.0)
    assert line.head == "b"
