"""Resolve an image's URI to one of our own servers, or to a command mapped in hostler.toml.

Pulls no image and looks into none. Whether a command exists shows when it is started.
"""

from __future__ import annotations

import functools
import logging
import re
from dataclasses import dataclass

from hostler import failures, names
from hostler.errors import EngineError
from hostler.servers.frameworks import canned
from hostler.servers.images import refused, table
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
    """The server that replaces an image: exactly one of `framework` (our own server) and `command` is set."""

    framework: str = ""  # xgboost | sklearn | torch | auto | canned
    command: tuple[str, ...] = ()
    image: str = ""  # repository and tag of AWS's image, whose profile our own server has; empty: any other
    tmpfs: tuple[str, ...] = ()  # folders that the command may write to, empty at first


def resolve(image: str, settings: Settings, has_artifact: bool) -> Server:
    """Return the server for an image.

    0. With the setting canned_answers our own server stands for every image, and gives those answers.
    1. [images] of hostler.toml names a command, by the exact URI or the URI without tag and digest.
    2. AWS's own images, by repository name, are replaced by our servers; for some there is none (servers/images).
    3. Any other image with an artifact runs our own server, which detects the framework, unless `strict_images`, or its
       name is that of a model server which nothing here stands in for.

    docs/images.md has this as a table. Raises EngineError with advice, at least a line for hostler.toml.
    """
    if settings.canned_answers:  # 0.
        return Server(framework=canned.FRAMEWORK)
    name = names.untagged(image)
    for uri in (image, name):  # 1.
        if uri in settings.images:
            return Server(command=settings.images[uri], tmpfs=settings.tmpfs.get(uri, ()))
    hint = failures.map_image(name)
    if match := _AWS.match(name):  # 2.
        repository, tag = match["repository"], _tag(image)
        found = table.find(repository, tag)
        if isinstance(found, Refused):
            raise _refused(image, found, hint)
        if found and found.family == "huggingface" and not has_artifact:
            raise EngineError(f"Nothing here can run the image {image} by itself. {_HUB} {hint}")
        if found:
            return Server(framework=found.framework, image=f"{repository}:{tag}" if tag else repository)
    if server := refused.find_server(name):  # 3.
        raise _refused(image, server, hint)
    if not has_artifact:
        raise EngineError(f"Nothing here can run the image {image}, and there is no model data to serve. {hint}")
    if settings.strict_images:
        raise EngineError(f"Nothing here is known to run the image {image}, and strict_images is set. {hint}")
    _warn_once(image, hint)
    return Server(framework="auto")


def _refused(image: str, found: Refused, hint: str) -> EngineError:
    return EngineError(f"Nothing here can run the image {image}. It is {found.what}. {found.advice} {hint}")


@functools.cache
def _warn_once(image: str, hint: str) -> None:
    log.warning("image %s is not known here: hostler's own server runs its model data instead. %s", image, hint)


def _tag(image: str) -> str:
    """Return the URI's tag; empty if it has none, or something else in its place."""
    tag = image.partition("@")[0].rpartition("/")[2].partition(":")[2]
    return tag if _TAG.fullmatch(tag) else ""
