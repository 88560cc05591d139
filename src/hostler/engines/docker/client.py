"""Calls to Docker: each ends within its time, and fails as an EngineError."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Mapping
from contextlib import asynccontextmanager
from typing import TypeVar

import aiodocker
import aiohttp

from hostler.errors import EngineAway, EngineError

QUICK = 5.0  # seconds for a question
SLOW = 20.0  # seconds for what changes something: on a busy machine the start of a container takes some of them

_UNIX = "unix://"
_NO_CONNECTION = 900  # aiodocker's status of a call that did not reach Docker
_ENDLESS = aiohttp.ClientTimeout(total=None, sock_connect=QUICK)

# Podman 4.3 answers these with 500, where Docker has 409.
_CONFLICTS = ("container state improper", "name is already in use", "has dependent containers")

Answer = TypeVar("Answer")


class DockerAway(EngineAway):
    """Docker did not answer."""


class DockerRefused(EngineError):
    """Docker refused a call. `status`: of its answer, 404 without the thing, 409 in conflict with another one."""

    def __init__(self, status: int, message: str) -> None:
        super().__init__(message)
        self.status = status


def connect(address: str) -> aiodocker.Docker:
    """Return a client, which connects when it is used first. It belongs to the event loop that runs now."""
    if address.startswith(_UNIX):  # a connection for each log that is followed, which may be more than the usual 100
        return aiodocker.Docker(f"{_UNIX}localhost", aiohttp.UnixConnector(address.removeprefix(_UNIX), limit=0))
    return aiodocker.Docker(address)


async def disconnect(docker: aiodocker.Docker) -> None:
    """Close all connections of a client."""
    await docker.close()
    await docker.connector.close()


async def ask(call: Awaitable[Answer], seconds: float = QUICK) -> Answer:
    """Return the answer to a call. Raises DockerRefused; DockerAway without an answer within `seconds`."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except TimeoutError:
        raise DockerAway(f"Docker did not answer within {seconds:g} seconds") from None
    except aiodocker.DockerError as error:
        if error.status == _NO_CONNECTION:
            raise DockerAway(why_away(error)) from None
        conflict = error.status == 500 and any(text in error.message for text in _CONFLICTS)
        raise DockerRefused(409 if conflict else error.status, error.message) from None
    except (KeyError, TypeError) as error:  # aiodocker takes an answer's shape for granted
        raise EngineError(f"Docker gave an answer that is not understood: {error}") from None
    except (aiohttp.ClientError, OSError, ValueError) as error:  # the answer ended in its middle
        raise DockerAway(f"Docker does not answer: {error or type(error).__name__}") from None


def why_away(error: Exception) -> str:
    """Return why a call did not reach Docker, or got no answer."""
    cause = error.__cause__ or error.__context__ or error
    if isinstance(cause, aiohttp.ClientConnectorError):
        return f"Docker cannot be reached: {cause.os_error.strerror or cause.os_error}. Does it run?"
    return "Docker broke the connection off before it had answered"


@asynccontextmanager
async def stream(
    docker: aiodocker.Docker, path: str, parameters: Mapping[str, str]
) -> AsyncIterator[aiohttp.StreamReader]:
    """Open an answer that goes on for as long as there is something to say. Raises DockerAway or DockerRefused."""
    if docker.api_version == "auto":
        await ask(docker.version())  # it takes note of the version
    url = f"{docker.docker_host}/{docker.api_version}/{path}"
    try:
        async with asyncio.timeout(QUICK) as limit:
            async with docker.session.get(url, params=parameters, timeout=_ENDLESS) as response:
                if response.status >= 400:
                    raise DockerRefused(response.status, _message(await response.text()))
                limit.reschedule(None)
                yield response.content
    except TimeoutError:
        raise DockerAway(f"Docker did not answer within {QUICK:g} seconds") from None
    except (aiohttp.ClientError, OSError) as error:
        raise DockerAway(f"Docker does not answer: {error or type(error).__name__}") from None


def filters(**values: list[str]) -> str:
    """Return a filter of lists or events, as a parameter."""
    return json.dumps(values)


def _message(text: str) -> str:
    try:
        return str(json.loads(text)["message"])
    except (ValueError, KeyError, TypeError):
        return text
