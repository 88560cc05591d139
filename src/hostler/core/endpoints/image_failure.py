"""Why a container of a user's image failed in Docker or in a cluster, and what helps. Pure: facts in, sentences out.

The patterns are those of what starts an image's program: Docker's init (tini; Podman's catatonit), or, in a
cluster, whose pods have no init, runc itself.
"""

from __future__ import annotations

import re

from hostler import failures
from hostler.contract import DEFAULT_PORT, ENV_BIND_TO_PORT, SERVE
from hostler.core.endpoints.failure_facts import Diagnosis, Facts
from hostler.text import shorten, size

_PATH = 120  # characters of a path, inside a cause
_NOT_EXECUTED = re.compile(
    r"(?:\[FATAL tini \(\d+\)\] exec (?P<tini>.+) failed|(?:FATAL|ERROR).*catatonit.*exec (?P<other>.+?)"
    r"|^exec (?P<runc>/.+)): (?P<why>No such file or directory|Permission denied|Exec format error)",
    re.IGNORECASE | re.MULTILINE,
)
_NOT_TAKEN = re.compile(  # as argument parsers and interpreters say it
    rf"(?:unrecognized|unexpected|unknown|invalid|no such|can't open|cannot open|cannot find)\b[^\n]{{0,80}}\b{SERVE}"
    r"(?=['\")\]:]|\s*$)",
    re.IGNORECASE | re.MULTILINE,
)
_NO_SERVE = (
    f"SageMaker, and so hostler, starts an image with the one argument {SERVE}: it needs a program of that name on its"
    " PATH, or an ENTRYPOINT that takes the argument."
)
_LINE_ENDS = "A script with Windows' line ends (CRLF) names an interpreter that is nowhere."


def ended(facts: Facts, ended: str) -> Diagnosis | None:
    """Return why a container ended; None if its exit code and its log alone say so. `ended`: that it did."""
    if facts.oom:
        setting = " (limits = true)" if facts.engine == "docker" else ""
        bound = f"the {size(facts.limit)} of its instance type{setting}" if facts.limit else "the machine's memory"
        return Diagnosis(f"{ended} The system killed it because it had used up {bound}.", failures.MEMORY)
    if facts.served:
        return None
    if facts.platform:
        return Diagnosis(
            f"{ended} Its image is for {facts.platform}, and Docker's machine is {facts.machine}.",
            f"Build the image for this machine: docker build --platform {facts.machine}.",
        )
    if match := _NOT_EXECUTED.search(facts.log):
        return _not_executed(match["tini"] or match["other"] or match["runc"], match["why"].capitalize())
    if _NOT_TAKEN.search(facts.log):
        return Diagnosis(f"{ended} Its entry point does not take the argument {SERVE}.", _NO_SERVE)
    return None


def _not_executed(program: str, why: str) -> Diagnosis:
    if program == SERVE and why.startswith("No such"):
        return Diagnosis(
            "The container could not be started: its image has no program serve, or not the interpreter that its first"
            " line names.",
            f"{_NO_SERVE} {_LINE_ENDS}",
        )
    begin, named = "The container could not be started: its image's entry point", shorten(program, _PATH)
    if why == "Permission denied":
        return Diagnosis(f"{begin} {named} must not be executed.", f"In the Dockerfile: RUN chmod +x {named}.")
    if why == "Exec format error":
        return Diagnosis(
            f"{begin} {named} is no program for this machine.",
            "Build the image for this machine's processor; a script begins with a line such as #!/bin/sh.",
        )
    return Diagnosis(
        f"{begin} {named} is not there, or not the interpreter that its first line names.",
        f"Look for both in the image. {_LINE_ENDS}",
    )


def silent(facts: Facts, check: str) -> Diagnosis | None:
    """Return why a container that runs does not answer; None if its ports do not say so. `check`: how it was asked."""
    if facts.loopback:
        return Diagnosis(
            f"{check} was not answered: the container listens on port {facts.port}, but on its loopback address alone,"
            " where no call from outside arrives.",
            f"Let it listen on 0.0.0.0:{facts.port} in place of 127.0.0.1 or localhost.",
        )
    if facts.port in facts.listening or not facts.listening:
        return None
    ports = ", ".join(map(str, facts.listening[:5]))
    text = f"{check} was not answered: the container listens on port {ports}, not on {facts.port}"
    if facts.port == DEFAULT_PORT:
        return Diagnosis(f"{text}.", f"A container of SageMaker's listens on {DEFAULT_PORT}.")
    return Diagnosis(
        f"{text}, of which {ENV_BIND_TO_PORT} tells it.",
        f"Beside others, a container listens on the port that {ENV_BIND_TO_PORT} names, and on {DEFAULT_PORT} only"
        " where that is not set.",
    )


def missing(variant: str, why: str) -> str:
    """Return the FailureReason for an image that is not there and cannot be pulled. `why`: sentences."""
    return (
        f"Please make sure all images included in the model for the production variant {variant} exist, and that the"
        f" execution role used to create the model has permissions to access them. {why}"
    )
