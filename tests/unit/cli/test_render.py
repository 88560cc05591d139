"""What `hostler ls` prints, line by line."""

from __future__ import annotations

from typing import Any

from hostler.cli import render

PROCESS = {"machine": "", "trouble": "", "containers": [{"specified": "it", "engine": "process", "image": ""}]}


def endpoint(**more: Any) -> dict[str, Any]:
    return {"name": "e", "region": "us-east-1", "status": "InService", "failure_reason": "", "variants": [], **more}


def test_ls_shows_instances_and_their_residents():
    instances = [
        {"id": "a1.1.0.0.0", "state": "ready", "targets": ["Houston_TX.tar.gz"], **PROCESS},
        {"id": "a1.1.0.1.0", "state": "starting", "targets": [], **PROCESS},
    ]
    assert render.endpoints(
        [endpoint(name="my-endpoint", variants=[{"name": "AllTraffic", "instances": instances}])]
    ) == [
        "my-endpoint  InService  us-east-1",
        "  AllTraffic  a1.1.0.0.0  ready  process  1 resident: Houston_TX.tar.gz",
        "  AllTraffic  a1.1.0.1.0  starting  process",
    ]


def test_ls_shows_which_images_run_and_why_an_instance_is_not_there_yet():
    image = {"specified": "me/it:1", "engine": "docker", "image": f"me/it@sha256:{'ab' * 32}"}
    own = {"specified": "built-here:2", "engine": "docker", "image": f"sha256:{'cd' * 32}"}
    instances = [
        {"id": "a", "state": "ready", "targets": [], "machine": "n1/z1", "trouble": "",
         "containers": [image, own, *PROCESS["containers"]]},
        {"id": "b", "state": "pending", "targets": [], "machine": "", "trouble": "pulling me/it:1: 45 %",
         "containers": [{"specified": "me/it:1", "engine": "", "image": ""}] * 2},
    ]  # fmt: skip
    assert render.endpoints([endpoint(variants=[{"name": "v", "instances": instances}])])[1:] == [
        "  v  a  ready  docker me/it@sha256:abababababab, docker built-here:2 (sha256:cdcdcdcdcdcd), process  on n1/z1",
        "  v  b  pending",
        "    pulling me/it:1: 45 %",
    ]


def test_ls_says_why_an_endpoint_failed():
    assert render.endpoints([endpoint(status="Failed", failure_reason="no such image\nBuild it.")]) == [
        "e  Failed    us-east-1",
        "  no such image?Build it.",
    ]


def test_ls_of_a_thousand_targets_stays_short():
    instance = {"id": "i", "state": "ready", "targets": [f"{n}.tar.gz" for n in range(1000)], **PROCESS}
    lines = render.endpoints([endpoint(variants=[{"name": "v", "instances": [instance]}])])
    assert "1000 resident: 0.tar.gz" in lines[1]
    assert len(lines[1]) < 200


def test_ls_without_endpoints_says_so():
    assert render.endpoints([]) == ["no endpoints"]


def target(name: str, **more: Any) -> dict[str, Any]:
    return {
        "region": "us-east-1", "endpoint": "e", "variant": "AllTraffic", "instance": "a1.1.0.0.0", "target": name,
        "state": "resident", "memory": 3 * 2**19, "pinned": False, "preload": False, "idle": 3.4, "leaves_in": None,
        "calls": 0, "loads": 1, "reason": "", **more,
    }  # fmt: skip


def test_ls_of_targets_is_a_table_with_notes_at_the_end():
    failed = {"instance": None, "state": "failed", "memory": None, "idle": None, "loads": 0, "reason": "gone\x9b k"}
    targets = [
        target("Houston_TX.tar.gz", calls=1200, pinned=True, preload=True, memory=2**31),
        target("b", idle=7300.0, leaves_in=59.0, memory=9000),
        target("c", preload=True, **failed),
    ]
    assert render.targets(targets, 3) == [
        "ENDPOINT  VARIANT     INSTANCE    TARGET             STATE     MEMORY  IDLE  CALLS  LOADS",
        "e         AllTraffic  a1.1.0.0.0  Houston_TX.tar.gz  resident  2.0GiB    3s   1200      1  pinned, preload",
        "e         AllTraffic  a1.1.0.0.0  b                  resident    9KiB    2h      0      1  leaves in 59s",
        "e         AllTraffic  -           c                  failed         -     -      0      0  preload, gone? k",
    ]


def test_ls_of_targets_cuts_a_long_cause_short():
    why = "Failed to download model data (bucket: b, key: k). " + "Please ensure that there is an object. " * 10
    line = render.targets([target("c", instance=None, state="failed", reason=why, preload=True)], 1)[1]
    assert line.endswith("preload, Failed to download model data (bucket: b, key: k). Please en... (--json: all of it)")


def test_ls_of_targets_says_after_how_long_idle_ones_leave():
    listed = [{"region": "r", "endpoint": "a", "idle_ttl": 600.0}, {"region": "r", "endpoint": "b", "idle_ttl": None}]
    assert render.idle_ttls(listed) == ["a: a target leaves when not called for 600 s (idle-ttl)"]


def test_ls_of_very_many_targets_prints_a_part_and_the_total():
    lines = render.targets([target(f"t{number}") for number in range(50)], 10_000)
    assert len(lines) == 52
    assert lines[-1].startswith("... and 9950 more: ")


def test_ls_of_no_targets_says_so():
    assert render.targets([], 0) == ["no targets"]
