"""Why Docker did not pull an image: the cause, and what helps, in words. Pure.

Nothing that Docker says is shown but where nothing else is known, and then without paths and queries.
"""

from __future__ import annotations

import re

from hostler.engines import references
from hostler.engines.pull_causes import Cause, cause
from hostler.errors import ImageMissing
from hostler.text import printable, shorten

_QUOTED = 250  # characters of what Docker said
_ECR = re.compile(r"\d{12}\.dkr\.ecr(?:-fips)?\.([a-z0-9-]+)\.amazonaws\.com(?:\.cn)?")
_QUERY = re.compile(r"\?[^\s\"']*")
_PATH = re.compile(r"(?<![\w.:/-])/(?:[\w.@+-]+/)+[\w.@+-]*")


def failure(
    image: str, status: int, message: str, machine: str, problem: str, *, had_credentials: bool
) -> ImageMissing:
    """Return the error for an image that was not pulled: its cause, then what helps.

    `machine`: Docker's platform, such as linux/amd64. `problem`: with the configuration's credentials, a sentence.
    """
    found = cause(status, message)
    registry = references.parse(image).registry
    match found:
        case Cause.NO_IMAGE:
            text = f"{_named(registry)} has none either, or none without a login." + _login(registry, problem)
        case Cause.NO_ACCESS:
            refused = "refused the login that Docker's configuration has" if had_credentials else "asks for a login"
            text = f"{_named(registry)} {refused}." + _login(registry, problem)
        case Cause.LIMIT:
            text = f"{_named(registry)} allows no more pulls for now; with a login it may." + _login(registry, problem)
        case Cause.UNREACHABLE:
            text = f"{_named(registry)} cannot be reached from Docker's machine, or does not answer."
        case Cause.PLAIN:
            text = (
                f"The registry {registry} speaks http, which Docker takes of this machine alone: name it under"
                " insecure-registries in the daemon's configuration."
            )
        case Cause.TLS:
            text = f"Docker does not trust the certificate of the registry {registry}. It said: {_quoted(message)}"
        case Cause.PLATFORM:
            text = (
                f"It is for other machines than Docker's, which is {machine}. Build it for that one (docker build"
                f" --platform {machine}); where Docker can emulate others, docker pull --platform gets it."
            )
        case Cause.DISK_FULL:
            text = "The disk of Docker's data is full: docker system df says what takes the room."
        case Cause.CUT:
            text = f"The connection to {_named(registry, 'the')} broke, also when Docker tried again."
        case Cause.DAMAGED:
            text = f"What {_named(registry, 'the')} sent is damaged: it does not fit the image's digest. Push it again."
        case Cause.OTHER:
            text = f"Docker said: {_quoted(message)}"
    return _missing(image, text)


def docker_gone(image: str) -> ImageMissing:
    """Return the error for a Docker that ended, or hung up, while it pulled."""
    return _missing(image, "Docker ended meanwhile, or closed the connection.")


def _missing(image: str, text: str) -> ImageMissing:
    return ImageMissing(f"Docker has no image {image}, and could not pull it. {text}")


def _named(registry: str, article: str = "The") -> str:
    return "Docker Hub" if registry == references.HUB else f"{article} registry {registry}"


def _login(registry: str, problem: str) -> str:
    """Return the line that logs in, after a blank."""
    if match := _ECR.fullmatch(registry):
        line = (
            f"aws ecr get-login-password --region {match[1]} | docker login --username AWS --password-stdin {registry}"
        )
    else:
        line = "docker login" if registry == references.HUB else f"docker login {registry}"
    return f"{f' {problem}' if problem else ''} To log in, as the user who runs hostler: {line}"


def _quoted(message: str) -> str:
    """Return what Docker said, fit to be shown: one line, without the queries of URLs and paths of its machine."""
    line = printable(message.strip().partition("\n")[0])
    return shorten(_PATH.sub("(a file)", _QUERY.sub("", line)), _QUOTED)
