"""The API of Kubernetes, as the engine asks it. Each call ends in time, and its errors are EngineErrors.

lightkube knows how a cluster is reached and who asks. Its watch is not used: it has no time limit, and with a server
that is mute it waits for ever.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Mapping
from typing import TypeVar

import httpx2
import msgspec
from lightkube import ApiError, AsyncClient
from lightkube.config import client_adapter
from lightkube.core.exceptions import ConfigError

from hostler.engines.kubernetes.answers import Change, ListPage, Status
from hostler.errors import EngineAway, EngineError
from hostler.text import one_line

T = TypeVar("T")

SLOW = 20.0  # seconds for a call that the server may take time for
WATCH = 20  # seconds after which the server ends a watch
_MUTE = WATCH + 5.0  # seconds without a word on a watch
_PAGE = 500  # objects of a list
_QUOTED = 300  # characters of what the server says
_LATER = (408, 429)  # codes of errors that pass by themselves, beside 5xx


class Refused(EngineError):
    """The server refused a request. `code`: HTTP's."""

    def __init__(self, code: int, message: str) -> None:
        super().__init__(message)
        self.code = code


class Expired(EngineError):
    """The server has forgotten what has happened since the version from which a watch was to begin."""


class Api:
    """One server. `client`: lightkube's, for all but lists and watches."""

    def __init__(self, client: AsyncClient) -> None:
        self.client = client
        timeout = httpx2.Timeout(10.0, read=_MUTE)
        # Each watch, and each log that is followed, has a connection of its own.
        parameters = client_adapter.ConnectionParams(timeout=timeout).httpx_params(client.config)
        self._http = httpx2.AsyncClient(**parameters, limits=httpx2.Limits(max_connections=None))

    async def close(self) -> None:
        """Close all connections."""
        await self.client.close()
        await self._http.aclose()

    async def list(self, path: str, query: Mapping[str, str], kind: type[T]) -> tuple[list[T], str]:
        """Return all objects below a path, and the list's version. Raises EngineError."""
        items: list[T] = []
        parameters = {**query, "limit": str(_PAGE)}
        while True:
            response = await ask(self._http.get(path, params=parameters))
            page = _decoded(response, ListPage[kind])  # type: ignore[valid-type]
            items += page.items or ()
            if not page.metadata.continue_:
                return items, page.metadata.resource_version
            parameters["continue"] = page.metadata.continue_

    async def watch(self, path: str, query: Mapping[str, str], version: str) -> AsyncIterator[Change | None]:
        """Yield the changes of the objects below a path from a version on, until the server ends that; first None.

        It does after some seconds. Raises EngineError, EngineAway also if no word comes for longer; Expired.
        """
        more = {
            "watch": "true",
            "allowWatchBookmarks": "true",
            "timeoutSeconds": str(WATCH),
            "resourceVersion": version,
        }
        request = self._http.build_request("GET", path, params={**query, **more})
        response = await ask(self._http.send(request, stream=True))
        try:
            if response.is_error:
                await ask(response.aread())
                _raise(response)
            yield None
            async for line in _pieces(response.aiter_lines()):
                change = parsed(line, Change)
                if change.type == "ERROR":
                    raise _error(parsed(change.object, Status), 500)
                yield change
        finally:
            await response.aclose()

    async def stream(self, path: str, query: Mapping[str, str]) -> AsyncIterator[bytes]:
        """Yield the pieces of an answer that grows for as long as it does. Raises EngineError."""
        timeout = httpx2.Timeout(10.0, read=None)
        request = self._http.build_request("GET", path, params=query, timeout=timeout)
        response = await ask(self._http.send(request, stream=True))
        try:
            if response.is_error:
                await ask(response.aread())
                _raise(response)
            async for piece in _pieces(response.aiter_bytes()):
                yield piece
        finally:
            await response.aclose()


async def ask(call: Awaitable[T], seconds: float = SLOW) -> T:
    """Return a call's answer. Raises EngineAway if the server cannot be asked just now; else Refused."""
    try:
        async with asyncio.timeout(seconds):
            return await call
    except ApiError as error:
        raise _error(Status(error.status.code, message=error.status.message or ""), 500) from None
    except httpx2.HTTPStatusError as error:
        raise _error(Status(), error.response.status_code) from None
    except (httpx2.HTTPError, OSError) as error:
        raise _away(error) from None
    except TimeoutError:
        raise EngineAway(f"the API server does not answer within {seconds:g} s") from None
    except ConfigError as error:
        raise EngineAway(f"the API server cannot be asked: {one_line(str(error), _QUOTED)}") from None


async def _pieces(answer: AsyncIterator[T]) -> AsyncIterator[T]:
    """Yield what comes. Raises EngineAway if the connection breaks."""
    while True:
        try:
            yield await anext(answer)
        except StopAsyncIteration:
            return
        except (httpx2.HTTPError, OSError) as error:
            raise _away(error) from None


def _away(error: Exception) -> EngineAway:
    said = one_line(str(error), _QUOTED) or type(error).__name__
    why = "" if isinstance(error, httpx2.TimeoutException) else f": {said}"
    return EngineAway(f"the API server does not answer{why}")


def _decoded(response: httpx2.Response, kind: type[T]) -> T:
    if response.is_error:
        _raise(response)
    return parsed(response.content, kind)


def _raise(response: httpx2.Response) -> None:
    try:
        status = msgspec.json.decode(response.content, type=Status)
    except msgspec.DecodeError:
        status = Status()
    raise _error(status, response.status_code)


def parsed(text: str | bytes | msgspec.Raw, kind: type[T]) -> T:
    """Return what the server has sent. Raises EngineAway if it is something else."""
    try:
        return msgspec.json.decode(text, type=kind)
    except msgspec.DecodeError:
        raise EngineAway("the API server does not answer as Kubernetes does") from None


def _error(status: Status, otherwise: int) -> EngineError:
    code, said = status.code or otherwise, one_line(status.message, _QUOTED)
    if code == 410:
        return Expired(said)
    if code >= 500 or code in _LATER:
        return EngineAway(f"the API server does not answer ({code}){f': {said}' if said else ''}")
    if code in (401, 403):
        return Refused(code, f"the API server does not allow it ({code}): {said}")
    return Refused(code, f"the API server refuses it ({code}): {said}")
