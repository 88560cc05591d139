"""What an operator says of targets by tags, and what is warm again after an end, through boto3 and `hostler ls`."""

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
    """An endpoint `lives` over TARGETS models; its ARN. Tags by topic, e.g. pin."""
    for number in range(TARGETS):
        hostler.put(f"lives/{number}.tar.gz", targets.xgboost_target(number))
    container = {"Image": XGBOOST, "ModelDataUrl": f"s3://{BUCKET}/lives/", "Mode": "MultiModel"}
    hostler.sm.create_model(ModelName="lives", ExecutionRoleArn=ROLE, Containers=[container])
    variant = {"VariantName": "v", "ModelName": "lives", "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 2}
    hostler.sm.create_endpoint_config(EndpointConfigName="lives", ProductionVariants=[variant])
    said = [{"Key": f"hostler:{topic.replace('_', '-')}", "Value": value} for topic, value in tags.items()]
    arn: str = hostler.sm.create_endpoint(EndpointName="lives", EndpointConfigName="lives", Tags=said)["EndpointArn"]
    hostler.wait_in_service("lives")
    return arn


def listed(hostler: Hostler, *words: str) -> list[dict[str, Any]]:
    """What `hostler ls --targets` says."""
    command = [sys.executable, "-m", "hostler.cli", "ls", "--targets", "--json", "--data", str(hostler.data), *words]
    environment = {"PYTHONPATH": str(REPOSITORY / "src"), "PATH": "/usr/bin:/bin"}
    done = subprocess.run(command, env=environment, cwd=hostler.folder, capture_output=True, text=True, timeout=30)
    assert done.returncode == 0, done.stderr
    found: list[dict[str, Any]] = json.loads(done.stdout)["targets"]
    return found


def test_tags_preload_pin_and_unload_and_can_be_changed_while_the_endpoint_serves(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        arn = start(hostler, preload="3.tar.gz 4.tar.gz none.tar.gz", pin="3.tar.gz 1...")
        found = {one["target"]: one for one in listed(hostler)}
        assert {name: one["state"] for name, one in found.items()} == {
            "3.tar.gz": "resident", "4.tar.gz": "resident", "none.tar.gz": "failed"
        }  # fmt: skip
        for number in (3, 1, 2, 4):  # 4: a preload that was never called would not be idle
            assert targets.number(hostler.invoke("lives", f"{number}.tar.gz")) == number
        eventually(lambda: all(one["calls"] for one in listed(hostler, "--match", "[1-4].*")), 30, "calls are counted")
        hostler.sm.add_tags(ResourceArn=arn, Tags=[{"Key": "hostler:idle-ttl", "Value": "0.2"}])
        eventually(lambda: hostler.metric("hostler_resident_targets") == 2, 30, "the others have left")
        shown = {one["target"]: one["pinned"] for one in listed(hostler, "--endpoint", "lives") if one["instance"]}
        assert shown == {"1.tar.gz": True, "3.tar.gz": True}
        assert targets.number(hostler.invoke("lives", "2.tar.gz")) == 2
        hostler.sm.delete_tags(ResourceArn=arn, TagKeys=["hostler:pin"])
        eventually(lambda: hostler.metric("hostler_resident_targets") == 0, 30, "all have left")


def test_what_was_resident_is_resident_again_after_an_end_and_after_a_kill_though_nobody_calls(tmp_path: Path) -> None:
    with hostler_up(tmp_path) as hostler:
        start(hostler)
        for number in range(TARGETS):
            assert targets.number(hostler.invoke("lives", f"{number}.tar.gz")) == number
        hot = hostler.data / "hot.json"
        hostler.stop()
        assert hot.read_bytes().count(b".tar.gz") == TARGETS
        (hostler.data / "s3" / BUCKET / "lives" / "7.tar.gz").unlink()

        hostler.start()
        eventually(lambda: hostler.metric("hostler_resident_targets") == TARGETS - 1, 30, "what was hot is back")
        assert hostler.metric("hostler_model_loads_total") == TARGETS - 1
        assert hostler.metric("hostler_downloads_total") == 0, "from the disk"
        assert len({one["instance"] for one in listed(hostler)}) == 2
        before = hot.stat().st_ino
        eventually(lambda: hot.stat().st_ino != before, 30, "it is written down")

        hostler.host.kill()
        eventually(lambda: not hostler.remains(), 30, "all is gone")
        hostler.destroy()
        hostler.start()
        eventually(lambda: hostler.metric("hostler_resident_targets") == TARGETS - 1, 30, "what was hot is back again")
        assert "Traceback" not in hostler.output.read_text()
        assert "7.tar.gz" not in hostler.output.read_text()
