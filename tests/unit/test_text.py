"""Text for people: what is printed of it, and how long it may be."""

from __future__ import annotations

import pytest

from hostler.text import (
    QUOTED,
    escape,
    exact_size,
    hide_all_folders,
    hide_folders,
    is_count,
    printable,
    quoted,
    shorten,
    size,
)


def test_letters_that_could_command_a_terminal_become_question_marks() -> None:
    assert printable("a\x1b[31m\tb\nü") == "a?[31m?b?ü"


def test_named_control_characters_stay() -> None:
    assert printable("a\tb\r\n\x07", "\t\r\n") == "a\tb\r\n?"


@pytest.mark.parametrize(
    ("text", "shown"), [("plain 'text'", "plain 'text'"), ("ü", r"\xfc"), ("a\nb", r"a\nb"), ("ü'\"", r"\xfc\'" + '"')]
)
def test_an_escaped_text_is_printable_ascii(text: str, shown: str) -> None:
    assert escape(text) == shown


def test_of_a_long_text_a_message_quotes_the_beginning() -> None:
    assert quoted("a" * 300) == "a" * QUOTED
    assert quoted("ü" * 300) == r"\xfc" * (QUOTED // 4), "escaped first: what is quoted is no longer for that"


def test_a_text_that_fits_is_not_shortened() -> None:
    assert shorten("a" * 10, 10) == "a" * 10


def test_a_shortened_text_is_as_long_as_it_may_be() -> None:
    assert shorten("a" * 11, 10) == "aaaaaaa..."
    assert shorten("a" * 11, 10, "…'") == "aaaaaaaa…'"


def test_the_kept_length_of_a_shortened_text_can_be_given() -> None:
    assert shorten("a" * 11, 10, kept=10) == "aaaaaaaaaa..."


@pytest.mark.parametrize(
    ("count", "shown"), [(0, "0KiB"), (1536, "2KiB"), (2**20, "1.0MiB"), (5 * 2**19, "2.5MiB"), (2**31, "2.0GiB")]
)
def test_a_size_is_in_its_largest_unit(count: int, shown: str) -> None:
    assert size(count) == shown


def test_a_size_may_be_exact_too() -> None:
    assert exact_size(30, " bytes") == "30 bytes"
    assert exact_size(5 * 2**19, " bytes") == "2621440 bytes (2.5MiB)"
    assert exact_size(2**10) == "1024 (1KiB)"


def test_of_a_path_in_a_private_folder_the_name_is_shown() -> None:
    said = "no '/home/me/a.txt', no /home/mercury/b.txt, no /etc/ssl/c"
    assert hide_folders(said, ["/home/me"]) == "no 'a.txt', no /home/mercury/b.txt, no /etc/ssl/c"


def test_a_path_that_people_named_stays() -> None:
    assert hide_folders("exec /home/me/prog, /home/me/x", ["/home/me"], ["/home/me/prog"]) == "exec /home/me/prog, x"


def test_of_any_path_the_name_is_shown_but_below_one_folder() -> None:
    said = 'no /srv/a.txt, no /opt/ml/model/b; File "/usr/lib/python3.11/json/decoder.py"; s3://bucket/key/c'
    shown = 'no a.txt, no /opt/ml/model/b; File "json/decoder.py"; s3://bucket/key/c'
    assert hide_all_folders(said, but="/opt/ml") == shown


@pytest.mark.parametrize(
    ("text", "counts"),
    [("0", True), ("999999999", True), ("1000000000", False), ("", False), ("-1", False), ("²", False)],
)
def test_a_count_is_a_whole_number_that_stays_small(text: str, counts: bool) -> None:
    assert is_count(text) == counts
