"""What is known of a container that failed, and what follows from it: values alone."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal, NamedTuple

from hostler.failures import Failure

Lack = Literal["", "capacity", "image"]  # what an instance that does not come to run may lack


@dataclass(frozen=True)
class Ping:
    """A health check that was not passed. `status` 0: no answer; time ran out, or the connection broke."""

    path: str
    status: int = 0
    timed_out: bool = False

    @property
    def refused(self) -> bool:
        """Whether it will hardly ever be passed: a server that is still starting answers 5xx, not 4xx."""
        return 400 <= self.status < 500


@dataclass(frozen=True)
class Facts:
    """A container that failed. Exactly one of `exit`, `ping` and `cause` says how."""

    label: str  # its name for people
    ours: bool = False  # one of our own servers
    served: bool = False  # it had passed a health check before
    exit: int | None = None  # its exit code; negative: a signal
    ping: Ping | None = None
    cause: str = ""  # a whole sentence, from the code that saw the failure
    when: str = ""  # of `ping`: "In 240 seconds", "3 times in a row"
    port: int = 0  # on which it should listen; 0: on a socket
    listening: tuple[int, ...] = ()  # the ports on which its processes listen
    failure: Failure | None = None  # its report, if it is a server of ours; fit to be shown
    program: str = ""  # of a mapped command
    interpreter: str = ""  # in the program's first line
    image: str = ""
    log: str = ""  # its end, fit to be shown
    engine: str = ""  # process | docker | kubernetes
    oom: bool = False  # it ended because its memory was used up
    limit: int = 0  # bytes of memory that it might use; 0: all of the machine's
    loopback: bool = False  # it listens on its port, but takes no connection from outside
    platform: str = ""  # of the image, if that of Docker's machine is another one
    machine: str = ""  # Docker's platform, such as linux/amd64

    @property
    def in_image(self) -> bool:
        """Whether its image runs: in Docker, or in a pod."""
        return self.engine in ("docker", "kubernetes")


class Diagnosis(NamedTuple):
    """A cause and what helps, in whole sentences."""

    cause: str
    help: str = ""
