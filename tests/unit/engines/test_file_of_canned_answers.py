"""The file of canned answers: the first that matches, an endpoint's own, and errors that name the table."""

from __future__ import annotations

from pathlib import Path

import pytest

from hostler.contract import H_TARGET_MODEL
from hostler.engines import canned_answers
from hostler.errors import UserError
from hostler.servers.frameworks import canned
from hostler.servers.frameworks.predictor import Call, Rejected, Reply

TABLE = """
[[answer]]
endpoint = "prices-*"
target = "a/*.tar.gz"
status = 503
body = "busy"
type = "text/plain"
headers = {x-amzn-sagemaker-custom-attributes = "c"}

[[answer]]
content_type = "text/csv*"
file = "answer.bin"

[[answer]]
endpoint = "others"
body = "[2]"
"""


def write(folder: Path, text: str) -> str:
    (folder / "answer.bin").write_bytes(b"\xff\x00")
    (folder / "answers.toml").write_text(text)
    return str(folder / "answers.toml")


def reply(folder: Path, endpoint: str, content_type: str, target: str = "") -> Reply | Exception:
    canned.save(canned_answers.read(write(folder, TABLE), endpoint), folder)
    headers = {H_TARGET_MODEL: target} if target else {}
    return canned.load(folder).predict([Call(b"", content_type, "", headers)])[0]


def test_the_first_answer_that_matches_counts(tmp_path: Path) -> None:
    busy = Reply(503, b"busy", "text/plain", (("x-amzn-sagemaker-custom-attributes", "c"),))
    assert reply(tmp_path, "prices-1", "text/csv", "a/b.tar.gz") == busy
    of_file = Reply(200, b"\xff\x00", "application/json")
    assert reply(tmp_path, "prices-1", "text/csv; charset=utf-8", "b.tar.gz") == of_file
    assert reply(tmp_path, "others", "text/csv", "a/b.tar.gz") == of_file
    assert reply(tmp_path, "others", "application/json") == Reply(200, b"[2]", "application/json")


def test_a_call_that_none_matches_is_refused_with_what_it_was(tmp_path: Path) -> None:
    refused = reply(tmp_path, "prices-1", "application/json", "b.tar.gz")
    assert isinstance(refused, Rejected)
    assert refused.status == 404
    assert str(refused) == (
        "There is no canned answer to a call of the target 'b.tar.gz' with the Content-Type 'application/json'."
    )


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "missing required field `answer`"),
        ("answer = []", "length >= 1"),
        ("[[answer]]\nbodi = '1'", r"unknown field `bodi` - at `\$.answer\[0\]`"),
        ("[[answer]]\nstatus = 99", ">= 200"),
        ("[[answer]]\nbody = 1", "Expected `str`"),
        ("[[answer]]\nbody = '1'\nfile = 'a'", "either a body or a file"),
        ("[[answer]]\nheaders = {Content-Length = '3'}", r"the header Content-Length is none .* at `\$.answer\[0\]`"),
        ("[[answer]]\nheaders = {'a b' = '1'}", "'a b' with the value '1' cannot be a header"),
        ("[[answer]]\nheaders = {'' = '1'}", "'' with the value '1' cannot be a header"),
        ('[[answer]]\nheaders = {a = "1\\r\\nb: 2"}', "'a' with the value .* cannot be a header"),
        ('[[answer]]\ntype = "text/csv\\n"', "'type' with the value .* cannot be a header"),
        ("[[answer]]\nfile = 'none'", "none cannot be read: No such file"),
        ("[[answer", "answers.toml: "),
    ],
)
def test_a_mistake_is_one_line_that_names_it(tmp_path: Path, text: str, reason: str) -> None:
    with pytest.raises(UserError, match=rf"^canned_answers.*{reason}"):
        canned_answers.read(write(tmp_path, text))


def test_a_file_that_is_missing_is_named(tmp_path: Path) -> None:
    with pytest.raises(UserError, match=r"no\.toml cannot be read"):
        canned_answers.read(str(tmp_path / "no.toml"))
