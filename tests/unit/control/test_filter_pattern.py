"""Filter patterns of CloudWatch Logs against messages."""

from __future__ import annotations

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hostler.control.logs.filter_pattern import InvalidPattern, compile

TERMS = [
    ("", "anything", True),
    (" ", "anything", True),
    ('""', "anything", True),
    ("ERROR", "[ERROR] A fatal exception", True),
    ("ERROR", "Exiting with ERRORCODE: -1", True),
    ("ERROR", "[error] A fatal exception", False),
    ("ERROR Exception", "[ERROR] Caught IllegalArgumentException", True),
    ("ERROR Exception", "[ERROR] Caught", False),
    ("ERROR -Exiting", "Exiting with ERRORCODE: -1", False),
    ("ERROR -Exiting", "[ERROR] A fatal exception", True),
    ("-ERROR", "fine", True),
    ("-ERROR", "ERROR", False),
    ('"Failed to process"', "[WARN] Failed to process the request", True),
    ('"Failed to process"', "Failed process to", False),
    ('-"in 5 ms" call', "call in 5 ms", False),
    (r'"say \"hi\" \\ "', r'say "hi" \ ', True),
    ("?ERROR ?WARN", "[WARN] hm", True),
    ("?ERROR ?WARN", "[ERROR] hm", True),
    ("?ERROR ?WARN", "[INFO] hm", False),
    ('?"a b" ?c', "a b", True),
    ("INFO ?WARN", "[INFO] hm", True),  # beside other terms, those with a question mark do not count
]
EVENT = {
    "level": "ERROR", "status": 404, "took": 0.5, "ok": False, "done": True, "nothing": None, "detail-type": "x",
    "user": {"name": "Ann", "tags": ["a", "b"], "id": "1"}, "list": [{"n": 1}, {"n": 2}], "two words": 1,
}  # fmt: skip
JSON = [
    ('{ $.level = "ERROR" }', True),
    ("{$.level=ERROR}", True),
    ('{ $.level = "ERR*" }', True),
    ('{ $.level = "*RR*" }', True),
    ('{ $.level = "*ROR" && $.level = "E*R*R" }', True),
    ('{ $.level = "ERRO" }', False),
    ('{ $.level != "INFO" }', True),
    ('{ $.level != "ERR*" }', False),
    ('{ $.absent != "INFO" }', False),
    ("{ $.status = 404 }", True),
    ("{ $.status = 4* }", True),
    ("{ $.status = 5* }", False),
    ('{ $.status = "404" }', False),
    ("{ $.user.id = 1 }", False),
    ("{ $.status >= 400 && $.status < 500 }", True),
    ("{ $.status > 404 }", False),
    ("{ $.status <= 404 }", True),
    ("{ $.status != 404 }", False),
    ("{ $.took < 1e0 }", True),
    ("{ $.took > -1 }", True),
    ("{ $.level > 1 }", False),
    ("{ $.ok < 5 }", False),
    ("{ $.ok IS FALSE }", True),
    ("{ $.done IS TRUE }", True),
    ("{ $.ok IS TRUE }", False),
    ("{ $.nothing IS NULL }", True),
    ("{ $.level IS NULL }", False),
    ("{ $.absent IS NULL }", False),
    ("{ $.absent NOT EXISTS }", True),
    ("{ $.level NOT EXISTS }", False),
    ("{ $.user.name = Ann }", True),
    ('{ $.user.tags[1] = "b" }', True),
    ('{ $.user.tags[2] = "b" }', False),
    ('{ $.user.tags[*] = "b" }', True),
    ("{ $.list[*].n = 2 }", True),
    ("{ $.list[0].n = 2 }", False),
    ('{ $.detail-type = "x" }', True),
    ("{ $['two words'] = 1 }", True),
    ('{ ($.level = "INFO" || $.status = 404) && $.done IS TRUE }', True),
    ('{ $.level = "INFO" || $.status = 404 && $.done IS FALSE }', False),
    ('{ $.level = "ERROR" || $.status = 1 && $.done IS FALSE }', True),
]  # fmt: skip
INVALID = [
    ("foo-bar", "Invalid character(s) in term '-'"),
    ("Status: timeout", "Invalid character(s) in term ':'"),
    ("café", "Invalid character(s) in term 'é'"),
    ("fn(", "Invalid character(s) in term '('"),
    ("`a", "Invalid character(s) in term '`'"),
    ('"open', "Invalid character(s) in term '\"'"),
    ('{$.a="b"', "If a filter pattern starts with '{' it must end with '}'"),
    ('{ $."sc-status" = 5* }', "Invalid character(s) in term "),
    ("{ }", "Invalid filter pattern"),
    ("{ $.a }", "Invalid filter pattern"),
    ("{ $.a = }", "Invalid filter pattern"),
    ("{ $.a = 1 && }", "Invalid filter pattern"),
    ("{ $ = 1 }", "Invalid character(s) in term '$'"),
    ("{ a = 1 }", "Invalid character(s) in term 'a'"),
    ("{ $.a < x }", "Invalid character(s) in term '<'"),
    ("{ $.a IS 5 }", "Invalid character(s) in term 'IS'"),
    ("{ $.a NOT THERE }", "Invalid"),
    ("{ ($.a = 1 }", "Invalid character(s) in term '('"),
    ("{ $.a = 1 ) }", "Invalid character(s) in term ')'"),
    ("{ $.a = $.b }", "Invalid character(s) in term '$.b'"),
    ("{ " + "(" * 500 + "$.a = 1" + ")" * 500 + " }", "Invalid character(s) in term '('"),
    ("[ip, user, status=4*]", "not hosted"),
    ("%ERR.*%", "not hosted"),
    ("{ $.a = %b+% }", "not hosted"),
]


@pytest.mark.parametrize(("pattern", "message", "matches"), TERMS)
def test_terms_match_messages_that_contain_them(pattern: str, message: str, matches: bool) -> None:
    assert compile(pattern)(message) is matches


@pytest.mark.parametrize(("pattern", "matches"), JSON)
def test_conditions_match_events_that_are_json(pattern: str, matches: bool) -> None:
    assert compile(pattern)(json.dumps(EVENT)) is matches
    assert compile(pattern)(" " + json.dumps(EVENT)) is matches


@pytest.mark.parametrize("message", ["", "no JSON", "{", "[1, 2", '{"a": 1} {"a": 1}', '"text"', "1", "[" * 9999])
def test_conditions_match_nothing_else(message: str) -> None:
    assert not compile("{ $.a = 1 }")(message)
    assert not compile("{ $.a NOT EXISTS }")(message)


@pytest.mark.parametrize(("pattern", "sentence"), INVALID)
def test_other_patterns_are_refused_with_the_reason(pattern: str, sentence: str) -> None:
    with pytest.raises(InvalidPattern) as error:
        compile(pattern)
    assert sentence in str(error.value)


def test_asterisks_cost_time_in_proportion_to_the_message() -> None:
    message = json.dumps({"a": "ab" * 100_000})
    assert not compile('{ $.a = "' + "*a" * 200 + '*c" }')(message)


@given(
    st.text(" {}()[]$.*\"'%?-=!<>&|\\aN1é\n"),
    st.sampled_from(["", "a N1", json.dumps(EVENT), '{"a": {"N1": [1, "a"]}}']),
)
def test_whatever_the_pattern_is_it_is_refused_or_matches_or_does_not(pattern: str, message: str) -> None:
    for text in (pattern, f"{{ $.{pattern} }}", f"{{ $.a {pattern} }}"):
        with contextlib.suppress(InvalidPattern):
            assert compile(text)(message) in (True, False)
