from pathlib import Path

import pytest

from faults import FAULTS, FILES, TESTS, Fault
from mutants import Run, Unfit, mutated, verdict

ROOT = Path(__file__).resolve().parents[3]


def test_there_are_thirty_two_faults_with_names_of_their_own():
    assert len({fault.name for fault in FAULTS}) == len(FAULTS) == 32


@pytest.mark.parametrize("fault", FAULTS, ids=lambda fault: fault.name)
def test_a_fault_fits_into_its_file_as_it_is_now(fault: Fault):
    text = (ROOT / FILES[fault.part]).read_text()
    assert mutated(text, fault) != text
    compile(mutated(text, fault), FILES[fault.part], "exec")


def test_the_test_files_of_every_part_exist():
    assert TESTS.keys() == FILES.keys()
    for name in (name for names in TESTS.values() for name in names):
        assert (ROOT / name).is_file(), name


@pytest.mark.parametrize("text", ["", "a = 1; a = 1"])
def test_a_fault_whose_old_text_is_not_there_exactly_once_is_refused(text: str):
    with pytest.raises(Unfit, match=r"plan\.py has its old text"):
        mutated(text, Fault("f", "plan", "a = 1", "a = 2"))


@pytest.mark.parametrize(
    ("code", "output", "caught", "words"),
    [
        (1, "F\nFAILED tests/a.py::test_b[1-2] - assert 1 == 2\n1 failed\n", True, "tests/a.py::test_b[1-2]"),
        (1, "E\nERROR tests/a.py::test_b\n", True, "tests/a.py::test_b"),
        (0, "1 passed", False, "no test caught it"),
        (None, "", False, "the tests did not end within 300 s"),
        (2, "ERROR tests/a.py\nInterrupted: 1 error during collection\n", False, "the tests did not run"),
        (5, "no tests ran", False, "the tests did not run"),
    ],
)
def test_a_fault_is_caught_only_by_a_test_that_ran_and_failed(code, output, caught, words):
    found, said = verdict(Run(code, output, 1.0))
    assert found is caught
    assert said.startswith(words)
