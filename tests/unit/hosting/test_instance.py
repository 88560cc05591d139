"""What a FailureReason carries of a container's log."""

from pathlib import Path

import pytest

from hostler.hosting.container import LAST_LINES, last_lines

FOLDER = Path("/home/me/.hostler/containers/1.1.0.0.0")


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("one\ntwo\n", "one\ntwo"),
        (f"no model in {FOLDER}/model/x.json", "no model in /opt/ml/model/x.json"),
        ('File "/home/me/venv/lib/python3.11/site-packages/a/b.py", line 3', 'File "b.py", line 3'),
        ("see https://host/a/b and 1/2 and a/b/c", "see https://host/a/b and 1/2 and a/b/c"),
    ],
)
def test_the_last_lines_tell_nothing_of_this_machines_folders(text: str, shown: str) -> None:
    assert last_lines(text, FOLDER) == shown


def test_a_long_log_is_cut_at_a_line() -> None:
    text = "".join(f"line {number} of the log\n" for number in range(1000))
    shown = last_lines(text, FOLDER)
    assert len(shown) <= LAST_LINES
    assert shown.startswith("line ")
    assert shown.endswith("line 999 of the log")


def test_one_line_without_end_is_cut_anyhow() -> None:
    assert last_lines("x" * 5000, FOLDER) == "x" * LAST_LINES
