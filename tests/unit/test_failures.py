"""The file in which a model server leaves its failure: what is read of it, whoever wrote it."""

from __future__ import annotations

import os
import stat
from pathlib import Path

import msgspec
import pytest

from hostler import failures
from hostler.failures import ADVICE, FILE, Code, Failure

WHOLE = Failure(Code.NO_MODEL_FN, "inference.py has no model_fn", ADVICE[Code.NO_MODEL_FN], "a line", loading=False)
DATA = msgspec.json.encode(WHOLE)


def test_a_failure_that_was_left_is_read_and_is_the_only_file(tmp_path: Path) -> None:
    failures.leave(tmp_path, Failure(Code.OTHER, "an earlier one"))
    failures.leave(tmp_path, WHOLE)
    assert failures.read(tmp_path) == WHOLE
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


def test_a_withdrawn_failure_is_not_read(tmp_path: Path) -> None:
    failures.leave(tmp_path, WHOLE)
    failures.withdraw(tmp_path)
    failures.withdraw(tmp_path)
    assert failures.read(tmp_path) is None


def test_a_folder_that_cannot_be_written_raises_nothing(tmp_path: Path) -> None:
    failures.leave(tmp_path / "nowhere", WHOLE)
    failures.withdraw(tmp_path / "nowhere")
    assert failures.read(tmp_path / "nowhere") is None
    (tmp_path / FILE).mkdir()
    failures.leave(tmp_path, WHOLE)
    failures.withdraw(tmp_path)
    assert [path.name for path in tmp_path.iterdir()] == [FILE]


@pytest.mark.parametrize("size", range(len(DATA)))
def test_a_file_that_is_cut_short_counts_as_none(size: int) -> None:
    assert failures.decoded(DATA[:size]) is None


@pytest.mark.parametrize(
    "data",
    [
        b"the model does not load: why",
        b"null",
        b"[]",
        b"{}",
        b'{"code": "other"}',
        b'{"code": "other", "message": ""}',
        b'{"code": "other", "message": " \\n\\t"}',
        b'{"code": 1, "message": "m"}',
        b'{"code": "other", "message": ["m"]}',
        b'{"code": "other", "message": "m", "loading": "yes"}',
        b'{"code": "other", "message": "\xff\xfe"}',
        b'{"code": "other", "message": "\\ud800"}',
        b"[" * 16_000,
        DATA + b"{}",
        DATA + b" " * failures.SIZE,
    ],
)
def test_a_file_that_is_none_of_ours_counts_as_none(data: bytes, tmp_path: Path) -> None:
    (tmp_path / FILE).write_bytes(data)
    assert failures.read(tmp_path) is None


def test_a_file_of_a_later_version_is_read_as_far_as_it_is_understood() -> None:
    data = b'{"code": "of_tomorrow", "message": "m", "advice": "Do that.", "more": [1]}'
    assert failures.decoded(data) == Failure("of_tomorrow", "m", "Do that.")


def test_a_file_whose_depth_only_some_versions_of_python_decode_is_read_or_counts_as_none() -> None:
    data = b'{"code": "other", "message": "m", "x": ' + b"[" * 8000 + b"]" * 8000 + b"}"
    assert failures.decoded(data) in (None, Failure("other", "m"))


def test_only_a_regular_file_is_read(tmp_path: Path) -> None:
    os.mkfifo(tmp_path / FILE)  # a reader would wait for somebody who writes
    assert failures.read(tmp_path) is None
    (tmp_path / FILE).unlink()
    (tmp_path / FILE).mkdir()
    assert failures.read(tmp_path) is None


def test_a_link_is_not_followed_and_never_written_through(tmp_path: Path) -> None:
    other = tmp_path / "other"
    other.write_bytes(DATA)
    base = tmp_path / "base"
    base.mkdir()
    (base / FILE).symlink_to(other)
    assert failures.read(base) is None
    failures.leave(base, Failure(Code.OTHER, "m"))
    assert other.read_bytes() == DATA
    assert stat.S_ISREG((base / FILE).lstat().st_mode)


def test_every_failure_of_ours_is_small_enough_to_be_read() -> None:
    message = failures.one_line("\U0001f40e" * 9999)
    longest = max(ADVICE.values(), key=len) + "\U0001f40e" * 500
    assert failures.decoded(msgspec.json.encode(Failure(Code.OTHER, message, longest, f"it is: {message}"))) is not None


@pytest.mark.parametrize(
    ("text", "line"),
    [("", ""), (" one\ntwo", "one"), ("x" * 500, "x" * 500), ("x" * 501, "x" * 500 + "..."), ("\n\none\r\n", "one")],
)
def test_a_message_is_one_line_that_is_not_long(text: str, line: str) -> None:
    assert failures.one_line(text) == line


@pytest.mark.parametrize(
    ("module", "package"), [("pandas", "pandas"), ("pandas.core.x", "pandas"), ("p" * 61, "p" * 57 + "...")]
)
def test_a_module_is_installed_by_its_topmost_name(module: str, package: str) -> None:
    assert f"(such as pip install {package})" in failures.install_module(module)
