"""Which fault a call or a load meets, and which rules are none."""

from __future__ import annotations

from dataclasses import replace

import pytest

from hostler.core.faults import KINDS, Event, Rule, RuleBook, check

CALL = Event("call", "us-east-1", "ep", "v", "a.tar.gz", ("primary",))


def book(*rules: Rule) -> RuleBook:
    put = RuleBook()
    for number, rule in enumerate(rules):
        put.put(replace(rule, id=rule.id or f"r{number}"), "")
    return put


def met(rules: RuleBook, count: int, event: Event = CALL) -> list[str]:
    """The ids of the faults that so many calls meet, empty for none."""
    return [rule.id if (rule := rules.decide(event)) else "" for _ in range(count)]


def test_without_a_when_every_call_meets_the_fault() -> None:
    assert met(book(Rule("ModelError")), 3) == ["r0"] * 3


def test_the_first_calls_meet_it_and_no_other() -> None:
    assert met(book(Rule("ModelError", first=2)), 4) == ["r0", "r0", "", ""]


def test_each_third_call_meets_it() -> None:
    assert met(book(Rule("ModelError", every=3)), 7) == ["", "", "r0", "", "", "r0", ""]


def test_one_seed_draws_one_sequence() -> None:
    drawn = [met(book(Rule("ModelError", probability=0.5, seed=seed)), 64) for seed in (7, 7, 8)]
    assert drawn[0] == drawn[1] != drawn[2]
    assert 16 < drawn[0].count("r0") < 48
    assert met(book(Rule("ModelError", probability=0.5)), 64) == met(
        book(Rule("ModelError", probability=0.5, seed=0)), 64
    )
    assert met(book(Rule("ModelError", probability=0.0)), 9) == [""] * 9
    assert met(book(Rule("ModelError", probability=1.0)), 9) == ["r0"] * 9


def test_the_first_rule_that_applies_wins_and_those_behind_it_do_not_see_the_call() -> None:
    rules = book(Rule("ModelError", first=2), Rule("ThrottlingException", first=2), Rule("ServiceUnavailable"))
    assert met(rules, 5) == ["r0", "r0", "r1", "r1", "r2"]
    assert [(placed.seen, placed.applied) for placed in rules] == [(5, 2), (3, 2), (1, 1)]


@pytest.mark.parametrize(
    "other",
    [{"region": "eu-west-1"}, {"endpoint": "EP"}, {"variant": "w"}, {"target": "b.tar.gz"}, {"container": "second"}],
    ids=lambda other: next(iter(other)),
)
def test_a_rule_does_not_see_what_it_does_not_name(other: dict[str, str]) -> None:
    rules = book(Rule("ModelError", **other))
    assert met(rules, 1) == [""]
    assert [placed.seen for placed in rules] == [0]


def test_a_rule_sees_a_call_that_has_all_that_it_names() -> None:
    named = Rule("ModelError", region="us-east-1", endpoint="ep", variant="v", target="a.tar.gz", container="second")
    assert met(book(named), 1, replace(CALL, containers=("first", "second"))) == ["r0"]


@pytest.mark.parametrize("effect", KINDS)
def test_an_effect_has_its_occasions(effect: str) -> None:
    seen = {o for o in ("call", "stream", "load") if book(Rule(effect)).decide(replace(CALL, occasion=o))}  # type: ignore[arg-type]
    loads = effect in ("SlowLoad", "LoadFailed")
    calls = not loads and effect not in ("ModelStreamError", "InternalStreamFailure")
    streams = not loads and effect not in ("ModelNotReadyException", "InternalDependencyException")
    assert seen == {name for name, sees in (("call", calls), ("stream", streams), ("load", loads)) if sees}


def test_a_rule_of_the_same_id_begins_anew_and_behind_the_others() -> None:
    rules = book(Rule("ModelError", id="a", first=1), Rule("ThrottlingException", id="b"))
    assert met(rules, 2) == ["a", "b"]
    rules.put(Rule("ModelError", id="a", first=1), "")
    assert met(rules, 1) == ["b"]
    assert [(placed.rule.id, placed.seen) for placed in rules] == [("b", 2), ("a", 0)]


def test_rules_go_by_id_and_by_endpoint() -> None:
    rules = RuleBook()
    rules.put(Rule("ModelError", id="a", endpoint="ep"), "uid1")
    rules.put(Rule("ModelError", id="b", endpoint="other"), "uid2")
    rules.put(Rule("ModelError", id="c"), "")
    assert rules.of_endpoints({"uid1", "", "unknown"}) == ["a"]
    assert rules.remove(["a", "a", "unknown"]) == ["a"]
    assert len(rules) == 2
    assert "a" not in rules
    assert "b" in rules


def test_a_rule_is_described_by_the_members_that_are_given() -> None:
    rule = Rule("ModelError", id="a", status=500, message="", probability=0.0, after=None)
    assert rule.described() == {"effect": "ModelError", "id": "a", "status": 500, "message": "", "probability": 0.0}


GOOD = [
    Rule("ModelError", id="a.B-c_9", status=415, message="x" * 2048, first=1),
    Rule("SlowAnswer", seconds=0.0),
    Rule("SlowLoad", seconds=360.0, lifetime=0.5),
    Rule("TruncatedAnswer", after=10, probability=0.5, seed=-3),
    Rule("ModelStreamError", after=0, code="StreamBroken", every=2),
    Rule("LoadFailed", status=507),
]


@pytest.mark.parametrize("rule", GOOD, ids=lambda rule: rule.effect)
def test_a_good_rule_passes(rule: Rule) -> None:
    check(rule)


BAD = [
    (Rule("ModelError", id="a b"), "id must have 1 to 64 letters, digits, dots, hyphens and underscores."),
    (Rule("ModelError", id="x" * 65), "id must have 1 to 64"),
    (Rule("ModelError", seconds=1.0), "ModelError does not take seconds; its members are message, status."),
    (Rule("ContainerKilled", status=500), "ContainerKilled does not take status; its members are none of its own."),
    (Rule("ModelNotReadyException", message="x"), "ModelNotReadyException does not take message"),
    (Rule("ModelError", status=200), "status must be between 300 and 599."),
    (Rule("ModelError", status=600), "status must be between 300 and 599."),
    (Rule("LoadFailed", status=409), "A load that is answered with 409 has not failed"),
    (Rule("ModelError", message="x" * 2049), "message must have at most 2048 characters."),
    (Rule("SlowAnswer"), "seconds is missing."),
    (Rule("SlowAnswer", seconds=-1.0), "seconds must be between 0 and"),
    (Rule("SlowAnswer", seconds=float("nan")), "seconds must be between 0 and"),
    (Rule("SlowLoad", seconds=361.0), "seconds must be between 0 and 360."),
    (Rule("TruncatedAnswer", after=-1), "after must be between 0 and"),
    (Rule("ModelError", first=1, every=2), "Give one of first, every and probability"),
    (Rule("ModelError", first=0), "first must be between 1 and"),
    (Rule("ModelError", every=0), "every must be between 1 and"),
    (Rule("ModelError", probability=1.5), "probability must be between 0 and 1."),
    (Rule("ModelError", seed=1), "seed goes with probability."),
    (Rule("ModelError", lifetime=0.0), "lifetime must be more than 0 seconds"),
    (Rule("ModelError", lifetime=float("inf")), "lifetime must be more than 0 seconds"),
]


@pytest.mark.parametrize(("rule", "sentence"), BAD)
def test_a_bad_rule_is_told_why(rule: Rule, sentence: str) -> None:
    with pytest.raises(ValueError) as caught:  # noqa: PT011 - the sentence is compared
        check(rule)
    assert str(caught.value).startswith(sentence)
