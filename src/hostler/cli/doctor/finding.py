"""What the doctor finds: a line for each subject."""

from __future__ import annotations

from typing import Literal, NamedTuple

from hostler.text import printable

Level = Literal["ok", "warning", "error"]


class Finding(NamedTuple):
    """`error`: hostler does not work so; `warning`: a part of it does not. `helps`: what to do, a sentence."""

    level: Level
    subject: str
    says: str
    helps: str = ""

    def __str__(self) -> str:
        return printable(f"{self.level}: {self.subject}: {self.says}{f'. {self.helps}' if self.helps else ''}")
