"""What Docker says of a container."""

from __future__ import annotations

import msgspec
import pytest

from hostler.engines.docker import facts
from hostler.engines.docker.answers import Inspected, read
from hostler.engines.docker.containers import LAUNCH, Note
from hostler.errors import EngineError

DIGEST = f"sha256:{2:064x}"
NOTE = Note("i", 1, 3, {"a": "b"}, "log", "theirs:1")
LABELS = {LAUNCH: msgspec.json.encode(NOTE).decode()}


def inspected(status: str = "running", **state: object) -> Inspected:
    answer = {
        "Id": "c1",
        "State": {"Status": status, "Running": status == "running", "Pid": 7, **state},
        "Config": {"Labels": LABELS},
        "Image": "sha256:1",
        "NetworkSettings": {"Networks": {"hostler": {"IPAddress": "172.18.0.2"}}},
    }
    return read(answer, Inspected)


def test_a_container_that_runs_has_a_pid_an_address_and_no_exit() -> None:
    fact = facts.fact(inspected())
    assert fact is not None
    assert (fact.id, fact.note, fact.pid, fact.host, fact.image, fact.exit, fact.oom) == (
        "c1", NOTE, 7, "172.18.0.2", "sha256:1", None, False,
    )  # fmt: skip


@pytest.mark.parametrize(
    "forged",
    [{"containers": 10**9}, {"position": -1}, {"position": 3}, {"instance": "../i"}, {"log": "../../log"},
     {"log": "/log"}, {"containers": "3"}],
)  # fmt: skip
def test_a_container_with_labels_that_no_hostler_writes_is_left_alone(forged: dict[str, object]) -> None:
    assert facts.note(LABELS) == NOTE
    assert facts.note({LAUNCH: msgspec.json.encode({**msgspec.to_builtins(NOTE), **forged}).decode()}) is None
    assert facts.note({LAUNCH: "{no json"}) is None


@pytest.mark.parametrize("status", ["removing", "dead"])
def test_a_container_that_is_being_removed_is_none(status: str) -> None:
    assert facts.fact(inspected(status)) is None


def test_a_container_that_was_created_has_neither_begun_nor_ended() -> None:
    fact = facts.fact(inspected("created", ExitCode=127))
    assert fact is not None
    assert (fact.started, fact.exit, fact.pid) == (False, None, 0)
    assert not facts.is_as_listed(fact, "created"), "it may have been started since"


@pytest.mark.parametrize(
    ("seen", "listed", "same"),
    [("running", "running", True), ("running", "exited", False), ("exited", "exited", True),
     ("exited", "running", False)],
)  # fmt: skip
def test_a_container_is_inspected_again_if_the_list_has_it_in_another_state(seen: str, listed: str, same: bool) -> None:
    fact = facts.fact(inspected(seen))
    assert fact is not None
    assert facts.is_as_listed(fact, listed) is same


@pytest.mark.parametrize("status", ["paused", "restarting"])
def test_a_container_that_others_have_paused_has_not_ended(status: str) -> None:
    fact = facts.fact(inspected(status, Running=True))
    assert fact is not None
    assert fact.exit is None


@pytest.mark.parametrize("labels", [None, {}, {LAUNCH: ""}, {LAUNCH: "{"}, {LAUNCH: "[]"}, {LAUNCH: '{"instance":1}'}])
def test_a_container_without_hostlers_label_is_none(labels: dict[str, str] | None) -> None:
    assert facts.note(labels) is None


@pytest.mark.parametrize(
    ("code", "exit"), [(0, 0), (1, 1), (127, 127), (128, 128), (137, -9), (143, -15), (139, -11), (255, 255)]
)
def test_an_exit_by_a_signal_is_negative(code: int, exit: int) -> None:
    fact = facts.fact(inspected("exited", ExitCode=code))
    assert fact is not None
    assert (fact.exit, fact.pid, fact.oom) == (exit, 0, False)


def test_a_container_whose_process_was_killed_for_memory_says_so_unless_it_went_on_to_a_good_end() -> None:
    oom = facts.fact(inspected("exited", ExitCode=137, OOMKilled=True))
    good = facts.fact(inspected("exited", ExitCode=0, OOMKilled=True))
    assert oom is not None
    assert good is not None
    assert (oom.oom, good.oom) == (True, False)


@pytest.mark.parametrize("answer", [{}, {"Id": 1}, [], None, {"Id": "c", "State": {}, "Config": {}}])
def test_an_answer_of_another_shape_is_an_error_of_the_engine(answer: object) -> None:
    with pytest.raises(EngineError, match="not understood"):
        read(answer, Inspected)
