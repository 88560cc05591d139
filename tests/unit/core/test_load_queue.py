from hostler.core.targets.load_queue import FIRST_TURN, LONGEST_TURN, LoadQueue


def of(*targets: str) -> LoadQueue:
    queue = LoadQueue()
    for target in targets:
        queue.join(target, first=False)
    return queue


def test_first_come_first_served_but_a_target_that_tries_again_comes_first():
    queue = of("a", "b")
    queue.join("c", first=True)
    assert list(queue) == ["c", "a", "b"]
    assert queue.head == "c"


def test_a_target_that_cannot_start_in_its_turn_lets_others_pass_and_has_a_longer_turn_next():
    queue = of("big", "small")
    assert not queue.yield_turn(0.0)
    assert queue.ends == FIRST_TURN
    assert queue.yield_turn(FIRST_TURN)
    assert list(queue) == ["small", "big"]
    assert queue.ends is None
    queue.leave("small")
    queue.join("small", first=False)
    assert not queue.yield_turn(10.0)
    assert queue.ends == 10.0 + 2 * FIRST_TURN


def test_turns_do_not_grow_for_ever():
    queue, now = of("a", "b"), 0.0
    for _ in range(40):
        queue.yield_turn(now)
        now = queue.ends
        assert queue.yield_turn(now)
    queue.yield_turn(now)
    assert queue.ends == now + LONGEST_TURN


def test_a_target_alone_in_the_queue_keeps_its_turn():
    queue = of("a")
    assert not queue.yield_turn(0.0)
    assert queue.ends is None
    assert not queue.yield_turn(100.0)
    queue.join("b", first=False)
    assert queue.yield_turn(100.0)
    assert queue.head == "b"


def test_the_turn_of_a_target_that_left_is_not_charged_to_the_next():
    queue = of("a", "b", "c")
    queue.yield_turn(0.0)
    queue.leave("a")
    assert not queue.yield_turn(5.0)
    assert queue.head == "b"
