"""What Docker is asked to create: the body of /containers/create, as a value. Nothing here does IO.

Source: Docker Engine API 1.41; for the container's contract §5.1 to §5.3 of docs/specification.md.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hostler import contract
from hostler.engines import ports
from hostler.engines.engine import ContainerLaunch, InstanceLaunch, Size
from hostler.engines.house import House

INSTANCE = "hostler.instance"  # label: its instance's id
LAUNCH = "hostler.launch"  # label: a Note in JSON

SOCKETS, SOCKET = "/sockets", "s"  # the folder for a container's socket, as it sees that, and the socket's name
_ALL_GPUS = {"Driver": "", "Count": -1, "Capabilities": [["gpu"]]}
_LOG = {"Type": "json-file", "Config": {"max-size": "64m", "max-file": "2"}}

Body = dict[str, Any]

_THEIRS: Body = {"CapDrop": ["NET_RAW"]}
_OURS: Body = {"CapDrop": ["ALL"], "ReadonlyRootfs": True, "Tmpfs": {"/tmp": ""}}


class Note(msgspec.Struct, frozen=True):
    """What the engine must know of a container, whichever hostler created it."""

    instance: str
    position: int
    containers: int  # of the instance
    labels: dict[str, str]  # the instance's
    log: str  # stream
    reference: str
    framework: str = ""
    image: str = ""  # repository and tag of AWS's image
    sockets: bool = False  # it is called by a socket (doors.py)


class Place(NamedTuple):
    """Where a container is put: a house, the folder that it sees at /opt/ml, and a network.

    `network`: the id of a network, or the mode by which it shares another container's. `hosts`: names that mean the
    container itself; none for one that shares a network. `binds`: all its mounts. `published`: the ports that are
    published on 127.0.0.1. `sockets`: it is called by a socket. `user`: of one of hostler's own servers. `gpus`: it
    has those of the machine. `size`: what it may use; None: all.
    """

    house: House
    folder: str
    network: str
    hosts: Sequence[str] = ()
    binds: Sequence[str] = ()
    published: Sequence[int] = ()
    sockets: bool = False
    user: str = ""
    gpus: bool = False
    size: Size | None = None


def name(house: House, instance: str, position: int) -> str:
    """Return a container's name."""
    return f"hostler-{house.id}-{instance}-{position}"


def joined(house: House, instance: str, position: int) -> str:
    """Return the network of a container that shares that of another one of its instance."""
    return f"container:{name(house, instance, position)}"


def body(launch: InstanceLaunch, position: int, environment: Mapping[str, str], place: Place) -> Body:
    """Return how a container is created. Raises ValueError if no process can have that environment."""
    container = launch.containers[position]
    server = container.server
    assert server is not None
    own = place.network.partition(":")[0] != "container"
    exposed = [f"{port}/tcp" for port in place.published] if own else []
    host: Body = {
        "NetworkMode": place.network,
        "Binds": [*place.binds],
        "Init": True,
        "LogConfig": _LOG,
        "SecurityOpt": ["no-new-privileges"],
        **(_OURS if server.framework else _THEIRS),
        **(_limits(place.size) if place.size else {}),
        "ExtraHosts": [f"{host}:127.0.0.1" for host in place.hosts] if own else [],
        "PortBindings": {port: [{"HostIp": "127.0.0.1", "HostPort": ""}] for port in exposed},
        "DeviceRequests": [_ALL_GPUS] if place.gpus else [],
    }
    return {
        "Image": server.reference,
        "Cmd": [contract.SERVE],
        "Env": _variables(environment, launch, position, place),
        "Labels": {
            **place.house.labels,
            INSTANCE: launch.id,
            LAUNCH: msgspec.json.encode(_note(launch, position, container, place)).decode(),
        },
        **({"Hostname": container.hostname} if own and container.hostname else {}),
        **({"User": place.user} if server.framework else {}),
        "ExposedPorts": {port: {} for port in exposed},
        "Healthcheck": {"Test": ["NONE"]},  # pings are SageMaker's only one, whatever the image says
        "StopSignal": "SIGTERM",
        "StopTimeout": int(contract.STOP_GRACE),
        "HostConfig": host,
    }


def _limits(size: Size) -> Body:
    """Return the limits of an instance for one of its containers: each may use all of it, and no swap."""
    return {"NanoCpus": size.cpus * 10**9, "Memory": size.memory, "MemorySwap": size.memory}


def _note(launch: InstanceLaunch, position: int, container: ContainerLaunch, place: Place) -> Note:
    server = container.server
    assert server is not None
    return Note(
        launch.id, position, len(launch.containers), launch.labels, container.log,
        server.reference, server.framework, server.image, place.sockets,
    )  # fmt: skip


def _variables(environment: Mapping[str, str], launch: InstanceLaunch, position: int, place: Place) -> list[str]:
    server = launch.containers[position].server
    variables = {
        # By itself our server would have a worker for each processor of the machine.
        **({contract.ENV_WORKERS: "1"} if server and server.framework else {}),
        **{key: _seen_inside(value, place.folder) for key, value in environment.items()},
        contract.ENV_BIND_TO_PORT: str(ports.port(position)),
        contract.ENV_SAFE_PORT_RANGE: ports.safe_range(position, alone=len(launch.containers) == 1),
    }
    if place.sockets and server and server.framework:
        variables[contract.ENV_SOCKET] = f"{SOCKETS}/{SOCKET}"
    elif server and server.framework and not place.published:
        variables[contract.ENV_PORTS] = "true"
    for key, value in variables.items():
        if not key or "=" in key or "\0" in key + value:
            raise ValueError(f"the environment variable {key!r} cannot be set")
    return [f"{key}={value}" for key, value in variables.items()]


def _seen_inside(value: str, folder: str) -> str:
    """Return a path below the container's folder as the container's own path; any other value unchanged."""
    if value == folder or value.startswith(folder + "/"):
        return contract.BASE_DIR + value.removeprefix(folder)
    return value
