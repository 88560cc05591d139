"""How far a pull has come, from Docker's messages."""

from __future__ import annotations

from hostler.engines.docker.pull_progress import PullProgress


def at(layer: str, status: str, current: int = 0, total: int = 0) -> dict[str, object]:
    detail = {"current": current, "total": total} if current or total else {}
    return {"id": layer, "status": status, "progressDetail": detail}


def told(*messages: dict[str, object]) -> list[str]:
    progress, said = PullProgress("x:1"), []
    for message in messages:
        progress.take(message)
        said.append(str(progress))
    return said


def test_layers_add_up_by_their_bytes():
    assert told(
        {"status": "Pulling from x", "id": "1"},
        at("a", "Pulling fs layer"),
        at("b", "Pulling fs layer"),
        at("c", "Already exists"),
        at("a", "Downloading", 50, 100),
        at("b", "Downloading", 150, 300),
        at("a", "Download complete"),
        at("b", "Download complete"),
        at("a", "Extracting", 40, 100),
        at("a", "Pull complete"),
        at("b", "Extracting", 150, 300),
        at("b", "Pull complete"),
        {"status": "Digest: sha256:1"},
    ) == [
        "pulling x:1: 0 %", "pulling x:1: 0 %", "pulling x:1: 0 %", "pulling x:1: 0 %",
        "pulling x:1: 25 %",  # of a layer that is not known yet, as large as this one
        "pulling x:1: 50 %", "pulling x:1: 62 %", "unpacking x:1: 0 %", "unpacking x:1: 10 %", "unpacking x:1: 25 %",
        "unpacking x:1: 62 %", "unpacking x:1: 100 %", "unpacking x:1: 100 %",
    ]  # fmt: skip


def test_the_figure_never_falls_when_a_layer_proves_large():
    said = told(at("a", "Downloading", 90, 100), at("b", "Pulling fs layer"), at("b", "Downloading", 1, 1000))
    assert said == ["pulling x:1: 90 %", "pulling x:1: 90 %", "pulling x:1: 90 %"]


def test_of_a_large_image_tenths_of_a_percent_are_told():
    assert told(at("a", "Downloading", 15_550_000, 10**10), at("a", "Downloading", 45_430_000, 10**8)) == [
        "pulling x:1: 0.1 %", "pulling x:1: 45 %"
    ]  # fmt: skip


def test_another_try_is_said_until_the_layer_goes_on():
    assert told(at("a", "Downloading", 9, 10), at("a", "Retrying in 5 seconds"), at("a", "Downloading", 1, 10)) == [
        "pulling x:1: 90 %", "pulling x:1: 90 %, trying again after the connection broke", "pulling x:1: 90 %"
    ]  # fmt: skip


def test_a_layer_goes_on_after_another_try_even_if_its_size_is_not_said_again():
    again = "pulling x:1: 50 %, trying again after the connection broke"
    assert told(
        at("a", "Downloading", 50, 100), at("a", "Downloading", 50), at("a", "Retrying in 5 seconds"),
        at("a", "Downloading", 60), at("a", "Download complete"),
    ) == ["pulling x:1: 50 %", "pulling x:1: 50 %", again, "pulling x:1: 60 %", "unpacking x:1: 0 %"]  # fmt: skip


def test_a_layer_without_a_size_and_odd_messages_do_no_harm():
    odd = [
        {},
        {"status": "Extracting", "progressDetail": "x"},
        {"status": None, "id": 3, "progressDetail": {"current": -1}},
    ]
    for text in told(*odd, at("a", "Download complete"), at("a", "Pull complete")):
        assert text.startswith(("pulling x:1: ", "unpacking x:1: "))
