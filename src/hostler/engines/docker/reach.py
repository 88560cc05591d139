"""Whether Docker's address can be reached, and if not, why, and what helps. Loads nothing of Docker's client."""

from __future__ import annotations

import asyncio
import errno
import os
from urllib.parse import urlsplit

from hostler.engines.docker import inside
from hostler.engines.own_container import own_container
from hostler.errors import EngineAway
from hostler.settings import Settings

USUAL = "unix:///var/run/docker.sock"
SECONDS = 5.0  # for a connection

_UNIX, _TCP = "unix://", "tcp://"
_OTHER = 'or name another address with docker_host in hostler.toml; with engine = "process" no image runs.'
_START = f"Start it (systemctl start docker, or open Docker Desktop), {_OTHER}"


def address(settings: Settings) -> str:
    """Return where Docker listens."""
    return settings.docker_host or os.environ.get("DOCKER_HOST") or USUAL


async def reach(address: str) -> None:
    """Connect to Docker, and hang up. Raises EngineAway, with the cause and what helps."""
    try:
        async with asyncio.timeout(SECONDS):
            if address.startswith(_UNIX):
                _, writer = await asyncio.open_unix_connection(address.removeprefix(_UNIX))
            else:
                _, writer = await asyncio.open_connection(*_host_and_port(address))
    except (OSError, ValueError) as error:  # TimeoutError among them
        raise EngineAway(unreachable(address, error)) from None
    writer.close()


def _host_and_port(address: str) -> tuple[str, int]:
    """Return both of tcp://host:port. Raises ValueError."""
    url = urlsplit(address)
    if not address.startswith(_TCP) or not url.hostname or not url.port:
        raise ValueError("that is neither unix:///path nor tcp://host:port")
    return url.hostname, url.port


def unreachable(address: str, error: Exception) -> str:
    """Return why Docker cannot be reached, and what helps, in sentences."""
    at = f"Docker cannot be reached at {address}"
    number = error.errno if isinstance(error, OSError) else None
    if isinstance(error, TimeoutError):
        return f"{at}: it took no connection within {SECONDS:g} seconds."
    if not address.startswith(_UNIX):
        return f"{at}: {_words(error)}. {_START}"
    if number in (errno.ENOENT, errno.ENOTDIR):
        if own_container():
            return f"{at}: there is no such socket, and {inside.missing_socket(address.removeprefix(_UNIX))}, {_OTHER}"
        return f"{at}: there is no such socket, so Docker does not run, or is not installed. {_START}"
    if os.path.isdir(address.removeprefix(_UNIX)):
        return (
            f"{at}: that is a folder, which Docker makes where -v names a path that is not there. Give the path of"
            f" Docker's socket, {_OTHER}"
        )
    if number in (errno.EACCES, errno.EPERM):
        if own_container():
            lacks = inside.missing_group(address.removeprefix(_UNIX))
            return f"{at}: this user may not use the socket, and {lacks}, {_OTHER}"
        return (
            f"{at}: this user may not use the socket. Let the user into its group (sudo usermod -aG docker $USER, and"
            f" log in again), or run Docker rootless, {_OTHER}"
        )
    if number == errno.ECONNREFUSED:
        return f"{at}: the socket is there, but nothing listens on it: the daemon does not run. {_START}"
    return f"{at}: {_words(error)}. {_START}"


def silent(address: str, seconds: float) -> str:
    """Return that Docker takes connections, and nothing more."""
    return (
        f"Docker does not answer at {address}: it took the connection, but gave no answer within {seconds:g} seconds."
        f" Its daemon hangs, or is stopped: look at its log (journalctl -u docker), and restart it."
    )


def _words(error: Exception) -> str:
    number = error.errno if isinstance(error, OSError) else None
    return os.strerror(number) if number and number > 0 else str(error).rstrip(".") or type(error).__name__
