"""What the houses have in a Docker, by its labels, and how it is removed: for `hostler gc`.

It asks no hostler. Whether one lives is for the caller to know.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from pathlib import Path
from typing import Literal, NamedTuple

import aiodocker
import msgspec

from hostler.engines import house
from hostler.engines.docker import networks
from hostler.engines.docker.answers import read
from hostler.engines.docker.client import ask, filters

# there: the data folder is here, with this house. lost: there is no such house any more. unseen: nobody here knows.
Folder = Literal["there", "lost", "unseen"]


class Left(msgspec.Struct, frozen=True, rename="pascal"):
    """A container in Docker's list."""

    id: str
    names: tuple[str, ...] | None = None
    labels: dict[str, str] | None = None

    @property
    def name(self) -> str:
        return self.names[0].removeprefix("/") if self.names else self.id[:12]


class Belongings(NamedTuple):
    """What a house has. `data`, `place`: its data folder, and where that path means something; may differ by age."""

    house: str
    data: str
    place: str
    containers: tuple[Left, ...]


def group(containers: Iterable[Left]) -> list[Belongings]:
    """Return the containers of hostlers by house."""
    houses: dict[tuple[str, str, str], list[Left]] = {}
    for container in containers:
        labels: Mapping[str, str] = container.labels or {}
        if id := labels.get(house.LABEL):
            key = (id, labels.get(house.DATA_LABEL, ""), labels.get(house.PLACE_LABEL, ""))
            houses.setdefault(key, []).append(container)
    return [Belongings(*key, tuple(sorted(left, key=lambda each: each.name))) for key, left in sorted(houses.items())]


def find_folder(belongings: Belongings, here: str) -> Folder:
    """Look for the data folder of a house. `here`: the name of this place.

    A path says nothing in another place, and a folder that this user may not read may hold a living hostler's.
    """
    if not belongings.data:
        return "unseen"
    try:
        if house.read_id(Path(belongings.data)) == belongings.house:
            return "there"
    except (OSError, ValueError):
        return "unseen"
    return "lost" if belongings.place == here else "unseen"


async def find(docker: aiodocker.Docker) -> list[Belongings]:
    """Return what all houses have in a Docker. Raises EngineError."""
    found = await ask(docker.containers.list(all=True, filters=filters(label=[house.LABEL])))
    return group(read(container._container, Left) for container in found)


async def remove_networks(docker: aiodocker.Docker) -> list[str]:
    """Remove hostler's network where no hostler has a container any more; return its name. Raises EngineError."""
    if await find(docker):
        return []
    return await networks.remove_unused(docker)
