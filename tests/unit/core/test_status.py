import pytest

from hostler.core.endpoints.status import INSTANCE, endpoint_status, variant_phase
from hostler.core.state_table import InvalidTransition


def test_an_instance_lives_through_its_states():
    state = "pending"
    for event, after in [
        ("fetch", "fetching"),
        ("start", "starting"),
        ("ready", "ready"),
        ("end", "ended"),
        ("stop", "stopping"),
        ("gone", "gone"),
    ]:
        state = INSTANCE.next(state, event, "i")
        assert state == after


def test_an_instance_can_be_stopped_until_it_is_being_stopped():
    for state in ("pending", "fetching", "starting", "ready", "leaving", "ended"):
        assert INSTANCE.next(state, "stop", "i") == "stopping"


def test_an_impossible_event_raises_with_the_event_and_the_instance():
    with pytest.raises(InvalidTransition, match=r"instance: ready while gone: e1\.1\.0\.0\.0"):
        INSTANCE.next("gone", "ready", "e1.1.0.0.0")


@pytest.mark.parametrize(
    ("deleting", "revision", "ready", "failed", "status"),
    [
        (False, 1, 0, 0, "Creating"),
        (False, 1, 0, 1, "Failed"),
        (False, 1, 1, 0, "InService"),
        (False, 2, 1, 0, "Updating"),
        (False, 2, 1, 2, "InService"),  # a failed update: what was ready serves on
        (False, 3, 1, 2, "Updating"),
        (False, 3, 3, 2, "InService"),
        (True, 1, 1, 0, "Deleting"),
        (True, 2, 1, 0, "Deleting"),
        (True, 1, 0, 1, "Deleting"),
    ],
)
def test_the_status_of_an_endpoint_follows_from_facts(deleting, revision, ready, failed, status):
    assert endpoint_status(deleting, revision, ready, failed) == status


@pytest.mark.parametrize(
    ("coming", "complete", "before", "after", "phase"),
    [
        (True, False, 2, 2, ("Creating", "Launching 2 instance(s).")),
        (True, True, 2, 2, ("ActivatingTraffic", "Activating traffic on full capacity of 2 instance(s).")),
        (False, False, 2, 3, ("Updating", "Scaling out desired instance count to 3.")),
        (False, False, 3, 1, ("Deleting", "Terminating 2 instance(s).")),
        (False, False, 2, 2, ("", "")),  # at rest, or beside a fleet that is coming
        (False, False, 1, 0, ("Deleting", "Terminating 1 instance(s).")),  # the endpoint is being deleted
        (False, False, 0, 0, ("", "")),  # nothing of it is left to end
    ],
)
def test_the_phase_of_a_variant_follows_from_counts(coming, complete, before, after, phase):
    assert variant_phase(coming, complete, before, after) == phase
