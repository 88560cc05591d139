"""Who is blamed when a container ends during a load."""

from hostler.core.targets.quarantine import REFUSED_FOR, SUSPECT_FOR, Quarantine


def test_a_version_whose_load_ended_its_container_is_refused_for_a_while() -> None:
    quarantine = Quarantine()
    assert quarantine.blame("bad", "v1", True, 0.0)
    assert quarantine.refused("bad", REFUSED_FOR - 1) == "v1"
    assert quarantine.refused("bad", REFUSED_FOR) is None
    assert quarantine.refused("good", 0.0) is None
    assert quarantine.blame("bad", "v2", True, 1.0)
    assert quarantine.refused("bad", 1.0) == "v2"


def test_a_container_that_was_killed_proves_nothing_the_first_time() -> None:
    quarantine = Quarantine()
    assert not quarantine.blame("a", "v1", False, 0.0)
    assert quarantine.refused("a", 0.0) is None
    assert not quarantine.blame("a", "v2", False, 1.0)  # another version
    assert quarantine.blame("a", "v2", False, 2.0)
    assert quarantine.refused("a", 2.0) == "v2"


def test_an_old_suspicion_is_forgotten() -> None:
    quarantine = Quarantine()
    quarantine.blame("a", "v", False, 0.0)
    assert not quarantine.blame("a", "v", False, SUSPECT_FOR + 1)
