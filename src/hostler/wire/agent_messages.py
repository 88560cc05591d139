"""Messages between control and the agent of an instance on another machine.

The agent dials control's door and knocks (door.py). Then, down (control to agent): one Welcome, and after it requests
that carry a number, and three orders that need no answer: Remember, Go, Serving. Up: the answers, which carry the
number back. A link that ends takes its requests along; control asks again on the next one, so each request may come
twice.
"""

from __future__ import annotations

import msgspec

from hostler.core.endpoints.resources import DataForm
from hostler.core.targets.placed import Placed
from hostler.failures import Failure
from hostler.wire.artifact_errors import ErrorData


class ContainerRoom(msgspec.Struct, frozen=True):
    """What the agent must know of one container of its instance, to place the container's artifacts."""

    ours: bool  # one of hostler's own servers, which is shown where an artifact lies; others get copies
    multi_model: bool = False
    scripts: bool = False  # a script of its environment serves every model, so each gets a folder


# --- down: control to agent -----------------------------------------------------------------------------------------


class Welcome(msgspec.Struct, frozen=True, tag=True):
    """The first message to an agent. It follows no control whose term is lower than another's before it.

    `s3_endpoint`: where the agent itself fetches from; empty: from control, as all file:// addresses. `api`: where
    control listens for that, such as tls:0.0.0.0:7701; the host is that of control's door. `passkey`: what control
    admits this link's requests there by. `serving`: see Serving.
    """

    term: int
    containers: tuple[ContainerRoom, ...]  # in the launch's order
    disk_budget: int  # bytes, as are the next
    archive_max_bytes: int
    archive_max_files: int
    archive_max_ratio: float
    s3_endpoint: str = ""
    api: str = ""
    passkey: str = ""
    serving: bool | None = None  # None: this control does not know yet


class ListTargets(msgspec.Struct, frozen=True, tag="Known"):  # its name in versions before
    """Storage.known: the first request for a container on a link if targets may be in place there. Answer: Listed."""

    number: int
    container: int  # position in the launch, here and below
    held: tuple[str, ...]


class Fetch(msgspec.Struct, frozen=True, tag=True):
    """Storage.fetch. Answer: Fetched or Failed."""

    number: int
    container: int
    model_id: str
    target: str
    bucket: str
    key: str
    failed: str = ""


class FetchFolder(msgspec.Struct, frozen=True, tag=True):
    """Storage.fetch_folder. Answer: Fetched or Failed."""

    number: int
    container: int
    folder: str
    bucket: str
    key: str
    form: DataForm = "archive"


class Discard(msgspec.Struct, frozen=True, tag=True):
    """Storage.discard. Answer: Done or Failed."""

    number: int
    container: int
    model_id: str
    failed: bool = False
    forget: bool = False


class Look(msgspec.Struct, frozen=True, tag=True):
    """Look at what a container has left, and at the ports of its instance. Answer: Looked."""

    number: int
    container: int


class Remember(msgspec.Struct, frozen=True, tag=True):
    """Storage.remember."""

    container: int
    model_id: str
    memory: int  # bytes


class Go(msgspec.Struct, frozen=True, tag=True):
    """The containers may start: what they need of artifacts is in place. The agent remembers it when it restarts."""


class Serving(msgspec.Struct, frozen=True, tag=True):
    """Whether the instance is in a route: so ready is its pod."""

    on: bool


Request = ListTargets | Fetch | FetchFolder | Discard | Look
Down = Welcome | Request | Remember | Go | Serving

# --- up: agent to control -------------------------------------------------------------------------------------------


class Fetched(msgspec.Struct, frozen=True, tag=True):
    number: int
    placed: Placed


class Listed(msgspec.Struct, frozen=True, tag=True):
    number: int
    placed: tuple[Placed, ...]


class Done(msgspec.Struct, frozen=True, tag=True):
    number: int


class Failed(msgspec.Struct, frozen=True, tag=True):
    number: int
    error: ErrorData


class ListeningPort(msgspec.Struct, frozen=True, array_like=True):
    """A TCP port on which a process of the instance listens; `loopback`: for callers within the pod alone."""

    port: int
    loopback: bool


class Looked(msgspec.Struct, frozen=True, tag=True):
    """`failure`: the report of one of hostler's own servers."""

    number: int
    listening: tuple[ListeningPort, ...] = ()
    failure: Failure | None = None


Up = Fetched | Listed | Done | Failed | Looked
