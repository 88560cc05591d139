"""The phases of an invocation, and which follow each other. Pure.

| phase | |
|---|---|
| arriving | its body is gathered |
| waiting | it waits for its target, or for an instance |
| called | it is with a container, and nothing of the answer was passed on |
| failing | the last container's error is gathered |
| answering | the head of the answer was passed on |
| over | it is answered, cut, or its caller has left |
"""

from __future__ import annotations

from typing import Literal

from hostler.core.state_table import StateTable

Phase = Literal["arriving", "waiting", "called", "failing", "answering", "over"]
Event = Literal["call", "wait", "error", "begin", "answer", "reject", "end", "cut", "leave"]

PHASES: StateTable[Phase] = StateTable(
    "an invocation",
    {
        ("arriving", "call"): "called",
        ("arriving", "wait"): "waiting",
        ("arriving", "reject"): "over",
        ("arriving", "leave"): "over",
        ("waiting", "call"): "called",
        ("waiting", "wait"): "waiting",  # for a target of another pool
        ("waiting", "reject"): "over",
        ("waiting", "leave"): "over",
        ("called", "call"): "called",  # another container: of its chain, or because that one did not take it
        ("called", "wait"): "waiting",
        ("called", "error"): "failing",
        ("called", "begin"): "answering",
        ("called", "answer"): "over",
        ("called", "reject"): "over",
        ("called", "leave"): "over",
        ("failing", "call"): "called",  # the container had lost the target
        ("failing", "wait"): "waiting",
        ("failing", "reject"): "over",
        ("failing", "leave"): "over",
        ("answering", "end"): "over",
        ("answering", "cut"): "over",
        ("answering", "leave"): "over",
        ("over", "leave"): "over",  # a cut answer's connection is broken, which is reported as if its caller had left
    },
)
# The two events of every invocation, as phase -> next phase: a look at the table by phase and event takes longer.
CALL = PHASES.of("call")
ANSWER = PHASES.of("answer")
