"""Messages between control and each gateway (docs/ARCHITECTURE.md, "The link").

Down (control to gateway): one Snapshot, then deltas, all under (epoch, version); a new control is a new epoch.
Up (gateway to control): Ack, TargetRequest, Hits, Withdrawn, Drained, TargetMissing, Abandoned, CallsTimedOut,
FaultQuery, Counts, JournalPart. Before them comes the Knock of wire/door.
Control alone decides residency: a gateway sends a target's requests only to the residents that control published.
"""

from __future__ import annotations

from typing import Literal

import msgspec

from hostler.core.faults import Rule
from hostler.core.targets.states import RefusalKind

LATENCY_BOUNDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0, 30.0, 60.0)  # seconds


class InstanceAddress(msgspec.Struct, frozen=True):
    """An instance that a variant's requests may go to. `addresses` are its containers', in the model's order: each
    `unix:/path` or `tcp:host:port`. `workers`: for each container the addresses of its several processes, if it has
    such; they take the same requests, and the container passes requests to its own address on to them. `beat`:
    `tcp:host:port`, whose silence means that the instance's machine is gone; empty: it is this machine.
    """

    instance: str
    addresses: tuple[str, ...]
    workers: tuple[tuple[str, ...], ...] = ()  # as long as `addresses`, or empty: none has any
    beat: str = ""


class Container(msgspec.Struct, frozen=True):
    """One container of a variant's model. `label` is its name in errors: its hostname, or `primary` if it is alone."""

    label: str
    multi_model: bool = False  # it is called as /models/{model}/invoke, and requests must name TargetModel


class Pool(msgspec.Struct, frozen=True):
    """The ready instances of one fleet of a variant, and its share of the variant's requests, relative to the shares of
    the other pools.
    """

    fleet: int
    share: float
    instances: tuple[InstanceAddress, ...]


class Variant(msgspec.Struct, frozen=True):
    """A production variant. A request goes to one of its pools, and there to one of the instances.

    `mode` Serial: a request passes through all containers; Direct: it goes to the one that it names by its label.
    """

    name: str
    weight: float
    containers: tuple[Container, ...]
    pools: tuple[Pool, ...]
    mode: Literal["Serial", "Direct"] = "Serial"
    routing: Literal["RANDOM", "LEAST_OUTSTANDING_REQUESTS"] = "RANDOM"
    hot: int = 0  # a target's requests in flight on an instance past which another copy would help; 0: by this machine

    def instances(self) -> list[str]:
        """The ids of all its instances."""
        return [address.instance for pool in self.pools for address in pool.instances]


class Route(msgspec.Struct, frozen=True):
    """An endpoint that may be invoked. `key` is `region/name`; names are case-sensitive."""

    key: str
    variants: tuple[Variant, ...]

    def instances(self) -> frozenset[str]:
        """The ids of all its instances."""
        return frozenset(id for variant in self.variants for id in variant.instances())

    def beats(self) -> dict[str, str]:
        """The beats of its instances that have one."""
        pools = (pool for variant in self.variants for pool in variant.pools)
        return {address.instance: address.beat for pool in pools for address in pool.instances if address.beat}


class Timing(msgspec.Struct, frozen=True):
    """Times of a load, seconds; for Server-Timing."""

    queue: float = 0.0
    download: float = 0.0
    extract: float = 0.0
    load: float = 0.0


class FaultScope(msgspec.Struct, frozen=True):
    """Of a fault on purpose a gateway knows whose calls may meet it. An empty text means any."""

    id: str
    region: str
    endpoint: str


# --- down ---------------------------------------------------------------------------------------------------------


class SetResident(msgspec.Struct, frozen=True, tag=True):
    """A target may be sent to `address` as `POST /models/{model}/invoke`. Idempotent; a higher generation replaces."""

    key: str  # endpoint key
    variant: str
    fleet: int
    target: str  # normalized TargetModel
    instance: str
    generation: int  # of this publication; each has its own, so that late messages are recognized
    address: str  # the target's own socket, or the instance's
    model: str  # the name by which the container knows the target
    timing: Timing = Timing()  # of the load that just ended; zeros when republished
    workers: tuple[str, ...] = ()  # its copies' addresses, if there are several; `address` passes on to them, too


class Snapshot(msgspec.Struct, frozen=True, tag=True):
    """All routes and residents, at (epoch, version). The gateway drops its own, and requests targets again.

    `term` grows with each start of control: a gateway refuses a lower one than it has seen, so a control that another
    one has replaced can say nothing any more. `api`: where control listens for the requests that gateways of other
    machines pass on, such as tls:0.0.0.0:7701; the host is that of control's door. `passkey`: what it admits them by.
    """

    epoch: str
    version: int
    routes: tuple[Route, ...]
    residents: tuple[SetResident, ...]
    faults: tuple[FaultScope, ...] = ()
    term: int = 0
    api: str = ""
    passkey: str = ""


class SetRoute(msgspec.Struct, frozen=True, tag=True):
    """A new or changed endpoint. The gateway forgets residents on instances that the endpoint no longer names.

    `residents` are those of the instances that it names for the first time: they come into force together with it.
    """

    version: int
    route: Route
    residents: tuple[SetResident, ...] = ()


class DropRoute(msgspec.Struct, frozen=True, tag=True):
    """The endpoint does not exist any more: requests that wait for its targets are answered so."""

    version: int
    key: str


class Withdraw(msgspec.Struct, frozen=True, tag=True):
    """Stop sending the target to the instance, and answer Withdrawn at once (busy: a request still runs there)."""

    key: str
    variant: str
    fleet: int
    target: str
    instance: str
    generation: int


class Drain(msgspec.Struct, frozen=True, tag=True):
    """No route names the instance any more: answer Drained as soon as nothing runs there."""

    instance: str


class Refused(msgspec.Struct, frozen=True, tag=True):
    """The target cannot be loaded: every request that waits for it is answered with this error.

    kind: `missing` (S3 has no such artifact; ValidationError), `bad` (the archive or the load failed; ModelError with
    `status` and `message` of the container, or status 0), `too_big` (never fits; ModelError 507), `no_memory`
    (container's own 507 with nothing left to unload; ModelError 507), `unavailable` (S3 cannot be reached;
    InternalDependencyException 530), `not_ready` (429).
    """

    key: str
    variant: str
    fleet: int
    target: str
    kind: RefusalKind
    message: str
    status: int = 0  # of the container's answer to the load


class SetFaults(msgspec.Struct, frozen=True, tag=True):
    """These are the faults from now on. It goes to gateways alone whose Knock says that they know it."""

    version: int
    scopes: tuple[FaultScope, ...]


class FaultDecision(msgspec.Struct, frozen=True, tag=True):
    """The answer to FaultQuery: the fault that the call meets, if any."""

    request_id: str
    rule: Rule | None


class JournalKept(msgspec.Struct, frozen=True, tag=True):
    """The answer to JournalPart: control has the journal up to this place."""

    segment: int
    offset: int


Down = (
    Snapshot | SetRoute | DropRoute | SetResident | Withdraw | Drain | Refused | SetFaults | FaultDecision | JournalKept
)


# --- up -----------------------------------------------------------------------------------------------------------


class Ack(msgspec.Struct, frozen=True, tag=True):
    """All deltas up to (epoch, version) are in force here."""

    epoch: str
    version: int


class Hit(msgspec.Struct, frozen=True, array_like=True):
    """A target was invoked on an instance, `uses` times (recency: hits come in the order of each one's last use)."""

    instance: str
    target: str
    uses: int = 1


class TargetRequest(msgspec.Struct, frozen=True, tag=True):
    """A request waits for a target that is resident nowhere (or `hot`: resident, but one more copy would help).

    It carries the hits since the last message, so that control knows the exact order of use when it chooses victims.
    """

    key: str
    variant: str
    fleet: int
    target: str
    hits: tuple[Hit, ...] = ()
    hot: bool = False


class Hits(msgspec.Struct, frozen=True, tag=True):
    """Hits since the last message; sent every 50 ms by a gateway that has any."""

    hits: tuple[Hit, ...]


class Withdrawn(msgspec.Struct, frozen=True, tag=True):
    """The answer to Withdraw, with the hits before it. Nothing is sent there until SetResident comes again."""

    key: str
    variant: str
    fleet: int
    target: str
    instance: str
    generation: int
    busy: bool
    hits: tuple[Hit, ...] = ()


class Drained(msgspec.Struct, frozen=True, tag=True):
    """The answer to Drain: nothing runs there, and nothing will be sent there again."""

    instance: str


class TargetMissing(msgspec.Struct, frozen=True, tag=True):
    """The container answered 404 or 507 (`status`) to an invocation of a resident target, or took no connection (0).

    Control must check. The gateway has forgotten the resident, and sends TargetRequest if requests wait for it.
    """

    key: str
    variant: str
    fleet: int
    target: str
    instance: str
    generation: int
    status: int = 404


class Abandoned(msgspec.Struct, frozen=True, tag=True):
    """No request waits for the target here any more (callers left or timed out). Control may drop a queued load."""

    key: str
    variant: str
    fleet: int
    target: str


class CallsTimedOut(msgspec.Struct, frozen=True, tag=True):
    """A call had the whole of its time at a container and got no answer; so had all calls of this gateway that ended
    there since its last answer, `in_a_row` with this one.
    """

    instance: str
    container: int  # its position in the model
    in_a_row: int
    request_id: str  # of this call


class FaultQuery(msgspec.Struct, frozen=True, tag=True):
    """A call to an endpoint in a fault's scope: does it meet one? `containers`: the labels of those that it goes to."""

    request_id: str
    key: str
    variant: str
    fleet: int
    target: str
    containers: tuple[str, ...]
    stream: bool  # InvokeEndpointWithResponseStream


class VariantCount(msgspec.Struct, frozen=True, array_like=True):
    """Counters of one variant since the gateway started (sums, so that a lost message loses nothing).

    Times are seconds. `buckets` counts whole times: one at each of LATENCY_BOUNDS (not running sums), one beyond.
    """

    key: str
    variant: str
    invocations: int
    errors_4xx: int
    errors_5xx: int
    model_errors: int
    cache_hits: int
    cache_misses: int
    model_latency: float
    overhead_latency: float
    buckets: tuple[int, ...]


class Counts(msgspec.Struct, frozen=True, tag=True):
    """The gateway's counters, once a second when they changed; also its sign of life (sent at least once a second).

    `down`: the instances whose beat is silent here; a change is sent at once.
    """

    variants: tuple[VariantCount, ...]
    in_flight: int
    connections: int
    down: tuple[str, ...] = ()


class JournalPart(msgspec.Struct, frozen=True, tag=True):
    """Bytes of the journal of the metrics (wire/metrics_journal), of a gateway on another machine. The next ones follow
    when these are kept.
    """

    segment: int  # number
    offset: int  # of these bytes
    data: bytes


Up = (
    Ack
    | TargetRequest
    | Hits
    | Withdrawn
    | Drained
    | TargetMissing
    | Abandoned
    | CallsTimedOut
    | FaultQuery
    | Counts
    | JournalPart
)
