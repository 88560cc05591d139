"""The lines of a pull in a log."""

from __future__ import annotations

from hostler.engines.pull_log import PERIOD, PullLog


def test_a_pull_has_a_first_line_one_now_and_then_and_its_end():
    now, told, lines = 5.0, list[str](), list[str]()
    log = PullLog("x:1", told.append, lines.append, lambda: now)
    for percent in (0, 1, 2):
        log.say(f"pulling x:1: {percent} %")
    now += PERIOD
    log.say("pulling x:1: 3 %")
    log.say("pulling x:1: 4 %")
    log.ended()
    assert lines == ["pulling x:1: 0 %", "pulling x:1: 3 %", "pulled x:1"]
    assert told[-1] == "pulling x:1: 4 %"
    assert len(told) == 5


def test_an_image_that_was_there_has_no_lines():
    lines: list[str] = []
    PullLog("x:1", lines.append, lines.append).ended()
    assert not lines
