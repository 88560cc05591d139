"""A client of one container's multi-model API (§5.8): load, unload and list models.

It knows models by the names that the container has for them; not which targets they are, nor why they load or leave.
"""

from __future__ import annotations

import msgspec

from hostler import contract
from hostler.hosting.container import Container, decoded
from hostler.wire.http_call import Reply
from hostler.wire.http_client import ConnectionPool
from hostler.wire.http_exchange import CallFailed

CONNECT_TIMEOUT = 5.0  # seconds
UNLOAD_TIMEOUT = 90.0  # seconds for a DELETE: the server first ends what still runs (up to an invocation's 60)


class LoadedModel(msgspec.Struct, rename="camel"):
    """A model that a container holds. Only our own servers give `loading` and what follows."""

    model_name: str = ""
    loading: bool = False  # it is being loaded, and cannot be called yet
    memory: int = 0  # bytes
    socket: str = ""  # file name of the socket of its own process
    sockets: tuple[str, ...] = ()  # those of its copies, to which the container itself passes requests on
    port: int = 0  # as `socket`, of a server that listens on a port; 0: none
    ports: tuple[int, ...] = ()  # as `sockets`


class LoadFailure(msgspec.Struct, rename="camel"):
    """A load that one of our own servers refused. `process_ended`: exit code of the server's process that it ended."""

    process_ended: int | None = None


class _ModelsPage(msgspec.Struct, rename="camel"):
    models: list[LoadedModel] = []
    next_page_token: str | None = None


class ModelsApi:
    """The calls of one container."""

    def __init__(self, container: Container) -> None:
        self._container = container
        # A foreign server may close idle connections, so each call to it gets a new one.
        self._pool = None if container.foreign else ConnectionPool(connect_timeout=CONNECT_TIMEOUT)

    async def load(self, model: str, url: str, target: str) -> Reply:
        """POST /models. Raises CallFailed."""
        body = msgspec.json.encode({"model_name": model, "url": url})
        headers = {"Content-Type": "application/json", contract.H_TARGET_MODEL: target}
        return await self._container.call(
            "POST", contract.MODELS, body, headers, timeout=contract.LOAD_TIMEOUT, pool=self._pool
        )

    async def unload(self, model: str) -> bool:
        """DELETE /models/{model}. Return whether the container answered, whatever it said."""
        path = f"{contract.MODELS}/{model}"
        try:
            await self._container.call("DELETE", path, timeout=UNLOAD_TIMEOUT, pool=self._pool)
        except CallFailed:
            return False
        return True

    async def models(self) -> list[LoadedModel]:
        """Return all models that the container lists, page by page. A token after an empty page ends the list.

        Raises CallFailed.
        """
        models: list[LoadedModel] = []
        path = contract.MODELS
        while True:
            reply = await self._container.call("GET", path, timeout=contract.PING_TIMEOUT, pool=self._pool)
            page = decoded(reply, _ModelsPage) if reply.status == 200 else _ModelsPage()
            models += page.models
            if not page.models or not page.next_page_token:
                return models
            path = f"{contract.MODELS}?next_page_token={page.next_page_token}"

    def close(self) -> None:
        if self._pool:
            self._pool.close()
