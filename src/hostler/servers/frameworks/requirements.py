"""A requirements.txt, read: what of it is not installed here. It installs nothing."""

from __future__ import annotations

import importlib.metadata
import re
from pathlib import Path

_LINE = re.compile(
    r"([A-Za-z0-9](?:[\w.-]*[A-Za-z0-9])?)\s*(?:\[[^\]]*\])?\s*\(?(?:==\s*([\w.+!-]+)\s*\)?$)?", re.ASCII
)


def absent(file: Path) -> list[str]:
    """What must be installed: names, with `==` where another version than the one that is asked for is installed.

    Only an exact version is compared. Addresses, options, and what is asked for on certain machines or Pythons only
    (`; python_version < "3"`) are passed over.
    """
    found = []
    for line in file.read_text(errors="replace").splitlines():
        requirement = re.split(r"(?:^|\s)#", line)[0].strip()
        match = _LINE.match(requirement)
        if match is None or ";" in requirement or "://" in requirement.partition("@")[0]:
            continue
        name, version = match.groups()
        try:
            there = importlib.metadata.version(name)
        except importlib.metadata.PackageNotFoundError:
            found.append(name)
        else:
            if version and _release(version) != _release(there):
                found.append(f"{name}=={version}")
    return found


def _release(version: str) -> str:
    """As far as versions are compared: without a build's own mark (+cpu) and without zeros at the end."""
    return re.sub(r"(?:\.0+)+$", "", version.partition("+")[0].lower())
