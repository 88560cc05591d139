from pathlib import Path

import pytest

from hostler.core.state_table import InvalidTransition, StateTable
from hostler.core.targets.states import TARGET

LIGHT: StateTable = StateTable("light", {("off", "press"): "on", ("on", "press"): "off"})


def test_a_table_gives_the_next_state_and_refuses_an_impossible_event():
    assert LIGHT.next("off", "press", "lamp") == "on"
    assert LIGHT.knows("on", "press")
    assert not LIGHT.knows("on", "break")
    with pytest.raises(InvalidTransition, match="light: break while on: lamp"):
        LIGHT.next("on", "break", "lamp")


def test_a_table_draws_itself():
    assert LIGHT.mermaid() == "stateDiagram-v2\n    off --> on: press\n    on --> off: press"


def test_the_picture_in_the_decision_is_the_table():
    decision = Path(__file__).parents[3] / "docs/decisions/0002-model-cache.md"
    assert f"```mermaid\n{TARGET.mermaid()}\n```" in decision.read_text()
