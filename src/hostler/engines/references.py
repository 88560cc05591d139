"""References to images, such as `registry:5000/team/name:tag@sha256:…`: their parts, and the rewriting by [registries].

The grammar is that of Docker's clients and registries (the reference grammar of the distribution project). Pure.
"""

from __future__ import annotations

import contextlib
import re
from collections.abc import Iterable, Mapping
from typing import NamedTuple

from hostler import names

HUB = "docker.io"  # the registry of names without one
_LATEST = "latest"
_LABEL = r"[A-Za-z0-9](?:[A-Za-z0-9-]*[A-Za-z0-9])?"
_REGISTRY = re.compile(rf"(?:{_LABEL}(?:\.{_LABEL})*|\[[0-9A-Fa-f:]+\])(?::[0-9]{{1,5}})?", re.ASCII)
_PART = re.compile(r"[a-z0-9]+(?:(?:\.|_{1,2}|-+)[a-z0-9]+)*", re.ASCII)
_TAG = re.compile(r"\w[\w.-]{0,127}", re.ASCII)
_DIGEST = re.compile(r"[A-Za-z][A-Za-z0-9]*(?:[-_+.][A-Za-z][A-Za-z0-9]*)*:[0-9a-fA-F]{32,}", re.ASCII)
_LONGEST = 255  # of a name, registry and path


class Reference(NamedTuple):
    """A reference to an image in its parts. Without tag and digest its tag is `latest`."""

    name: str  # as it came, with the registry if the text has one
    registry: str  # docker.io if the text has none
    tag: str
    digest: str

    @property
    def version(self) -> str:
        """By which an image is pulled: its digest, else its tag."""
        return self.digest or self.tag

    @property
    def full(self) -> str:
        """The name with its registry, and with the folder `library` of what Docker Hub itself publishes."""
        if self.registry != HUB:
            return self.name
        path = self.name.removeprefix(f"{HUB}/")
        return f"{HUB}/{path if '/' in path else f'library/{path}'}"

    def __str__(self) -> str:
        """Return it as it came, without a tag that a digest makes void."""
        return f"{self.name}@{self.digest}" if self.digest else f"{self.name}:{self.tag}"


def parse(text: str) -> Reference:
    """Take a reference apart. Raises ValueError with the reason if it is none."""
    rest, at, digest = text.partition("@")
    name = names.untagged(text)
    tag = rest[len(name) + 1 :]
    if at and not _DIGEST.fullmatch(digest):
        raise ValueError(f"{digest!r} is no digest such as sha256:…")
    if len(rest) > len(name) and not _TAG.fullmatch(tag):
        raise ValueError(f"{tag!r} is no tag")
    first, slash, path = name.partition("/")
    registry = first if slash and _is_registry(first) else ""
    if registry and not _REGISTRY.fullmatch(registry):
        raise ValueError(f"{registry!r} is no registry")
    for part in (path if registry else name).split("/"):
        if not _PART.fullmatch(part):
            raise ValueError(_why_no_part(part))
    if len(name) > _LONGEST:
        raise ValueError(f"its name is longer than {_LONGEST} characters")
    return Reference(name, registry or HUB, "" if digest and not tag else tag or _LATEST, digest)


def with_digest(reference: str, digests: Iterable[str]) -> str:
    """Return an image's name with its digest, of those in the reference's repository; empty: there is none.

    `digests`: such as name@sha256:…, of any repository. What is no reference has none.
    """
    for each in digests:
        with contextlib.suppress(ValueError):
            image, found = parse(reference), parse(each)
            if found.digest and found.full == image.full:
                return f"{image.name}@{found.digest}"
    return ""


def rewritten(image: str, registries: Mapping[str, str]) -> str:
    """Return the image with the part of its name that the first fitting pattern matches replaced.

    A pattern stands for whole parts from the name's beginning; `*` is any text without a slash. Tag and digest stay.
    """
    name = names.untagged(image)
    for pattern, replacement in registries.items():
        expression = "[^/]*".join(map(re.escape, pattern.rstrip("/").split("*")))
        if match := re.match(rf"{expression}(?=/|$)", name):
            return replacement.rstrip("/") + image[match.end() :]
    return image


def _is_registry(first: str) -> bool:
    """Return whether the first part of a name is a registry, as Docker tells it from a folder of its Hub."""
    return "." in first or ":" in first or first == "localhost"


def _why_no_part(part: str) -> str:
    if not part:
        return "a part of its name is empty"
    if part != part.lower():
        return f"{part!r} has capital letters, which only a registry and a tag may have"
    return f"{part!r} is no part of a name: lower-case letters, digits, and single . _ - between them"
