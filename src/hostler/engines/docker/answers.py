"""What is read of Docker's answers. Source: Docker Engine API 1.41."""

from __future__ import annotations

from typing import TypeVar

import msgspec

from hostler.errors import EngineError


class Summary(msgspec.Struct, frozen=True, rename="pascal"):
    """A container in Docker's list of them."""

    id: str
    state: str  # created | running | paused | restarting | removing | exited | dead
    labels: dict[str, str] | None = None


class State(msgspec.Struct, frozen=True, rename="pascal"):
    """The state of a container; `status` as above."""

    status: str
    running: bool = False
    pid: int = 0  # as Docker's machine has it; 0: none
    exit_code: int = 0
    oom_killed: bool = msgspec.field(name="OOMKilled", default=False)


class Config(msgspec.Struct, frozen=True, rename="pascal"):
    labels: dict[str, str] | None = None


class HostConfig(msgspec.Struct, frozen=True, rename="pascal"):
    memory: int = 0  # bytes that it may use; 0: no limit


class Connected(msgspec.Struct, frozen=True):
    """A container's place in a network."""

    address: str = msgspec.field(name="IPAddress", default="")


class Published(msgspec.Struct, frozen=True, rename="pascal"):
    host_port: str = ""


class NetworkSettings(msgspec.Struct, frozen=True, rename="pascal"):
    """`ports`: such as "8080/tcp", with where each is published."""

    networks: dict[str, Connected] | None = None
    ports: dict[str, tuple[Published, ...] | None] | None = None


class Inspected(msgspec.Struct, frozen=True, rename="pascal"):
    """A container that was inspected. `image`: the id."""

    id: str
    state: State
    config: Config
    image: str = ""
    host_config: HostConfig = HostConfig()
    network_settings: NetworkSettings = NetworkSettings()


class Ended(msgspec.Struct, frozen=True, rename="pascal"):
    """A container that was waited for."""

    status_code: int


class FoundImage(msgspec.Struct, frozen=True, rename="pascal"):
    """An image that was inspected."""

    repo_digests: tuple[str, ...] | None = None


class Version(msgspec.Struct, frozen=True):
    api: str = msgspec.field(name="ApiVersion", default="")


class FoundNetwork(msgspec.Struct, frozen=True, rename="pascal"):
    id: str
    created: str = ""


Kind = TypeVar("Kind")


def read(answer: object, kind: type[Kind]) -> Kind:
    """Return an answer as a value. Raises EngineError for one of another shape."""
    try:
        return msgspec.convert(answer, kind)
    except msgspec.ValidationError as error:
        raise EngineError(f"Docker gave an answer that is not understood: {error}") from None
