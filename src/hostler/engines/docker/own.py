"""Containers in which hostler runs a small program of its own: the relay of an instance.

It needs the standard library alone, and is run by hostler's own Python. Where hostler runs in a container,
its image is that of this container. Elsewhere it is an image without any file, and the folders of hostler's Python are
mounted read-only. Either way nothing has to be pulled, built or installed for it.

This module decides what is created, and does no IO but for `make_image`.
"""

from __future__ import annotations

import io
import os
import sys
import tarfile
from collections.abc import Mapping, Sequence
from pathlib import Path

import aiodocker

from hostler.engines.docker.client import SLOW, DockerRefused, ask
from hostler.engines.docker.containers import INSTANCE, SOCKETS, Body
from hostler.engines.docker.inside import Site
from hostler.engines.house import House
from hostler.processes import relay

EMPTY = "localhost/hostler-relay"  # the image without any file; in no registry

_SYSTEM = ("/usr", "/lib", "/lib64", "/nix/store")  # where Python's libraries may be, besides its own folder
_LOG = {"Type": "json-file", "Config": {"max-size": "1m", "max-file": "1"}}
_NOT_FOUND = 404
_RESTARTS = 5  # in a row
_FOLDER = "/folder"  # of the remover: where the folder is mounted in which it removes others
# Before Python 3.13 rmtree calls itself for each level.
_REMOVE = "import shutil, sys\nsys.setrecursionlimit(10**6)\nfor path in sys.argv[1:]: shutil.rmtree(path)"


def relay_name(house: House, instance: str) -> str:
    """Return the name of an instance's relay."""
    return f"hostler-{house.id}-{instance}-relay"


def relay_body(site: Site, house: House, instance: str, network: str, sockets: Path, ports: Mapping[int, int]) -> Body:
    """Return how the relay of an instance is created. `sockets`: the folder for them; `ports`: by position.

    It has hostler's user, so that hostler can use its sockets, and no rights. If it is killed, Docker starts it again.
    """
    words = [SOCKETS, *(f"{position}={port}" for position, port in ports.items())]
    again = {"RestartPolicy": {"Name": "on-failure", "MaximumRetryCount": _RESTARTS}}
    created = _body(site, [relay.__file__, *words], network, [f"{site.source(sockets)}:{SOCKETS}"], again)
    return created | {"User": site.user, "Labels": {**house.labels, INSTANCE: instance}}


def remover_body(site: Site, house: House, folder: Path, names: Sequence[str]) -> Body:
    """Return how a container is created that removes these folders in `folder`, whoever owns what is in them."""
    words = ["-c", _REMOVE, *(f"{_FOLDER}/{name}" for name in names)]
    created = _body(site, words, "none", [f"{site.source(folder)}:{_FOLDER}"], {"CapAdd": ["DAC_OVERRIDE", "FOWNER"]})
    return created | {"User": "0:0", "Labels": {**house.labels}}


def _body(site: Site, words: Sequence[str], network: str, binds: Sequence[str], more: Body) -> Body:
    return {
        "Image": site.image or EMPTY,
        "Entrypoint": [os.path.realpath(sys.executable), "-I", "-S", *words],
        "Cmd": [],
        "WorkingDir": "/",
        "HostConfig": {
            "NetworkMode": network,
            "Binds": [*binds, *([] if site.container else _python())],
            "ReadonlyRootfs": True,
            "CapDrop": ["ALL"],
            # SELinux would keep a container from this machine's programs; it has no others.
            "SecurityOpt": ["no-new-privileges", *([] if site.container else ["label=disable"])],
            "Init": True,
            "LogConfig": _LOG,
            **more,
        },
        "Healthcheck": {"Test": ["NONE"]},  # that of hostler's own image asks for hostler
    }


def _python() -> list[str]:
    """Return the mounts that hostler's Python and its programs need."""
    folders = [os.path.realpath(sys.base_prefix), *(path for path in _SYSTEM if os.path.isdir(path))]
    paths = [path for path in dict.fromkeys([*folders, relay.__file__]) if not _is_below(path, folders)]
    return [f"{path}:{path}:ro" for path in paths]


def _is_below(path: str, folders: Sequence[str]) -> bool:
    return any(path != folder and path.startswith(f"{folder}/") for folder in folders)


async def make_image(docker: aiodocker.Docker, site: Site) -> None:
    """Make the image without files, if it is needed and not there. Raises EngineError."""
    if site.container:
        return
    try:
        await ask(docker.images.inspect(EMPTY))
    except DockerRefused as error:
        if error.status != _NOT_FOUND:
            raise
        await ask(_import_nothing(docker), SLOW)


async def _import_nothing(docker: aiodocker.Docker) -> None:
    nothing = io.BytesIO()
    tarfile.open(fileobj=nothing, mode="w").close()
    parameters = {"fromSrc": "-", "repo": EMPTY}
    headers = {"Content-Type": "application/x-tar"}
    await docker._query_json("images/create", "POST", params=parameters, data=nothing.getvalue(), headers=headers)
