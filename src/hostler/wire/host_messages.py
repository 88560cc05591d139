"""Messages of the host link: control's requests to the host (start, stop, list containers), over one unix socket.

The host's table of children is the only record of running containers. Requests carry a number; answers repeat it.
`Changed` comes without a request whenever a container started or ended; it carries no state: send `List` for that.
"""

from __future__ import annotations

import msgspec


class Spawn(msgspec.Struct, frozen=True):
    """How the host starts a container.

    Exactly one of `framework` (one of our own servers, forked from the zygote) and `command` (executed) is set.
    `environment` is complete except for the values that only the host knows: socket, port, base folder, lifeline.
    """

    id: str  # chosen by control; [a-z0-9.-]{1,40}; start is idempotent by it
    folder: str  # the container's own folder, already there; it becomes /opt/ml
    log: str  # file to which stdout and stderr are appended
    environment: dict[str, str]
    labels: dict[str, str]  # opaque to the host; control recognizes its containers by them
    framework: str = ""  # xgboost | sklearn | torch | onnx | script | auto
    command: tuple[str, ...] = ()
    tmpfs: tuple[str, ...] = ()  # folders that a command may write to, empty at first; under bubblewrap alone
    isolated: bool = False  # without any network but its own loopback; refused where that cannot be


class Child(msgspec.Struct, frozen=True):
    """The host's record of a container, until it is stopped. `exit` is None while it runs (negative: a signal)."""

    id: str
    pid: int
    address: str  # unix:/path or tcp:127.0.0.1:port
    started: float  # epoch seconds
    labels: dict[str, str]
    exit: int | None = None
    base: str = ""  # the base folder as the container itself sees it: Spawn.folder, or /opt/ml where that is bound
    isolated: bool = False


# --- control to host ----------------------------------------------------------------------------------------------


class Start(msgspec.Struct, frozen=True, tag=True):
    number: int
    spawn: Spawn


class Stop(msgspec.Struct, frozen=True, tag=True):
    """Send SIGTERM, `grace` seconds later SIGKILL to the whole tree; then forget the id. Unknown ids are no error."""

    number: int
    id: str
    grace: float


class List(msgspec.Struct, frozen=True, tag=True):
    number: int


class EndGateway(msgspec.Struct, frozen=True, tag=True):
    """Kill a gateway that has been silent for too long; the host starts another."""

    number: int
    pid: int


ToHost = Start | Stop | List | EndGateway

# --- host to control ----------------------------------------------------------------------------------------------


class Done(msgspec.Struct, frozen=True, tag=True):
    """The request was carried out; or `error` is the reason why not (for Start: the container does not run)."""

    number: int
    error: str = ""


class Started(msgspec.Struct, frozen=True, tag=True):
    """The answer to Start: the container as it was started, by this request or by an earlier one."""

    number: int
    child: Child


class Listing(msgspec.Struct, frozen=True, tag=True):
    number: int
    children: tuple[Child, ...]


class Changed(msgspec.Struct, frozen=True, tag=True):
    """A container started or ended."""


FromHost = Done | Started | Listing | Changed
