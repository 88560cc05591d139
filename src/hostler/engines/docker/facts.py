"""What Docker says of a container, as a value: out of its list and of an inspection. Nothing here does IO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, NamedTuple

import msgspec

from hostler.engines.docker import containers
from hostler.engines.docker.containers import Note
from hostler.engines.engine import ContainerReport

_NOWHERE = "ended.invalid"  # the host of a container that ended before anybody asked for its address
_SIGNALS = 64
_STARTED = ("running", "paused", "restarting", "exited")

Json = Mapping[str, Any]


class Fact(NamedTuple):
    """A container that was started and is still there."""

    id: str  # Docker's
    note: Note
    pid: int  # 0: it has ended
    host: str  # its network's address; empty: none, it shares another one's or has ended
    image: str  # id
    exit: int | None
    oom: bool


def note(labels: Json) -> Note | None:
    """Return what is known of a container by its labels; None for one that this hostler did not create."""
    try:
        return msgspec.json.decode(labels.get(containers.LAUNCH, ""), type=Note)
    except msgspec.DecodeError:
        return None


def started(state: str) -> bool:
    """Return whether a container in this state was started, and is not being removed."""
    return state in _STARTED


def fact(inspected: Json) -> Fact | None:
    """Return the facts of an inspected container; None if it was not started, or is no container of hostler's."""
    state = inspected["State"]
    known = note(inspected["Config"].get("Labels") or {})
    if known is None or not started(state["Status"]):
        return None
    runs = bool(state.get("Running"))
    exit = None if runs else exit_code(int(state.get("ExitCode") or 0))
    networks = (inspected.get("NetworkSettings") or {}).get("Networks") or {}
    hosts = [str(network["IPAddress"]) for network in networks.values() if network.get("IPAddress")]
    return Fact(
        id=str(inspected["Id"]),
        note=known,
        pid=int(state.get("Pid") or 0) if runs else 0,
        host=hosts[0] if hosts else "",
        image=str(inspected.get("Image", "")),
        exit=exit,
        oom=bool(state.get("OOMKilled")) and exit not in (None, 0),
    )


def exit_code(code: int) -> int:
    """Return an exit code, or the negative signal that ended the process: Docker and shells report 128 + its number."""
    return 128 - code if 128 < code <= 128 + _SIGNALS else code


def report(fact: Fact, host: str, image: str) -> ContainerReport:
    """Return the report of a container. `host`: of the network that it is in, the last one known if it has ended."""
    address = f"tcp:{host or _NOWHERE}:{containers.port(fact.note.position)}"
    return ContainerReport(address, bool(fact.note.framework), fact.exit, "docker", image, fact.oom)


def resolved(reference: str, image: str, digests: Sequence[str]) -> str:
    """Return an image's name with its digest: that of the reference's repository, or else the image's id."""
    repository = reference.partition("@")[0]
    last = repository.rpartition("/")[2]
    repository = repository[: len(repository) - len(last)] + last.partition(":")[0]
    return next((digest for digest in digests if digest.partition("@")[0] == repository), image)
