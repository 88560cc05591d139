"""The protocol of an engine, which hosts instances: it makes room for their containers, starts, stops and lists them.

An engine never decides, never retries, never fetches an artifact, never sends HTTP to a container. Whoever drives it
goes through three steps: `prepare` makes room, the artifacts come through the storages that it returns, `start` lets
the containers run. One contract test runs over every engine. Nothing here does IO.
"""

from __future__ import annotations

from collections.abc import Collection
from typing import NamedTuple, Protocol

import msgspec

from hostler.artifacts.storage import Storage
from hostler.core.endpoints.failure_facts import Lack
from hostler.engines.images import Server
from hostler.failures import Failure


class ContainerLaunch(msgspec.Struct, frozen=True):
    """How one container of an instance is to run.

    `environment` is the model's and the contract's; the engine adds what it alone knows: port, base folder, and the
    path of the code where SAGEMAKER_SUBMIT_DIRECTORY names an S3 address.
    """

    image: str  # ContainerDefinition.Image, as it came
    environment: dict[str, str]
    multi_model: bool = False
    has_artifact: bool = False  # decides which server runs for an unknown image
    log: str = ""  # the stream of its output, by which people know it: words and slashes
    endpoint: str = ""  # its name, by which canned answers are chosen
    hostname: str = ""  # by which the other containers of its instance reach it
    server: Server | None = None  # what runs for the image; None: the engine decides


class InstanceLaunch(msgspec.Struct, frozen=True):
    """How an instance is to run. `labels` are opaque: by them another control knows the instance again.

    `isolated`: no container has a network; one that would have it is not started.
    """

    id: str  # [a-z0-9.-]{1,38}; everything is idempotent by it
    labels: dict[str, str]
    containers: tuple[ContainerLaunch, ...]
    isolated: bool = False
    type: str = ""  # InstanceType, such as ml.m5.large
    spread: str = ""  # [a-z0-9.-]{1,63}; instances with the same are put on different machines, where there are such
    avoid: tuple[str, ...] = ()  # machines that do not answer, as reports name them: it is put on others


class ContainerReport(msgspec.Struct, frozen=True):
    """A container as its engine sees it. Without an address it has not started yet, or is there no more."""

    address: str = ""  # unix:/path or tcp:host:port
    ours: bool = False  # one of hostler's own servers, which adds memory and sockets to its answers
    exit: int | None = None  # None while it runs; negative: a signal
    engine: str = ""  # process | docker | kubernetes
    image: str = ""  # that runs, with its digest, if one does
    oom: bool = False  # it ended because its memory was used up
    cause: str = ""  # why it ended or was not started, in a sentence, if its exit code does not say so


class InstanceReport(msgspec.Struct, frozen=True):
    """An instance as its engine sees it, from its preparation until it is stopped."""

    id: str
    labels: dict[str, str]
    containers: tuple[ContainerReport, ...]  # in the launch's order
    trouble: str = ""  # why it is not there yet, or what fails though it serves; a sentence
    hopeless: bool = False  # that will not pass by itself
    leaving: bool = False  # others end it: it should get no more requests, and be replaced at once
    lost: bool = False  # its machine does not answer any more, so nothing can be stopped there
    machine: str = ""  # that it runs on, for people: its name, and after a slash its zone; empty: this one
    beat: str = ""  # tcp:host:port, whose silence means that its machine is gone; empty: it has none
    lack: Lack = ""  # what it is not there for: no machine has room for it, or an image cannot be had


class Autopsy(msgspec.Struct, frozen=True):
    """What is left of a container that failed, fit to be shown. Empty where an engine cannot know."""

    log: str = ""  # its end
    port: int = 0  # on which it should listen; 0: on a socket, or nothing is known
    listening: tuple[int, ...] = ()  # the ports on which its processes listen
    failure: Failure | None = None  # the report of one of hostler's own servers
    program: str = ""  # of a command
    interpreter: str = ""  # in the program's first line
    loopback: bool = False  # it listens on `port`, but for callers within its own network alone
    limit: int = 0  # bytes of memory that it might use; 0: all of the machine's
    platform: str = ""  # of its image, such as linux/arm64, if the machine's is another one
    machine: str = ""  # the platform of the machine, in that case


class Size(NamedTuple):
    """What an instance may use."""

    memory: int  # bytes
    cpus: int


class Engine(Protocol):
    """Hosts instances. Methods raise EngineError where they say so: it cannot be done, or not be asked just now."""

    @property
    def pooled(self) -> int:
        """Bytes of memory that all instances share; 0: each has that of its `size`."""

    def size(self, type: str) -> Size:
        """Return what an instance of this InstanceType may use."""

    async def prepare(self, launch: InstanceLaunch) -> tuple[Storage, ...]:
        """Make room for an instance's containers that run here; return their storages, in order. Raises EngineError.

        What runs of it already, also if an earlier control started it, is left as it is.
        """

    async def start(self, id: str) -> InstanceReport:
        """Start the containers of a prepared instance that were not started yet. Return what runs: each has an address,
        but for those that another engine runs.

        Raises EngineError; NotStarted if the fault is one container's. A container that ends after its start is
        reported by `list`, and raises nothing here.
        """

    async def stop(self, id: str, grace: float) -> None:
        """Send SIGTERM, after `grace` seconds SIGKILL; return when all has ended, and forget the instance.

        No error if unknown. Raises EngineError.
        """

    async def kill(self, id: str, position: int) -> None:
        """End one container as the kernel does when memory runs out (SIGKILL); return once `list` says that it ended.

        No error if it has ended already, or is unknown. Raises EngineError.
        """

    async def list(self) -> list[InstanceReport]:
        """Return every instance of which a container was started, until it is stopped: the only record of what runs.

        An instance that others removed is not there; one of which they removed a container has no address for that.

        Raises EngineError within seconds if the engine cannot be asked just now.
        """

    async def changed(self) -> None:
        """Return once `list` may have changed since the last call; it need not have."""

    async def memory(self, id: str, position: int) -> int:
        """Return the bytes of memory that a container holds; 0 if it has ended, or if that cannot be known."""

    async def processor_time(self, id: str, position: int) -> float:
        """Return the seconds of processor time that a container's processes have used; 0 if that cannot be known."""

    async def logs(self, id: str, position: int, tail: int) -> str:
        """Return the last `tail` bytes of a container's output as text; empty without any."""

    async def autopsy(self, id: str, position: int, tail: int) -> Autopsy:
        """Look at a container that failed, or does not come up, and at the last `tail` bytes of its output."""

    async def serving(self, ids: Collection[str]) -> None:
        """Take note of the instances that get requests now."""

    async def sweep(self, known: Collection[str]) -> tuple[str, ...]:
        """Remove what is left of instances other than these; return its names. Raises EngineError."""

    async def leave(self, grace: float) -> None:
        """Stop all instances that would go on without hostler: it ends for good. Nothing else is called after that.

        `grace` as for `stop`. Raises EngineError.
        """
