"""Answers without a model: a table that control has put into the container's folder (the setting canned_answers)."""

from __future__ import annotations

import fnmatch
from collections.abc import Sequence
from pathlib import Path

import msgspec

from hostler.contract import H_TARGET_MODEL
from hostler.servers.frameworks.predictor import Call, Rejected, Reply

FRAMEWORK = "canned"
FILE = "hostler-answers.json"  # in the container's base folder


class Answer(msgspec.Struct, frozen=True):
    """The answer to calls whose target and Content-Type match the patterns; `*` matches any, and none."""

    target: str
    content_type: str
    status: int
    body: bytes
    type: str
    headers: dict[str, str]


_ANSWERS = msgspec.json.Decoder(tuple[Answer, ...])  # made before threads decode (see s3/buckets.py)


def save(answers: Sequence[Answer], base: Path) -> None:
    """Put the answers of an endpoint into a container's folder."""
    (base / FILE).write_bytes(msgspec.json.encode(answers))


def load(base: Path) -> Canned:
    return Canned(_ANSWERS.decode((base / FILE).read_bytes()))


class Canned:
    """A Predictor that predicts nothing: the first answer that fits is the reply."""

    max_batch = 1

    def __init__(self, answers: Sequence[Answer]) -> None:
        self._answers = answers

    def predict(self, calls: Sequence[Call]) -> list[Reply | Exception]:
        return [self._reply(call) for call in calls]

    def _reply(self, call: Call) -> Reply | Exception:
        target = call.headers.get(H_TARGET_MODEL, "")
        for answer in self._answers:
            if fnmatch.fnmatchcase(target, answer.target) and fnmatch.fnmatchcase(
                call.content_type, answer.content_type
            ):
                return Reply(answer.status, answer.body, answer.type, tuple(answer.headers.items()))
        of_target = f" of the target {target!r}" if target else ""
        return Rejected(
            404, f"There is no canned answer to a call{of_target} with the Content-Type {call.content_type!r}."
        )
