"""What an invocation's headers may hold: the quick look says what the exact rules say, every time."""

from __future__ import annotations

from hypothesis import example, given
from hypothesis import strategies as st

from hostler import contract
from hostler.gateway.errors import InvokeError
from hostler.gateway.invoke.headers import check_headers

# A header that is good and seldom: with it the exact rules are asked.
EXACTLY = {contract.H_PREFIX_AWARE_ID: "x"}
TEXT = st.text(st.characters(max_codepoint=255), max_size=12) | st.sampled_from(["", " ", " a", "a" * 1024, "a" * 1025])
USUAL = st.fixed_dictionaries(
    {"host": TEXT}, optional={"content-type": TEXT, "accept": TEXT, contract.H_TARGET_MODEL: TEXT}
)


def verdict(headers: dict[str, str]) -> str:
    try:
        check_headers(headers)
    except InvokeError as refusal:
        return str(refusal)
    return ""


@given(USUAL)
@example({"host": "h", contract.H_TARGET_MODEL: ""})
@example({"host": "h", contract.H_TARGET_MODEL: " a"})
@example({"host": "h", "accept": " a"})
@example({"host": "h", "accept": "a" * 600, "content-type": "a" * 600})
@example({"host": "\xff", "accept": "\x7f"})
def test_usual_headers_are_judged_as_the_exact_rules_do_and_the_same_each_time(headers: dict[str, str]) -> None:
    assert verdict(headers) == verdict({**headers, **EXACTLY}) == verdict(headers)


def test_a_good_value_is_let_in_and_a_bad_one_named() -> None:
    good = {"content-type": "text/csv", "accept": "*/*", contract.H_TARGET_MODEL: "a/b c.tar.gz"}
    assert verdict(good) == ""
    assert "'contentType'" in verdict({**good, "content-type": "caf\xe9"})
    assert "'accept'" in verdict({**good, "accept": "a" * 1025})
    assert "'targetModel'" in verdict({**good, contract.H_TARGET_MODEL: ""})
