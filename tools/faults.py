"""The faults that tools/mutants.py puts into the code, each of which the tests must catch.

A fault replaces `old`, which its file holds exactly once, by `new`. The tests of its file are those in TESTS.
When code is moved or renamed, FILES, TESTS and the texts follow.
"""

from __future__ import annotations

from dataclasses import dataclass

FILES = {
    "plan": "src/hostler/core/endpoints/plan.py",
    "status": "src/hostler/core/endpoints/status.py",
    "reconciler": "src/hostler/hosting/reconciler.py",
    "rollout": "src/hostler/hosting/rollout.py",
    "instances": "src/hostler/hosting/instances.py",
}
_HOSTING = ("tests/unit/hosting/test_reconciler.py", "tests/unit/hosting/test_fleets.py")
TESTS = {
    "plan": ("tests/unit/core/test_plan.py",),
    "status": ("tests/unit/core/test_status.py",),
    "reconciler": _HOSTING,
    "rollout": _HOSTING,
    "instances": _HOSTING,
}


@dataclass(frozen=True)
class Fault:
    """`part`: a key of FILES and TESTS."""

    name: str
    part: str
    old: str
    new: str


FAULTS = (
    Fault(
        "a slot gets its next instance while the last one still stops",
        "plan",
        'return instance.state in _COMING_OR_READY or (instance.state != "gone" and not instance.vacates)',
        'return instance.state in _COMING_OR_READY or (instance.state == "ended" and not instance.vacates)',
    ),
    Fault(
        "instances of an endpoint that nobody desires run on",
        "plan",
        "and instance is not kept.get(instance.slot_key)",
        "and instance.slot_key in kept and instance is not kept[instance.slot_key]",
    ),
    Fault(
        "a failing instance is replaced without back-off",
        "plan",
        "last.ended_at + max(0.0, backoff(last.attempt) - last.lived)",
        "last.ended_at",
    ),
    Fault(
        "of two instances in a slot the younger one stays, though only the older one is ready",
        "plan",
        'key=lambda instance: (instance.state == "ready", instance.attempt)',
        "key=lambda instance: instance.attempt",
    ),
    Fault(
        "an instance that two revisions share is started for the newer one",
        "plan",
        "desired.setdefault(slot, revision)",
        "desired[slot] = revision",
    ),
    Fault(
        "a failed update ends Failed, though the old revision serves",
        "status",
        "    if ready_revision == 0:\n",
        "    if ready_revision == 0 or failed_revision == revision:\n",
    ),
    Fault(
        "an update after a failed one is shown as InService from its start",
        "status",
        'return "Updating" if revision > max(ready_revision, failed_revision)',
        'return "Updating" if revision > ready_revision and not failed_revision',
    ),
    Fault(
        "a failed endpoint that is being deleted is still shown as Failed",
        "status",
        "    if deleting:\n",
        "    if deleting and ready_revision:\n",
    ),
    Fault(
        "an instance that has ended can no longer be stopped",
        "status",
        '("ended", "stop"): "stopping"',
        '("ended", "stop"): "ended"',
    ),
    Fault(
        "an endpoint is InService before every gateway has its route",
        "reconciler",
        " and self.gateways.in_force(endpoint.key)",
        "",
    ),
    Fault(
        "an old instance ends while requests still run there",
        "reconciler",
        "await self.gateways.drain(instance.id, longest)",
        "await self.gateways.drain(instance.id, 0.0)",
    ),
    Fault(
        "an endpoint's record is removed while its instances still stop",
        "reconciler",
        'if any(instance.state != "gone" for instance in endpoint.instances):',
        'if any(instance.state not in ("stopping", "gone") for instance in endpoint.instances):',
    ),
    Fault(
        "the last instance of a slot is forgotten, and with it the count of attempts",
        "instances",
        "(slot not in desired or instance.key.attempt < last[slot])",
        "(slot not in desired or instance.key.attempt <= last[slot])",
    ),
    Fault(
        "a restarted control publishes its routes before it has taken over the instances",
        "reconciler",
        "if all(self.runtimes.serves(instance) for instance in coming):",
        "if all(self.runtimes.serves(instance) for instance in coming) or coming:",
    ),
    Fault(
        "an update ends the old fleet when it begins",
        "rollout",
        "return (() if ready is None else (ready,)) + (() if self.settled else (self.newest,))",
        "return (self.newest,) if not self.settled or ready is None else (ready,)",
    ),
    Fault(
        "the new fleet gets requests before its targets are loaded",
        "rollout",
        "if coming is None or self.is_warm(coming.fleet):",
        "if coming is None or coming.fleet:",
    ),
)
