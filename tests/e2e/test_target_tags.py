"""Target policies by an endpoint's tags, and resident targets after a restart, through boto3 and `hostler ls`."""

from __future__ import annotations

import json
import subprocess
import sys
from pathlib import Path
from typing import Any

import targets
from running import BUCKET, REPOSITORY, ROLE, Hostler, eventually, hostler_up

XGBOOST = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1.7-1"
TARGETS = 20


def start(hostler: Hostler, **tags: str) -> str:
    """Create an endpoint `tagged` over TARGETS models and return its ARN. Tags by topic, e.g. pin."""
    for number in range(TARGETS):
        hostler.put(f"tagged/{number}.tar.gz", targets.xgboost_target(number))
    container = {"Image": XGBOOST, "ModelDataUrl": f"s3://{BUCKET}/tagged/", "Mode": "MultiModel"}
    hostler.sm.create_model(ModelName="tagged", ExecutionRoleArn=ROLE, Containers=[container])
    variant = {"VariantName": "v", "ModelName": "tagged", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 2}
    hostler.sm.create_endpoint_config(EndpointConfigName="tagged", ProductionVariants=[variant])
    tag_list = [{"Key": f"hostler:{topic.replace('_', '-')}", "Value": value} for topic, value in tags.items()]
    created = hostler.sm.create_endpoint(EndpointName="tagged", EndpointConfigName="tagged", Tags=tag_list)
    hostler.wait_in_service("tagged")
    return str(created["EndpointArn"])


def listed(hostler: Hostler, *options: str) -> list[dict[str, Any]]:
    """Return the targets that `hostler ls --targets` lists."""
    command = [sys.executable, "-m", "hostler.cli", "ls", "--targets", "--json", "--data", str(hostler.data), *options]
    environment = {"PYTHONPATH": str(REPOSITORY / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, cwd=hostler.folder, capture_output=True, text=True, timeout=60)
    assert done.returncode == 0, done.stderr
    targets: list[dict[str, Any]] = json.loads(done.stdout)["targets"]
    return targets


def test_tags_preload_pin_and_unload_targets_and_can_change_while_the_endpoint_serves(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        arn = start(hostler, preload="3.tar.gz 4.tar.gz none.tar.gz", pin="3.tar.gz 1...")
        assert {entry["target"]: entry["state"] for entry in listed(hostler)} == {
            "3.tar.gz": "resident", "4.tar.gz": "resident", "none.tar.gz": "failed"
        }  # fmt: skip
        for number in (3, 1, 2, 4):  # 4: a preload that was never called would not be idle
            assert targets.number(hostler.invoke("tagged", f"{number}.tar.gz")) == number
        called = ("--match", "[1-4].*")
        eventually(lambda: all(entry["calls"] for entry in listed(hostler, *called)), 60, "calls are counted")
        hostler.sm.add_tags(ResourceArn=arn, Tags=[{"Key": "hostler:idle-ttl", "Value": "0.2"}])
        eventually(lambda: hostler.metric("hostler_resident_targets") == 2, 60, "the others are unloaded")
        entries = listed(hostler, "--endpoint", "tagged")
        pinned = {entry["target"]: entry["pinned"] for entry in entries if entry["instance"]}
        assert pinned == {"1.tar.gz": True, "3.tar.gz": True}
        assert targets.number(hostler.invoke("tagged", "2.tar.gz")) == 2
        hostler.sm.delete_tags(ResourceArn=arn, TagKeys=["hostler:pin"])
        eventually(lambda: hostler.metric("hostler_resident_targets") == 0, 60, "all are unloaded")


def test_resident_targets_are_loaded_again_after_a_stop_and_after_a_kill_without_a_call(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        start(hostler)
        for number in range(TARGETS):
            assert targets.number(hostler.invoke("tagged", f"{number}.tar.gz")) == number
        hot = hostler.data / "hot.json"
        hostler.stop()
        assert hot.read_bytes().count(b".tar.gz") == TARGETS
        (hostler.data / "s3" / BUCKET / "tagged" / "7.tar.gz").unlink()

        hostler.start()
        eventually(lambda: hostler.metric("hostler_resident_targets") == TARGETS - 1, 60, "they are resident")
        assert hostler.metric("hostler_model_loads_total") == TARGETS - 1
        assert hostler.metric("hostler_downloads_total") == 0, "from the disk"
        assert len({entry["instance"] for entry in listed(hostler)}) == 2
        before = hot.stat().st_ino
        eventually(lambda: hot.stat().st_ino != before, 60, "the hot list is written")

        hostler.host.kill()
        eventually(lambda: not hostler.remains(), 60, "all processes have ended")
        hostler.destroy()
        hostler.start()
        eventually(lambda: hostler.metric("hostler_resident_targets") == TARGETS - 1, 60, "they are again")
        assert "Traceback" not in hostler.output.read_text()
        assert "7.tar.gz" not in hostler.output.read_text()
