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
    "rollout": "src/hostler/core/endpoints/rollout.py",
    "instances": "src/hostler/hosting/instances.py",
}
_HOSTING = ("tests/unit/hosting/test_reconciler.py", "tests/unit/hosting/test_fleets.py")
TESTS = {
    "plan": ("tests/unit/core/test_plan.py",),
    "status": ("tests/unit/core/test_status.py",),
    "reconciler": _HOSTING,
    "rollout": ("tests/unit/core/test_rollout.py",),
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
        "and instance is not stay.get(instance.slot_key)",
        "and instance.slot_key in stay and instance is not stay[instance.slot_key]",
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
        "an old instance ends while requests still run there",
        "reconciler",
        "await self.gateways.drain(instance.id, longest)",
        "await self.gateways.drain(instance.id, 0.0)",
    ),
    Fault(
        "the last instance of a slot is forgotten, and with it the count of attempts",
        "instances",
        "(slot not in desired or instance.key.attempt < last[slot])",
        "(slot not in desired or instance.key.attempt <= last[slot])",
    ),
    Fault(
        "an endpoint is InService before every gateway has its route",
        "rollout",
        " and route == facts.acknowledged",
        "",
    ),
    Fault(
        "an endpoint's record is removed while its instances still stop",
        "rollout",
        'all(instance.state == "gone" for instance in facts.instances)',
        'all(instance.state in ("stopping", "gone") for instance in facts.instances)',
    ),
    Fault(
        "a restarted control publishes its routes before it has taken over the instances",
        "rollout",
        'and i.state in ("pending", "starting", "ready")',
        'and i.state == "pending"',
    ),
    Fault(
        "an update ends the old fleet when it begins",
        "rollout",
        "(*([self.ready] if self.ready else []), *([] if self.settled else [self.newest]))",
        "(self.newest,) if not self.settled or self.ready is None else (self.ready,)",
    ),
    Fault(
        "the new fleet gets requests before its targets are loaded",
        "rollout",
        "if coming is None or self._is_warm(coming):\n                return self.newest",
        "if coming is None or coming.fleet:\n                return self.newest",
    ),
    # What follows is put into `decide` alone.
    Fault(
        "requests go to an instance that does not serve",
        "rollout",
        "if stays is not None and stays.serves:",
        "if stays is not None:",
    ),
    Fault(
        "requests go to the older of two instances in a slot, which is being stopped",
        "rollout",
        "stays = kept(of_slot)",
        "stays = min(of_slot, key=lambda instance: instance.attempt)",
    ),
    Fault(
        "instances beyond a variant's count get requests",
        "rollout",
        "[i for i in self._of(revision, index) if i.slot < revision.variants[index].count]",
        "self._of(revision, index)",
    ),
    Fault(
        "the new fleet gets requests when one of its variants is complete",
        "rollout",
        "return all(self._is_variant_complete(revision, index)",
        "return any(self._is_variant_complete(revision, index)",
    ),
    Fault(
        "a variant grows before all its added instances serve",
        "rollout",
        "return added <= serving and",
        "return (not added or added & serving) and",
    ),
    Fault(
        "new weights wait for an instance that is being replaced",
        "rollout",
        "return ready.variants[index].count if ready is not None and ready.fleet == revision.fleet else 0",
        "return 0",
    ),
    Fault(
        "scale-in takes the last instance that serves",
        "rollout",
        " and (not serving or min(serving) < desired)",
        "",
    ),
    Fault(
        "scale-in to instances that end again and again never fails",
        "rollout",
        "(i.revision == self.newest.number or self._blocks_scale_in(i))",
        "i.revision == self.newest.number",
    ),
    Fault(
        "an old instance that ends fails the update",
        "rollout",
        "and (i.revision == self.newest.number or self._blocks_scale_in(i))",
        "and i.variant < len(self.newest.variants)",
    ),
    Fault(
        "an instance that ends after it was ready fails its revision at once",
        "rollout",
        "and (i.attempt >= self.policy.replacements or not i.ready_at)",
        "",
    ),
    Fault(
        "containers that end again and again after a first ping never fail their revision",
        "rollout",
        "(i.attempt >= self.policy.replacements or not i.ready_at)",
        "not i.ready_at",
    ),
    Fault(
        "the last of several causes is the FailureReason",
        "rollout",
        "return min(ended, key=lambda i: i.ended_at).reason",
        "return max(ended, key=lambda i: i.ended_at).reason",
    ),
    Fault(
        "a revision that fails goes on serving if its instances are there again",
        "rollout",
        "serving = rollout.ready if failure else rollout.serving()",
        "serving = rollout.serving()",
    ),
    Fault(
        "a revision that has failed is tried again",
        "rollout",
        "self.settled = self.newest.number <= max(facts.ready, facts.failed)",
        "self.settled = self.newest.number <= facts.ready",
    ),
    Fault(
        "an endpoint that is being deleted keeps its route",
        "rollout",
        "return self.ready if self.desired else None",
        "return self.ready",
    ),
    Fault(
        "a fleet is warmed before it is complete, so that its last instances get no targets",
        "rollout",
        "if coming is None or self._is_warm(coming) or not self.is_complete(coming):",
        "if coming is None or self._is_warm(coming):",
    ),
)
