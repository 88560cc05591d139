"""Where hostler runs, as Docker sees it: on Docker's machine, or in a container of this Docker beside those it starts.

In a container, hostler's paths are not those of Docker's machine: a folder that others are to see must lie in a mount,
whose source Docker knows. And it reaches no bridge of Docker's: a neighbour's addresses are closed to it as to any
other container (the network `hostler` has icc off), so that calls go through sockets in the mounted folder (relay.py).

`look` asks Docker, once for each connection. All else is pure.
"""

from __future__ import annotations

import os
import re
from pathlib import Path
from typing import TYPE_CHECKING, Literal

import msgspec

from hostler.errors import EngineError

if TYPE_CHECKING:
    from aiodocker import Docker

# bridge: by the container's own address; published: by a port of 127.0.0.1; relayed: by a socket that a relay serves.
Reach = Literal["bridge", "published", "relayed"]

_OWN = re.compile(r"/([0-9a-f]{64})/(?:userdata/)?hostname /etc/hostname ")  # in mountinfo: Docker's, Podman's
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


class Site(msgspec.Struct, frozen=True):
    """Where hostler runs. `container`: its own id; empty: on Docker's machine, where paths are the same."""

    reach: Reach = "bridge"
    user: str = ""  # by which a container is the same user as hostler
    container: str = ""
    image: str = ""  # of its own container
    mounts: tuple[Mount, ...] = ()

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


def own_container(mounts: Path = Path("/proc/self/mountinfo")) -> str:
    """Return the id of the container in which this process runs; empty if it runs in none of Docker's or Podman's.

    The id is in the source of the file that Docker mounts at /etc/hostname, also where the container has another
    hostname or its host's network.
    """
    try:
        own = _OWN.search(mounts.read_text(errors="replace"))
    except OSError:
        return ""
    return own[1] if own else ""


async def look(docker: Docker, data: Path) -> Site:
    """Ask Docker where hostler runs, which has its `data` there. Raises EngineError, with the flag that is missing.

    A container that this Docker does not know is Docker's own machine: Docker runs in it, too.
    """
    from aiodocker.exceptions import DockerError  # imported here: whoever runs no image does not need it

    own: Own | None = None
    info = msgspec.convert(await docker.system.info(), Info)
    if id := own_container():
        try:
            own = msgspec.convert(await docker.containers.container(id).show(), Own)
        except DockerError as error:
            if error.status != _NOT_FOUND:
                raise
    site = place(info, own, os.geteuid(), os.getegid())
    site.source(data)
    return site


def place(info: Info, own: Own | None, user: int, group: int) -> Site:
    """Return where hostler runs. `own`: its container, if it has one; `user` and `group`: its own, by number."""
    rootless = any("rootless" in option for option in info.security_options or ())
    if own is None:
        apart = rootless or info.operating_system.startswith(_DESKTOP)
        # Rootless, the user that runs Docker is root in its containers.
        return Site("published" if apart else "bridge", "0:0" if rootless else f"{user}:{group}")
    reach: Reach = "bridge" if own.host_config.network_mode == "host" else "relayed"
    # Its user is a number of its container, and so of the others, which share its map of users.
    return Site(reach, f"{user}:{group}", own.id, own.image, own.mounts)


def unreachable(address: str, error: OSError, container: str) -> str:
    """Return what to do when Docker's socket cannot be used. `container`: hostler's own, or empty.

    Looks at the socket's group.
    """
    path = address.removeprefix("unix://")
    if isinstance(error, PermissionError):
        try:
            group = os.stat(path).st_gid
        except OSError:
            return ""
        if container:
            return f"start hostler's container with `--group-add {group}` (compose: group_add), the group of {path}"
        return f"let this user use {path}: `sudo usermod -aG docker $USER`, then log in again"
    if container and address.startswith("unix://") and not os.path.exists(path):
        return f"start hostler's container with Docker's socket: `-v /var/run/docker.sock:{path}`"
    return ""
