"""Where hostler runs, as Docker sees it: on Docker's machine, or in a container of this Docker beside those it starts.

In a container, hostler's paths are not those of Docker's machine: a folder that others are to see must lie in a mount,
whose source Docker knows. And it reaches no bridge of Docker's: a neighbour's addresses are closed to it as to any
other container (the network `hostler` has icc off), so that calls go through sockets in the mounted folder (relay.py).

`look` asks Docker, once for each connection. All else is pure.
"""

from __future__ import annotations

import functools
import logging
import os
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from hostler.core.endpoints import instance_types
from hostler.engines.docker.answers import read
from hostler.engines.own_container import own_container
from hostler.errors import EngineError

if TYPE_CHECKING:
    from aiodocker import Docker

logger = logging.getLogger("hostler.engine")

# bridge: by the container's own address; published: by a port of 127.0.0.1; relayed: by a socket that a relay serves.
Reach = Literal["bridge", "published", "relayed"]

_GPU_RUNTIME = "nvidia"
_DESKTOP = "Docker Desktop"
_NOT_FOUND = 404


class Mount(msgspec.Struct, frozen=True, rename="pascal"):
    """A folder of Docker's machine that hostler's container has."""

    destination: str
    type: str = "bind"
    source: str = ""


class _HostConfig(msgspec.Struct, frozen=True, rename="pascal"):
    network_mode: str = ""


class Own(msgspec.Struct, frozen=True, rename="pascal"):
    """What Docker says of hostler's own container (GET /containers/ID/json)."""

    id: str
    image: str
    host_config: _HostConfig
    mounts: tuple[Mount, ...] = ()


class Info(msgspec.Struct, frozen=True, rename="pascal"):
    """What Docker says of itself (GET /info)."""

    operating_system: str = ""
    security_options: tuple[str, ...] | None = None
    runtimes: dict[str, object] | None = None


class Site(msgspec.Struct, frozen=True):
    """Where hostler runs. `container`: its own id; empty: on Docker's machine, where paths are the same."""

    reach: Reach = "bridge"
    user: str = ""  # by which a container is the same user as hostler
    container: str = ""
    image: str = ""  # of its own container
    mounts: tuple[Mount, ...] = ()
    gpus: bool = False  # Docker can give a container those of its machine

    def gives_gpus(self, type: str) -> bool:
        """Return whether a container of this InstanceType gets GPUs; warn if the type has some, and Docker has none."""
        if instance_types.gpus(type) and not self.gpus:
            _warn_of_gpus(type)
        return self.gpus and instance_types.gpus(type) > 0

    def source(self, path: Path) -> str:
        """Return a path of hostler's as Docker's machine has it. Raises EngineError if it has none."""
        if not self.container:
            return str(path)
        holding = [mount for mount in self.mounts if path.is_relative_to(mount.destination)]
        mount = max(holding, key=lambda mount: len(mount.destination), default=None)
        if mount is None or mount.type not in ("bind", "volume"):
            raise EngineError(
                f"hostler runs in a container, and other containers cannot see its folder {path}: "
                f"start it with a volume for its data, such as `-v hostler:{path}` (docker run)"
            )
        return os.path.normpath(os.path.join(mount.source, path.relative_to(mount.destination)))


async def look(docker: Docker, data: Path) -> Site:
    """Ask Docker where hostler runs, which has its `data` there. Raises EngineError, with the flag that is missing.

    A container that this Docker does not know is Docker's own machine: Docker runs in it, too.
    """
    from hostler.engines.docker.client import DockerRefused, ask  # imported here: reach.py goes without aiodocker

    own: Own | None = None
    info = read(await ask(docker.system.info()), Info)
    if id := own_container():
        try:
            own = read(await ask(docker.containers.container(id).show()), Own)
        except DockerRefused as error:
            if error.status != _NOT_FOUND:
                raise
    site = place(info, own, os.geteuid(), os.getegid())
    site.source(data)
    return site


def place(info: Info, own: Own | None, user: int, group: int) -> Site:
    """Return where hostler runs. `own`: its container, if it has one; `user` and `group`: its own, by number."""
    rootless = any("rootless" in option for option in info.security_options or ())
    gpus = _GPU_RUNTIME in (info.runtimes or {})
    if own is None:
        apart = rootless or info.operating_system.startswith(_DESKTOP)
        # Rootless, the user that runs Docker is root in its containers.
        return Site("published" if apart else "bridge", "0:0" if rootless else f"{user}:{group}", gpus=gpus)
    reach: Reach = "bridge" if own.host_config.network_mode == "host" else "relayed"
    # Its user is a number of its container, and so of the others, which share its map of users.
    return Site(reach, f"{user}:{group}", own.id, own.image, own.mounts, gpus)


def missing_socket(path: str) -> str:
    """Return which flag hostler's container lacks where Docker's socket is not there."""
    return f"hostler runs in a container: give it Docker's socket (-v /var/run/docker.sock:{path})"


def missing_group(path: str) -> str:
    """Return which flag hostler's container lacks where it may not use Docker's socket. Looks at its group."""
    group = os.stat(path).st_gid
    return f"hostler runs in a container: give it the socket's group (--group-add {group}; compose: group_add)"


@functools.cache
def _warn_of_gpus(type: str) -> None:
    logger.warning("%s has GPUs, but Docker has no runtime for them here: its containers run without", type)
