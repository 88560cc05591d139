"""A requirements.txt: which of its packages are not installed here. It installs nothing."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

from hostler.servers.images.profile import Profile

_LINE = re.compile(
    r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*\(?(?:==\s*([\w.+!-]+)\s*\)?$)?", re.ASCII
)


def missing(file: Path, profile: Profile) -> list[str]:
    """Return the missing packages by name; with `==` if another version than the required one is installed.

    A package that the image's profile stands in for is not missing. Only exact versions are compared. Addresses,
    options, and requirements with a condition (`; python_version < "3"`) are ignored.
    """
    packages: list[str] = []
    for line in file.read_text(errors="replace").splitlines():
        requirement = re.split(r"(?:^|\s)#", line)[0].strip()
        match = _LINE.match(requirement)
        if match is None or ";" in requirement or "://" in requirement.partition("@")[0]:
            continue
        name, version = match.groups()
        try:
            installed = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            if not profile.stands_in_for(name):
                packages.append(name)
        else:
            if version and _release(version) != _release(installed):
                packages.append(f"{name}=={version}")
    return packages


def _release(version: str) -> str:
    """Return the part of a version that is compared: without a build's label (+cpu), and without trailing zeros."""
    return re.sub(r"(?:\.0+)+$", "", version.partition("+")[0].lower())
