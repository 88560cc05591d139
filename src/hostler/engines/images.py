"""Choose what runs for an image's URI: one of our own servers, a command of hostler.toml, or the image itself.

Pulls no image and looks into none. Whether a command or an image exists shows when it is started.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass, replace

from hostler import __version__, failures, names
from hostler.engines import references
from hostler.errors import EngineError
from hostler.servers.frameworks import canned
from hostler.servers.images import refused, table
from hostler.servers.images.profile import Profile
from hostler.servers.images.refused import Refused
from hostler.settings import Settings

log = logging.getLogger(__name__)

_HUB = (
    "There is no model data, and nothing here fetches a model from the Hugging Face Hub, whatever HF_MODEL_ID names."
    " Put the model's folder, with config.json at its top, into an archive, and name that as ModelDataUrl."
)
_AWS = re.compile(r"^\d{12}\.dkr\.ecr(?:-fips)?\.[a-z0-9-]+\.amazonaws\.com(?:\.cn)?/(?P<repository>.+)$")
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)


@dataclass(frozen=True)
class Server:
    """What runs for an image: one of `framework` (our own server), `command` and `reference` (an image) is set.

    With `framework` and `reference` our own server runs in that image.
    """

    framework: str = ""  # xgboost | sklearn | torch | auto | canned
    command: tuple[str, ...] = ()
    image: str = ""  # repository and tag of AWS's image, whose profile our own server has; empty: any other
    tmpfs: tuple[str, ...] = ()  # folders that the command may write to, empty at first
    reference: str = ""  # of the image to run


@dataclass(frozen=True)
class Choice:
    """What may run for an image: `server`; else the image itself; else `fallback`; else nothing: `refusal` says why.

    One of `server`, `fallback` and `refusal` is set.
    """

    server: Server | None = None
    reference: str = ""  # of the image itself, after [registries]: runs if Docker has it or can pull it
    invalid: str = ""  # why the image is no reference
    fallback: Server | None = None  # our own server with the model data, after a warning
    refusal: str = ""  # sentences, the last a line for hostler.toml


def choose(image: str, settings: Settings, has_artifact: bool) -> Choice:
    """Return what may run for an image.

    0. With the setting canned_answers our own server stands for every image, and gives those answers.
    1. [images] of hostler.toml names a command, by the exact URI or the URI without tag and digest.
    2. AWS's own images that have a profile, by repository name, are replaced by our servers.
    3. Any other image runs itself. That Docker cannot have it shows later. Then:
       a. our own server, which detects the framework, runs the model data, if there is any, unless `strict_images`, or
          the image's name is that of a model server which nothing here stands in for (servers/images/refused);
       b. else nothing runs.

    docs/images.md has this as a table.
    """
    if settings.canned_answers:  # 0.
        return Choice(_ours(canned.FRAMEWORK, settings))
    name = names.untagged(image)
    for uri in (image, name):  # 1.
        if uri in settings.images:
            return Choice(Server(command=settings.images[uri], tmpfs=settings.tmpfs.get(uri, ())))
    hint = failures.map_image(name)
    found: Profile | Refused | None = refused.find_server(name)
    if match := _AWS.match(name):
        repository, tag = match["repository"], _tag(image)
        aws = table.find(repository, tag)
        if aws and not isinstance(aws, Refused) and (aws.family != "huggingface" or has_artifact):  # 2.
            return Choice(_ours(aws.framework, settings, f"{repository}:{tag}" if tag else repository))
        found = aws or found
    itself = _itself(image, settings)  # 3.
    if isinstance(found, Refused):
        return replace(
            itself, refusal=f"Nothing here can run the image {image}. It is {found.what}. {found.advice} {hint}"
        )
    if found:
        return replace(itself, refusal=f"Nothing here can run the image {image} by itself. {_HUB} {hint}")
    if not has_artifact:
        why = f"Nothing here can run the image {image}, and there is no model data to serve. {hint}"
        return replace(itself, refusal=why)
    if settings.strict_images:
        return replace(
            itself, refusal=f"Nothing here is known to run the image {image}, and strict_images is set. {hint}"
        )
    return replace(itself, fallback=_ours("auto", settings))


def resolve(image: str, settings: Settings, has_artifact: bool) -> Server:
    """Return what runs for an image as a process: its choice without the image itself, which takes Docker.

    Raises EngineError with advice, at least a line for hostler.toml.
    """
    choice = choose(image, settings, has_artifact)
    server = choice.server or choice.fallback
    if server is None:
        raise EngineError(choice.refusal)
    if choice.fallback:
        warn_of_fallback(image, "is not known here")
    return replace(server, reference="")


@functools.cache
def warn_of_fallback(image: str, why: str) -> None:
    """Log, once, that our own server runs an image's model data. `why`: a verb and more, after the image."""
    hint = failures.map_image(names.untagged(image))
    log.warning("image %s %s: hostler's own server runs its model data instead. %s", image, why, hint)


def _ours(framework: str, settings: Settings, image: str = "") -> Server:
    """Return our own server, in an image of ours if nothing is to run as a process."""
    server = Server(framework, image=image)
    return in_image(server, settings) if settings.engine in ("docker", "kubernetes") else server


def in_image(server: Server, settings: Settings) -> Server:
    """Return our own server as it runs in an image of ours."""
    return replace(server, reference=settings.server_image or f"hostler-server:{__version__}")


def _itself(image: str, settings: Settings) -> Choice:
    reference = references.rewritten(image, settings.registries)
    try:
        references.parse(reference)
    except ValueError as error:
        return Choice(invalid=f"{reference} is no reference to an image: {error}.")
    return Choice(reference=reference)


def _tag(image: str) -> str:
    """Return the URI's tag; empty if it has none, or something else in its place."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    return tag if _TAG.fullmatch(tag) else ""
