"""What Docker says of a container, as a value. Nothing here does IO."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import NamedTuple

import msgspec

from hostler import contract, names
from hostler.engines.docker import containers
from hostler.engines.docker.answers import Inspected, Published
from hostler.engines.docker.containers import Note
from hostler.engines.engine import ContainerReport
from hostler.engines.exits import exit_code

_STARTED = ("running", "paused", "restarting", "exited")
_THERE = ("created", *_STARTED)  # not: removing, dead


class Fact(NamedTuple):
    """A container that is there. `started`: it runs or has ended."""

    id: str  # Docker's
    note: Note
    pid: int  # 0: it has ended
    host: str  # its own address in a network; empty: it shares another one's, or has none, or has ended
    published: Mapping[int, int]  # its ports, and those of 127.0.0.1 that lead to them
    image: str  # id
    exit: int | None
    oom: bool
    started: bool = True


def note(labels: Mapping[str, str] | None) -> Note | None:
    """Return what is known of a container by its labels; None for one that no hostler created.

    Whoever may use Docker may write any labels: names become paths here, and for each container there is a report.
    """
    try:
        known = msgspec.json.decode((labels or {}).get(containers.LAUNCH, ""), type=Note)
        for name in (known.instance, known.log):
            names.check_relative(name)
    except (msgspec.DecodeError, names.UnsafeName):
        return None
    return known if 0 <= known.position < known.containers <= contract.MOST_CONTAINERS else None


def started(state: str) -> bool:
    """Return whether a container in this state was started, and is not being removed."""
    return state in _STARTED


def there(state: str) -> bool:
    """Return whether a container in this state is not being removed."""
    return state in _THERE


def fact(inspected: Inspected) -> Fact | None:
    """Return the facts of a container; None if it is being removed, or is none of hostler's."""
    state, known = inspected.state, note(inspected.config.labels)
    if known is None or not there(state.status):
        return None
    begun = started(state.status)
    exit = exit_code(state.exit_code) if begun and not state.running else None
    hosts = [network.address for network in (inspected.network_settings.networks or {}).values() if network.address]
    return Fact(
        id=inspected.id,
        note=known,
        pid=state.pid if state.running else 0,
        host=hosts[0] if hosts else "",
        published=_published(inspected.network_settings.ports or {}),
        image=inspected.image,
        exit=exit,
        oom=state.oom_killed and bool(exit),
        started=begun,
    )


def is_as_listed(fact: Fact, state: str) -> bool:
    """Return whether a container is listed in the state in which it was seen last, and so need not be inspected."""
    return fact.started and (fact.exit is None) == (state == "running")


def _published(ports: Mapping[str, Sequence[Published] | None]) -> dict[int, int]:
    return {int(name.partition("/")[0]): int(there[0].host_port) for name, there in ports.items() if there}


def report(fact: Fact, address: str, image: str) -> ContainerReport:
    """Return the report of a container."""
    return ContainerReport(address, bool(fact.note.framework), fact.exit, "docker", image, fact.oom)
