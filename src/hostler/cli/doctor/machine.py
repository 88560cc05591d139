"""Looks at this machine. It changes nothing, and leaves nothing behind."""

from __future__ import annotations

import asyncio
import importlib.util
import os
import platform
import resource
import shutil
import socket
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path

from hostler.cli import http
from hostler.errors import EngineError, UserError
from hostler.failures import extra
from hostler.host import data_dir, namespaces, sandbox
from hostler.host.namespaces import Allowed
from hostler.servers.cgroup import memory_left
from hostler.settings import Settings, access_keys


@dataclass(frozen=True)
class Machine:
    """What was seen. Each `why_…` is empty if there is nothing in the way; sizes are bytes."""

    python: str
    allowed: Allowed  # of namespaces
    bubblewrap: bool  # it is installed
    why_no_bubblewrap: str
    docker: str  # its version; empty: it is not asked, or cannot be
    docker_api: tuple[int, ...]
    why_no_docker: str
    url: str  # of the hostler that runs on the data folder
    taken: tuple[int, ...]  # ports that another program has
    why_no_data: str
    disk_free: int
    memory: int  # of the machine, or of this process's control group
    memory_free: int
    open_files: int
    environment: Mapping[str, str]
    why_no_keys: str = ""  # with which requests are verified


def look(settings: Settings, environment: Mapping[str, str]) -> Machine:
    """Return what there is. It takes some seconds where something does not answer."""
    url, why_no_data = "", _why_no_data(settings.data)
    try:
        if running := data_dir.running(settings.data):
            url = http.url(running)
    except UserError as error:
        why_no_data = why_no_data or str(error)
    docker, api, why_no_docker = _docker(settings)
    installed = shutil.which("bwrap") is not None
    free, total = memory_left()
    return Machine(
        python=platform.python_version(),
        allowed=namespaces.trial(),
        bubblewrap=installed,
        why_no_bubblewrap=sandbox.try_bubblewrap() if installed and settings.bubblewrap != "off" else "",
        docker=docker,
        docker_api=api,
        why_no_docker=why_no_docker,
        url=url,
        taken=() if url else tuple(port for host, port in ports(settings) if _is_taken(host, port)),
        why_no_data=why_no_data,
        disk_free=shutil.disk_usage(_nearest(settings.data)).free,
        memory=total,
        memory_free=free,
        open_files=resource.getrlimit(resource.RLIMIT_NOFILE)[1],
        environment=environment,
        why_no_keys=_why_no_keys(settings),
    )


def ports(settings: Settings) -> list[tuple[str, int]]:
    """Return the addresses that hostler listens on, its own port first."""
    proxy = settings.aws_hosts_port if settings.aws_hosts_port is not None else settings.port and settings.port + 1
    return [(host, port) for host, port in ((settings.host, settings.port), ("127.0.0.1", proxy)) if port]


def _is_taken(host: str, port: int) -> bool:
    try:
        family, kind, _, _, address = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM)[0]
        with socket.socket(family, kind) as trial:
            trial.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
            trial.bind(address)
    except OSError:
        return True
    return False


def _nearest(folder: Path) -> Path:
    """Return the folder, or the nearest one above it that exists."""
    return next(each for each in (folder.absolute(), *folder.absolute().parents) if each.is_dir())


def _why_no_data(folder: Path) -> str:
    """Return why nothing could be written there."""
    if folder.exists() and not folder.is_dir():
        return f"{folder} is not a folder"
    nearest = _nearest(folder)
    return "" if os.access(nearest, os.W_OK | os.X_OK) else f"this user may not write to {nearest}"


def _why_no_keys(settings: Settings) -> str:
    if settings.signatures == "verify":
        try:
            access_keys(settings)
        except UserError as error:
            return str(error)
    return ""


def _docker(settings: Settings) -> tuple[str, tuple[int, ...], str]:
    """Return Docker's version, that of its API, and why it cannot be used."""
    if settings.engine in ("process", "kubernetes"):
        return "", (), ""
    if not importlib.util.find_spec("aiodocker"):
        return "", (), f"Docker's client is not installed: {extra('docker')}"
    try:
        version, api = asyncio.run(_ask_docker(settings))
    except EngineError as error:
        return "", (), str(error)
    return version, tuple(int(number) for number in api.split(".")), ""


async def _ask_docker(settings: Settings) -> tuple[str, str]:
    """Raises EngineError."""
    from hostler.engines.docker import client, reach

    address = reach.address(settings)
    await reach.reach(address)
    docker = client.connect(address)
    try:
        answer = await client.ask(docker.version())
    finally:
        await client.disconnect(docker)
    return str(answer.get("Version", "")), str(answer.get("ApiVersion", "0"))
