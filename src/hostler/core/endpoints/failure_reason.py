"""The FailureReason of a container that failed: the cause, from facts about the container, and what to do.

Pure: facts in, text out. AWS's sentence comes first and unchanged (§2.4), then the cause, then what helps, then the
container's last lines. A text that is too long loses last lines, never the cause or the help. Our own servers report
the cause in data (failures.py); regular expressions are for the logs, and the errors, of other programs. A container
that could not be started brings its sentence along (hosting/container.py, engines/images.py).
"""

from __future__ import annotations

import re
import signal
from collections.abc import Sequence

from hostler import failures, names
from hostler.contract import DEFAULT_PORT, ENV_BIND_TO_PORT, MODELS, PING, PING_TIMEOUT
from hostler.core.endpoints import image_failure, refused_writes
from hostler.core.endpoints.failure_facts import Diagnosis, Facts, Lack, Ping
from hostler.errors import ArchiveBad, ArtifactBad, ArtifactError, ArtifactMissing
from hostler.failures import Code, Failure
from hostler.text import shorten

LIMIT = 1024  # characters of a FailureReason (DescribeEndpoint)
_NO_CAPACITY = (  # AWS's words for it
    "CapacityError: Unable to provision requested ML compute capacity due to InsufficientInstanceCapacity error. Please"
    " retry using a different ML instance type or after some time."
)
_SIZES = "What an instance type asks for is in [instances] of hostler.toml."
_NAMES = 200  # characters of the names of containers that failed together
_QUOTED = 250  # characters of what a program said, inside a cause
_NAMED = 60  # of a name, inside a cause
_PATH = 120  # of a path, inside a cause
_PATIENCE = (
    "give it longer: ContainerStartupHealthCheckTimeoutInSeconds (60 to 3600) in the production variant, or"
    " startup_timeout in hostler.toml."
)
_REPORTED = 450  # characters of the message and the advice that a server has left


def unhealthy(variant: str, failed: Sequence[Facts]) -> str:
    """Return the FailureReason for containers of one instance that did not become healthy, or did not stay so."""
    named = _listed([facts.label for facts in failed])
    text = (
        f"The {named} container for production variant {variant} did not pass the ping health check."
        " Please check CloudWatch logs for this endpoint."
    )
    by_diagnosis: dict[Diagnosis, list[Facts]] = {}
    for facts in failed:
        by_diagnosis.setdefault(diagnosis(facts), []).append(facts)
    for number, (diagnosed, containers) in enumerate(by_diagnosis.items()):
        labels = f" {_listed([facts.label for facts in containers], 80)}:" if len(by_diagnosis) > 1 else ""
        sentences = f"{labels} {diagnosed.cause} {diagnosed.help}".rstrip()
        if number and len(text) + len(sentences) > LIMIT:
            break  # the first cause counts most
        text += sentences
    first = failed[0]
    if not first.log:
        return shorten(f"{text} It wrote nothing to its log." if len(failed) == 1 else text, LIMIT)
    log = _log_without_failure(first)
    if not log:
        return shorten(text, LIMIT)
    text += " Its last lines: " if len(failed) == 1 else f" The last lines of {first.label}: "
    return shorten(text + last_lines(log, LIMIT - len(text)), LIMIT)


def _log_without_failure(facts: Facts) -> str:
    """Return the log without the line that the failure repeats."""
    if facts.failure is None or not facts.failure.line:
        return facts.log
    before, _, after = f"\n{facts.log}\n".rpartition(f"\n{facts.failure.line}\n")
    return f"{before}\n{after}".strip("\n")


def not_fetched(position: int, url: str, error: ArtifactError, *, embedded: bool) -> str:
    """Return the FailureReason for an artifact that was not fetched. `position` counts from 0.

    `embedded`: the S3 is hostler's own.
    """
    if isinstance(error, ArtifactMissing):
        help = _missing(url, embedded)
    elif isinstance(error, ArtifactBad):
        help = error.advice
    else:
        help = ""
    why = f"{str(error).rstrip('.')}."
    container = f'for container "container_{position + 1}" from URL'
    if isinstance(error, ArchiveBad):
        before = f'Failed to extract model data archive {container} "'
        after = '". Please ensure that the object located at the URL is a valid tar.gz archive.'
        help = f"{help} {failures.LINT}"
    else:
        before = f'Failed to download model data {container}: "'
        after = (
            '". Please ensure that there is an object located at the URL and that the role passed to CreateModel has'
            " permissions to download the object."
        )
    after = f"{after} {shorten(why, _QUOTED)} {help}".rstrip()
    return before + shorten(url, LIMIT - len(before) - len(after)) + after


def lost(variant: str, machine: str) -> str:
    """Return the FailureReason for an instance whose machine is gone."""
    where = f" {machine}" if machine else ""
    return f"The machine{where} of an instance of production variant {variant} does not answer any more."


def no_room(variant: str, lack: Lack, trouble: str, seconds: float) -> str:
    """Return the FailureReason for an instance that did not come to run. `trouble`: the engine's, unchanged so long.

    `lack`: what it lacks. Where that is room on a machine, AWS's error comes first.
    """
    if lack == "image":
        return image_failure.missing(variant, trouble)
    if not trouble:
        return f"There was no room for the instance within {seconds:g} seconds. The engine did not say why."
    why = f"There was no room for the instance, and for {seconds:g} seconds no progress: {trouble.rstrip('.')}."
    return no_capacity(why) if lack == "capacity" else why


def no_capacity(why: str) -> str:
    """Return the FailureReason for an instance for which there is no room. `why`: a sentence."""
    return f"{_NO_CAPACITY} {why} {_SIZES}"


def hopeless(variant: str, lack: Lack, trouble: str) -> str:
    """Return the FailureReason for an instance that cannot come to run, by the engine's word."""
    return image_failure.missing(variant, trouble) if lack == "image" else trouble


def _missing(url: str, embedded: bool) -> str:
    if url.startswith("file://"):
        return ""
    if embedded:
        return (
            "It is looked for in hostler's own S3: put it there (aws s3 cp), or name another S3 with s3_endpoint in"
            " hostler.toml."
        )
    return "It is looked for in the S3 that s3_endpoint in hostler.toml names."


def diagnosis(facts: Facts) -> Diagnosis:
    """Return the cause and what helps."""
    if facts.exit is not None:
        return _ended(facts, facts.exit)
    if facts.ping is not None:
        return _not_passed(facts, facts.ping)
    return Diagnosis(facts.cause)


def last_lines(text: str, room: int) -> str:
    """Return the whole lines at the end of a text for which there is room; of a last line that is too long, its end."""
    text = text.strip()
    if len(text) <= room:
        return text
    if room <= 0:
        return ""
    _, _, whole = text[-room - 1 :].partition("\n")
    return whole or text[-room:]


# --- a process that ended -----------------------------------------------------------------------------------------

_NO_MODULE = re.compile(r"(?:ModuleNotFoundError: )?No module named '?([\w.]+)'?")
_IMPORT = re.compile(r"^(ImportError: .+)$", re.MULTILINE)
_NO_MEMORY = re.compile(r"MemoryError|bad_alloc|Cannot allocate memory|DefaultCPUAllocator|OutOfMemoryError")
_NOT_STARTED = re.compile(r"^(bwrap: execvp )?(.+): (No such file or directory|Permission denied)$", re.MULTILINE)
_OTHER_MACHINE = re.compile(r"Exec format error|cannot execute binary file|GLIBC(?:XX)?_[\d.]+' not found")
_PORT_TAKEN = re.compile(r"address already in use|EADDRINUSE", re.IGNORECASE)
_MODEL_FN = re.compile(r"[Pp]lease provide a model_fn")  # of AWS's inference toolkit


def _ended(facts: Facts, code: int) -> Diagnosis:
    event = f"was ended by signal {-code}{_signal(-code)}" if code < 0 else f"exited with code {code}"
    ended = f"The container {event}" + ("." if facts.served else " before it answered a ping.")
    if facts.failure is not None:
        return _reported(facts, facts.failure, ended)
    log = facts.log
    if facts.in_image and (diagnosed := image_failure.ended(facts, ended)):
        return diagnosed
    if not facts.served and not facts.in_image and (diagnosed := _not_started(facts)):
        return diagnosed
    if match := [*_NO_MODULE.finditer(log)]:
        return Diagnosis(
            f"{ended} Python found no module named {shorten(match[-1][1], _NAMED)}.", _install(match[-1][1], facts)
        )
    if match := [*_IMPORT.finditer(log)]:
        return Diagnosis(f"{ended} An import failed: {shorten(match[-1][1], _QUOTED)}.")
    if _MODEL_FN.search(log):
        return Diagnosis(f"{ended} The script has no model_fn.", failures.ADVICE[Code.NO_MODEL_FN])
    if _NO_MEMORY.search(log):
        return Diagnosis(f"{ended} It ran out of memory.", failures.MEMORY)
    if _OTHER_MACHINE.search(log):
        return Diagnosis(f"{ended} The program was built for another machine.", "Build it for this one.")
    if _PORT_TAKEN.search(log):
        return Diagnosis(
            f"{ended} A port that it wanted is taken.",
            f"Here it shares {'its instance' if facts.in_image else 'the machine'}'s ports with others: let it bind"
            f" {ENV_BIND_TO_PORT}, and for its own use ports in SAGEMAKER_SAFE_PORT_RANGE alone.",
        )
    if refused := _refused(facts):
        return Diagnosis(f"{ended} {refused.cause}", refused.help)
    return Diagnosis(ended, _help_by_code(code, in_image=facts.in_image))


def _refused(facts: Facts) -> Diagnosis | None:
    """Diagnose by the log of a mapped command that its sandbox refused what it did."""
    if facts.ours or facts.in_image:
        return None
    if folders := refused_writes.folders(facts.log):
        named = [shorten(folder, _PATH) for folder in folders]
        tmpfs = ", ".join(f'"{folder}"' for folder in named)
        return Diagnosis(
            f"It could not write in {_listed(named)}: a command sees this machine's files read-only.",
            "Give it folders of its own there, in memory: under [images] of hostler.toml, in place of the command,"
            f' {{command = "...", tmpfs = [{tmpfs}]}}.',
        )
    if refused_writes.owner(facts.log):
        return Diagnosis(
            "It could not change its user, or a file's owner: a command has no such right here, even started by root.",
            "Let it keep its user (in nginx.conf: user root;), or let an ordinary user start hostler.",
        )
    return None


def explains_silence(facts: Facts) -> bool:
    """Whether it is plain why a container that runs does not answer: nobody need wait for it any longer.

    It listens for itself alone, or on the port of the contract instead of its own, or its sandbox refused what it did.
    """
    if facts.loopback:
        return True
    if facts.port in facts.listening:
        return False
    return DEFAULT_PORT in facts.listening or _refused(facts) is not None


def _not_started(facts: Facts) -> Diagnosis | None:
    """Diagnose by the log of bubblewrap or the shim that it could not start the command: the exit is its own."""
    for match in _NOT_STARTED.finditer(facts.log):
        wrapped, program, why = match.groups()
        if not wrapped and program != facts.program:
            continue
        program_text, missing = shorten(program, _PATH), program
        if not why.startswith("No such"):
            problem = f"the program {program_text} must not be executed"
        elif facts.interpreter and not (wrapped and program.startswith(_UNSEEN)):
            missing = facts.interpreter
            problem = (
                f"the interpreter {shorten(missing, _PATH)}, which the first line of {program_text} names, is not there"
            )
        else:
            problem = f"the program {program_text} is not there"
        help = "Check the image's command under [images]."
        if wrapped and missing.startswith(_OWN_FOLDERS):
            help += (
                " Under bubblewrap, /tmp, /var/tmp and /run are the container's own, but for what of /tmp its command"
                " names: put it elsewhere"
                + (", or name the interpreter in the command, before the program." if missing != program else ".")
            )
        return Diagnosis(f"The container could not be started: {problem}.", help)
    return None


_UNSEEN = ("/run/", "/var/run/")
_OWN_FOLDERS = ("/tmp/", "/var/tmp/", *_UNSEEN)


def _reported(facts: Facts, failure: Failure, ended: str) -> Diagnosis:
    """Word the failure that one of our own servers has reported."""
    code, advice = failure.code, failure.advice
    if not advice:  # the message may come from an exception in a script or a library
        code, advice = _by_words(failure, facts)
    advice = shorten(advice, _QUOTED + 1)
    message = shorten(failure.message, max(_QUOTED, _REPORTED - len(advice)))
    explanation = _EXPLAINED.get(code, "")
    if code == Code.OTHER_SERVER and facts.image:
        advice = f"{advice} {failures.map_image(names.untagged(facts.image))}"
    begin = "The model does not load" if failure.loading else ended[:-1]
    return Diagnosis(f"{begin}: {f'{message}{explanation}'.rstrip('.')}.", advice)


_EXPLAINED: dict[str, str] = {
    Code.OUT_OF_MEMORY: " - memory ran out",
    Code.PROCESS_KILLED: " - as the system does when memory runs out",
}


def _by_words(failure: Failure, facts: Facts) -> tuple[str, str]:
    """Return code and advice for an exception's message that another program worded."""
    if match := _NO_MODULE.search(failure.message):
        return Code.MODULE_MISSING, _install(match[1], facts)
    if _MODEL_FN.search(failure.message):
        return Code.NO_MODEL_FN, failures.ADVICE[Code.NO_MODEL_FN]
    if _NO_MEMORY.search(failure.message):
        return Code.OUT_OF_MEMORY, failures.MEMORY
    return failure.code, ""


def _install(module: str, facts: Facts) -> str:
    package = failures.package(module)
    if facts.in_image:
        return f"Install the package that has it in the image (such as RUN pip install {package} in its Dockerfile)."
    if facts.ours:
        return failures.install_module(module)
    return f"Install the package that has it (such as pip install {package}) for the image's command under [images]."


def _help_by_code(code: int, *, in_image: bool) -> str:
    number = -code if code < 0 else code - 128 if 128 < code <= 128 + 64 else 0
    if number == signal.SIGKILL:
        return f"The system does that when memory runs out; else somebody killed it. {failures.MEMORY}"
    if number in (signal.SIGSEGV, signal.SIGBUS, signal.SIGABRT):
        return "It crashed in native code: a damaged model file, or libraries that do not fit together, do that."
    if number == signal.SIGILL:
        return "It was built for a processor that this one is not."
    if code == 0:
        return "Its command must run in the foreground until SIGTERM: one that makes itself a daemon ends it."
    if code in (126, 127):
        check = "the image's entry point" if in_image else "the image's command under [images]"
        return f"A shell says so of a program that it cannot find or execute: check {check}."
    return ""


def _signal(number: int) -> str:
    try:
        return f" ({signal.Signals(number).name})"
    except ValueError:
        return ""


# --- a health check that was not passed ---------------------------------------------------------------------------


def _not_passed(facts: Facts, ping: Ping) -> Diagnosis:
    check = f"{facts.when}, GET {ping.path}"
    if ping.status:
        return _answered(facts, ping, f"{check} was answered with {ping.status} instead of 200")
    if ping.timed_out:
        return Diagnosis(
            f"{check} was not answered within {PING_TIMEOUT:g} seconds, though the connection was taken.",
            "Answer it at once, also while a model loads or a request runs: do those in another thread or process.",
        )
    if facts.in_image and (diagnosed := image_failure.silent(facts, check)):
        return diagnosed
    if facts.port and facts.port in facts.listening:
        return Diagnosis(
            f"{check} was not answered with HTTP, though the container listens on its port, {facts.port}.",
            "It must speak HTTP/1.1 there, without TLS.",
        )
    if facts.port and DEFAULT_PORT not in facts.listening and (refused := _refused(facts)):
        return Diagnosis(f"{check} was not answered. {refused.cause}", refused.help)
    if facts.port and facts.listening:
        ports = ", ".join(map(str, facts.listening[:5]))
        return Diagnosis(
            f"{check} was not answered: the container listens on port {ports}, but it was told {facts.port}, in"
            f" {ENV_BIND_TO_PORT}.",
            f"Let it listen on the port that {ENV_BIND_TO_PORT} names, and on 8080 only where that is not set: here"
            " each container has a port of its own.",
        )
    if facts.port:
        return Diagnosis(
            f"{check} was not answered: nothing in the container listens on a port.",
            f"It must serve HTTP on {'port 8080, or ' if facts.in_image else ''}the port that {ENV_BIND_TO_PORT} names."
            f" If it is only slow to start, {_PATIENCE}",
        )
    return Diagnosis(f"{check} was not answered.", "" if facts.served else f"If it is only slow, {_PATIENCE}")


def _answered(facts: Facts, ping: Ping, answered: str) -> Diagnosis:
    if ping.path == MODELS:
        return Diagnosis(
            f"{answered}, though {PING} was passed.",
            'A container with Mode MultiModel must answer GET /models with 200 and {"models": []} at its start. Where'
            " an image has no such API, leave Mode out.",
        )
    if facts.ours and not facts.served:
        return Diagnosis(f"{answered}: the model was still being loaded.", f"If it is only slow, {_PATIENCE}")
    if ping.status == 404:
        help = f"Add that route: a container must answer GET {PING} with 200 as soon as it can serve."
    elif ping.refused:
        help = f"GET {PING} comes without credentials, parameters or a body, and must be answered with 200."
    elif ping.status < 400:
        help = "Only 200 counts, no other 2xx and no redirection."
    elif ping.status in (502, 503, 504) and not facts.served:
        help = f"A server says that while it is not ready yet. If it is only slow to start, {_PATIENCE}"
    else:
        help = f"Its log should say what fails in its answer to GET {PING}."
    return Diagnosis(f"{answered}.", help)


# --- text ---------------------------------------------------------------------------------------------------------


def _listed(labels: Sequence[str], room: int = _NAMES) -> str:
    """Join names with commas; if there is no room for all, end with how many more there are."""
    listed = list(labels)
    while len(", ".join(listed)) > room:
        listed.pop()
    more = f" and {len(labels) - len(listed)} more" if len(listed) < len(labels) else ""
    return ", ".join(listed) + more
