"""Print the packages that an image needs, by the current folder's pyproject.toml.

`requirements.py hostler|hostler-server xgboost,sklearn`

The model servers need three packages and those of their frameworks. The others are control's.
"""

from __future__ import annotations

import re
import sys
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

_SERVERS = ("httptools", "msgspec", "uvloop")  # what hostler.servers imports, whatever the framework
_CONTROL = ("demo", "docker", "kubernetes", "aws-hosts")  # extras of the image `hostler`
_OURS = re.compile(r"hostler\[(.+)\]")


def requirements(project: dict[str, Any], image: str, extras: list[str]) -> list[str]:
    """Return the image's requirements, sorted, each once."""
    dependencies = project["dependencies"]
    if image == "hostler":
        extras = [*_CONTROL, *extras]
    else:
        dependencies = [line for line in dependencies if re.split(r"[^\w-]", line)[0] in _SERVERS]
    return sorted({*dependencies, *(line for extra in extras for line in _extra(project, extra))})


def _extra(project: dict[str, Any], name: str) -> Iterator[str]:
    """Yield an extra's requirements, with those of the extras that it names. An unknown one is a KeyError."""
    for line in project["optional-dependencies"][name]:
        if ours := _OURS.fullmatch(line):
            for other in ours[1].split(","):
                yield from _extra(project, other)
        else:
            yield line


def main(image: str, extras: str) -> None:
    project = tomllib.loads(Path("pyproject.toml").read_text())["project"]
    try:
        print("\n".join(requirements(project, image, extras.split(","))))
    except KeyError as error:
        sys.exit(f"there is no extra {error}: choose from {', '.join(project['optional-dependencies'])}")


if __name__ == "__main__":
    main(*sys.argv[1:])
