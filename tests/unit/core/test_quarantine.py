"""Who is blamed when a container ends during a load."""

from hostler.core.targets.quarantine import REFUSED_FOR, SUSPECT_FOR, Quarantine


def test_a_target_whose_load_ended_its_container_is_refused_for_a_while() -> None:
    quarantine = Quarantine()
    assert quarantine.blame("bad", True, 0.0)
    assert quarantine.refuses("bad", REFUSED_FOR - 1)
    assert not quarantine.refuses("bad", REFUSED_FOR)
    assert not quarantine.refuses("good", 0.0)


def test_a_container_that_was_killed_proves_nothing_the_first_time() -> None:
    quarantine = Quarantine()
    assert not quarantine.blame("a", False, 0.0)
    assert not quarantine.refuses("a", 0.0)
    assert quarantine.blame("a", False, 1.0)
    assert quarantine.refuses("a", 1.0)


def test_an_old_suspicion_is_forgotten() -> None:
    quarantine = Quarantine()
    quarantine.blame("a", False, 0.0)
    assert not quarantine.blame("a", False, SUSPECT_FOR + 1)
