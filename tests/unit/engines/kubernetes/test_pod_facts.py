"""What follows from what Kubernetes says of a pod."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from hostler.engines.engine import ContainerReport, InstanceReport
from hostler.engines.kubernetes import facts
from hostler.engines.kubernetes.answers import Event, Pod
from hostler.engines.kubernetes.pods import ContainerNote, Note

NOTE = Note(
    "0000000a.1.0.0.0",
    {"key": "us-east-1/e"},
    (ContainerNote("log/0", "hostler-server:1", "xgboost"), ContainerNote("log/1", "registry.example/team/theirs:7")),
)
DIGEST = "sha256:" + "0" * 64
RUNNING = {"running": {}}
NEVER = "cannot be pulled (ErrImageNeverPull): not there."
NO_NODE = "0/3 nodes are available: 3 Insufficient memory."
PULL = 'Failed to pull image "registry.example/team/theirs:7": '


def pod(
    *states: dict[str, Any], agent: dict[str, Any] | None = None, image: str = "", started: bool = True,
    labels: dict[str, str] | None = None, metadata: dict[str, Any] | None = None, last: dict[str, Any] | None = None,
    **status: Any,
) -> Pod:  # fmt: skip
    """Return a pod on node-1, with the states of its containers. `last`: that in which its agent ended before."""
    statuses = [
        {"name": f"c{n}", "image": "x", "imageID": image, "ready": True, "restartCount": 0, "state": state}
        for n, state in enumerate(states)
    ]
    agents = [
        {"name": "agent", "image": "hostler:1", "imageID": "", "ready": True, "restartCount": 0,
         "started": started, "state": agent or RUNNING, "lastState": last or {}}
    ]  # fmt: skip
    return msgspec.convert(
        {
            "metadata": {
                "name": "hostler-3f9c-0000000a-1-0-0-0",
                "labels": {"hostler.dev/house": "3f9c", **(labels or {})},
                "annotations": {"hostler.dev/launch": msgspec.json.encode(NOTE).decode()},
                **(metadata or {}),
            },
            "spec": {"nodeName": "node-1", "containers": []},
            "status": {"podIP": "10.1.2.3", "phase": "Running", "containerStatuses": statuses,
                       "initContainerStatuses": agents, **status},
        },
        Pod,
    )  # fmt: skip


def report(*states: dict[str, Any], warnings: tuple[Event, ...] = (), **more: Any) -> InstanceReport:
    return facts.report(pod(*states, **more), NOTE, warnings)


def failed(message: str, count: int = 1, reason: str = "Failed") -> Event:
    return msgspec.convert(
        {"metadata": {"name": "e"}, "involvedObject": {}, "reason": reason, "message": message, "count": count},
        Event,
    )


def waits(reason: str, message: str = "") -> dict[str, Any]:
    return {"waiting": {"reason": reason, "message": message}}


def condition(type: str, status: str, reason: str, message: str = "") -> dict[str, Any]:
    return {"conditions": [{"type": type, "status": status, "reason": reason, "message": message}]}


def test_a_pod_whose_containers_run_is_an_instance_with_addresses_a_machine_and_a_beat() -> None:
    found = report(RUNNING, RUNNING, labels={"topology.kubernetes.io/zone": "zone-a"})
    assert (found.id, found.labels) == (NOTE.id, NOTE.labels)
    assert [each.address for each in found.containers] == ["tcp:10.1.2.3:8080", "tcp:10.1.2.3:8081"]
    assert [each.ours for each in found.containers] == [True, False]
    assert (found.machine, found.beat) == ("node-1/zone-a", "tcp:10.1.2.3:7901")
    assert (found.trouble, found.hopeless, found.leaving, found.lost) == ("", False, False, False)
    assert report(RUNNING, RUNNING).machine == "node-1"
    assert facts.report(pod(RUNNING, RUNNING), NOTE, zone="zone-b").machine == "node-1/zone-b"


def test_an_image_is_named_with_its_digest_where_the_node_says_that_of_the_same_repository() -> None:
    theirs = "registry.example/team/theirs"
    for id, named in (
        (f"{theirs}@{DIGEST}", f"{theirs}@{DIGEST}"),
        (f"docker-pullable://{theirs}@{DIGEST}", f"{theirs}@{DIGEST}"),
        (f"elsewhere.example/x@{DIGEST}", f"{theirs}:7"),
        (DIGEST, f"{theirs}:7"),
        ("", f"{theirs}:7"),
    ):
        assert report(RUNNING, RUNNING, image=id).containers[1].image == named


def test_a_container_that_is_held_back_or_not_started_yet_has_no_address() -> None:
    held = report(waits("PodInitializing"), waits("PodInitializing"), started=False, phase="Pending")
    assert held.containers == (ContainerReport(), ContainerReport())
    assert held.trouble == "hostler's agent in its pod has not reached control yet, or brings its artifacts"
    assert report(agent=waits("PodInitializing"), started=False).trouble == ""
    starting = report(RUNNING, waits("ContainerCreating"))
    assert (starting.containers[0].address, starting.containers[1]) == ("tcp:10.1.2.3:8080", ContainerReport())
    assert starting.trouble == "its node pulls the images, or starts the containers"


@pytest.mark.parametrize(
    ("state", "exit", "oom"),
    [
        ({"exitCode": 7, "reason": "Error"}, 7, False),
        ({"exitCode": 0, "reason": "Completed"}, 0, False),
        ({"exitCode": 143, "reason": "Error"}, -15, False),
        ({"exitCode": 137, "reason": "OOMKilled"}, -9, True),
    ],
)
def test_the_end_of_a_container_has_its_code_or_signal(state: dict[str, Any], exit: int, oom: bool) -> None:
    found = report(RUNNING, {"terminated": state}).containers[1]
    assert (found.exit, found.oom, found.cause) == (exit, oom, "")
    assert found.address == "tcp:10.1.2.3:8081", "it has run"


def test_a_program_that_cannot_be_started_is_told_from_one_that_ended() -> None:
    message = 'failed to create task: exec: "serve": executable file not found in $PATH: unknown'
    found = report(RUNNING, {"terminated": {"exitCode": 128, "reason": "StartError", "message": message}}).containers[1]
    assert found.exit == 128
    assert "its image has no program serve" in found.cause
    other = {"terminated": {"exitCode": 128, "reason": "StartError", "message": "exec format error"}}
    assert report(RUNNING, other).containers[1].cause == "The container could not be started: exec format error."


def test_a_pod_without_a_node_says_why_and_that_it_is_room_that_it_lacks() -> None:
    found = report(phase="Pending", **condition("PodScheduled", "False", "Unschedulable", NO_NODE))
    assert (found.lack, found.hopeless) == ("capacity", False)
    assert found.trouble == f"no node of the cluster has room for it: {NO_NODE}"


@pytest.mark.parametrize(
    ("message", "tries", "hopeless"),
    [
        ("registry.example/team/theirs:7: not found", 1, False),
        ("registry.example/team/theirs:7: not found", 3, True),
        ("failed to authorize: 401 Unauthorized", 3, True),
        ("no match for platform in manifest", 3, True),
        ("dial tcp 10.0.0.1:443: i/o timeout", 9, False),
        ("503 Service Unavailable", 9, False),
    ],
)
def test_an_image_that_is_not_there_is_given_up_after_three_tries_and_one_that_cannot_be_reached_is_not(
    message: str, tries: int, hopeless: bool
) -> None:
    warnings = (failed(PULL + message, tries), failed("Error: ErrImagePull", 5))
    found = report(RUNNING, waits("ImagePullBackOff", "Back-off pulling image"), warnings=warnings)
    assert (found.lack, found.hopeless) == ("image", hopeless)
    assert message.rstrip(".") in found.trouble
    assert ("image_pull_secrets" in found.trouble) == ("not found" in message or "401" in message)


@pytest.mark.parametrize("reason", ["InvalidImageName", "ErrImageNeverPull"])
def test_what_is_no_image_is_given_up_at_once(reason: str) -> None:
    found = report(RUNNING, waits(reason, "couldn't parse image"))
    assert (found.lack, found.hopeless) == ("image", True)


def test_a_container_that_cannot_be_created_is_given_up_after_three_tries() -> None:
    message = "container has runAsNonRoot and image will run as root"
    state = waits("CreateContainerConfigError", message)
    assert not report(RUNNING, state).hopeless
    found = report(RUNNING, state, warnings=(failed(f"Error: {message}", 3),))
    assert (found.hopeless, found.lack) == (True, "")
    assert message in found.trouble


def test_what_keeps_the_agent_is_told_apart() -> None:
    found = report(agent=waits("ErrImagePull", "not found"), started=False)
    assert found.trouble.startswith("hostler's agent, which each pod has: The image hostler:1 was not pulled.")
    assert found.lack == ""


def test_an_agent_that_ends_again_and_again_is_said_and_the_instance_serves_on() -> None:
    crashes = waits("CrashLoopBackOff", "back-off 5m0s restarting failed container")
    killed, ended = ({"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, {"terminated": {"exitCode": 2}})
    again = "It ends again and again"
    for agent, last, said in (
        (crashes, killed, f"{again}, the last time with exit code 137 (OOMKilled)."),
        (crashes, ended, f"{again}, the last time with exit code 2."),
        (crashes, None, f"{again}."),
        (waits("ErrImageNeverPull", "not there"), None, f"The image hostler:1 {NEVER}"),
    ):
        found = report(RUNNING, RUNNING, agent=agent, last=last, started=False)
        assert all(each.address for each in found.containers)
        assert found.trouble == f"hostler's agent, which each pod has: {said}"
        assert (found.hopeless, found.lack) == (False, "")
    assert report(RUNNING, RUNNING, started=False).trouble == ""


def test_what_keeps_the_node_from_preparing_a_pod_is_said() -> None:
    missing = failed('MountVolume.SetUp failed: configmap "hostler-link-ca" not found', reason="FailedMount")
    found = report(started=False, phase="Pending", agent=waits("PodInitializing"), warnings=(missing,))
    assert 'configmap "hostler-link-ca" not found' in found.trouble


@pytest.mark.parametrize(
    ("status", "cause"),
    [
        ({"reason": "Evicted", "message": "The node was low on resource: memory."},
         "Its node evicted it: The node was low on resource: memory."),
        ({"reason": "OutOfcpu", "message": "Node didn't have enough resource: cpu"},
         "Its node did not let it run (OutOfcpu): Node didn't have enough resource: cpu."),
        ({"reason": "NodeLost"}, "Its node is lost."),
        (condition("DisruptionTarget", "True", "PreemptionByScheduler", "preempting to accommodate another"),
         "Kubernetes ended it (PreemptionByScheduler): preempting to accommodate another."),
        ({}, "Its pod has ended, and nothing says how."),
    ],
)  # fmt: skip
def test_a_pod_that_others_ended_says_why_for_each_container(status: dict[str, Any], cause: str) -> None:
    for found in report(phase="Failed", **status).containers:
        assert (found.exit, found.cause) == (-9, cause)


def test_an_evicted_container_that_has_a_code_of_its_own_says_that_it_was_evicted() -> None:
    ended = {"terminated": {"exitCode": 137, "reason": "Error"}}
    found = report(ended, ended, phase="Failed", reason="Evicted", message="low on memory").containers[0]
    assert (found.exit, found.cause) == (-9, "Its node evicted it: low on memory.")


def test_a_pod_that_somebody_deletes_or_evicts_leaves() -> None:
    assert report(RUNNING, RUNNING, metadata={"deletionTimestamp": "2026-01-01T00:00:00Z"}).leaving
    found = report(RUNNING, RUNNING, **condition("DisruptionTarget", "True", "EvictionByEvictionAPI"))
    assert (found.leaving, found.lost) == (True, False)
    assert not report(RUNNING, RUNNING, **condition("DisruptionTarget", "False", "EvictionByEvictionAPI")).leaving


def test_a_pod_of_a_node_that_is_not_heard_is_lost() -> None:
    found = report(RUNNING, RUNNING, **condition("DisruptionTarget", "True", "DeletionByTaintManager"))
    assert (found.leaving, found.lost) == (True, True)
    assert report(RUNNING, RUNNING, reason="NodeLost").lost


@pytest.mark.parametrize(
    "launch",
    [
        "", "{}", "[", '{"id": "0000000a.1.0.0.0", "labels": {}, "containers": []}',
        msgspec.json.encode(msgspec.structs.replace(NOTE, id="another")).decode(),
        msgspec.json.encode(msgspec.structs.replace(NOTE, id="../x")).decode(),
        msgspec.json.encode(msgspec.structs.replace(NOTE, containers=(ContainerNote("../../log", "x"),))).decode(),
        msgspec.json.encode(msgspec.structs.replace(NOTE, containers=NOTE.containers * 8)).decode(),
    ],
)  # fmt: skip
def test_a_pod_with_a_launch_that_no_hostler_wrote_is_none_of_ours(launch: str) -> None:
    assert facts.note(pod(RUNNING)) == NOTE
    assert facts.note(pod(RUNNING, metadata={"annotations": {"hostler.dev/launch": launch}})) is None
    assert facts.note(pod(RUNNING, metadata={"annotations": None})) is None


def test_a_pod_whose_launch_names_no_image_is_reported_all_the_same() -> None:
    forged = msgspec.structs.replace(NOTE, containers=(ContainerNote("log", "No Reference"),))
    assert facts.report(pod(RUNNING), forged).containers[0].image == "No Reference"
