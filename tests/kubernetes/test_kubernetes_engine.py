"""The Kubernetes engine against an API server: what it asks for, what it makes of the answers, and of their absence."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from contextlib import AbstractAsyncContextManager
from functools import partial
from pathlib import Path
from typing import Any, Protocol

import msgspec
import pytest
from engine_stage import CONTROL, GUARD, HOUSE, INSTANCES, Stage, empty, furnish, launch, make_owner, staged
from fake_cluster import cluster as clusters
from fake_cluster.access import Question
from fake_cluster.cluster import Cluster
from fake_cluster.kinds import BUDGET, CONFIG_MAP, NAMESPACE, POD, QUOTA

from hostler.engines.engine import ContainerReport, InstanceReport
from hostler.engines.kubernetes.tokens import TokenDoor
from hostler.errors import EngineAway, EngineError, ImageMissing, NoCapacity, NotStarted
from hostler.failures import Failure
from hostler.wire.agent_messages import ListeningPort, Looked
from hostler.wire.door import Knock, Peer

RUNNING = {"running": {}}
ADDRESS = "tcp:10.1.2.3"


class Open(Protocol):
    def __call__(self, **more: Any) -> AbstractAsyncContextManager[Stage]: ...


@pytest.fixture(scope="module")
def one() -> Iterator[Cluster]:
    with clusters.running(tls=False) as cluster:
        furnish(cluster)
        yield cluster


@pytest.fixture
def cluster(one: Cluster) -> Iterator[Cluster]:
    yield one
    empty(one)


@pytest.fixture
def open_stage(cluster: Cluster, tmp_path: Path) -> Open:
    return partial(staged, cluster, tmp_path)


# --- the life of an instance ------------------------------------------------------------------------------------------


async def test_an_instance_is_a_pod_whose_containers_start_when_their_artifacts_are_there(open_stage: Open) -> None:
    async with open_stage() as stage:
        await stage.prepared(launch("one", 2))
        assert stage.gone == set()
        assert [each.address for report in await stage.engine.list() for each in report.containers] == ["", ""]
        starting = asyncio.create_task(stage.engine.start("one"))
        stage.schedule("one")
        stage.status("one", RUNNING, {"waiting": {"reason": "ContainerCreating"}}, phase="Running")
        await stage.until_listed(lambda listed: listed[0].containers[0].address)
        assert not starting.done(), "one of them does not run yet"
        stage.status("one", RUNNING, RUNNING)
        report: InstanceReport = await asyncio.wait_for(starting, GUARD)
        assert [each.address for each in report.containers] == [f"{ADDRESS}:8080", f"{ADDRESS}:8081"]
        assert (report.machine, report.beat) == ("node-1", f"{ADDRESS}:7901")
        assert stage.gone == {"one"}
        assert await stage.engine.list() == [report]


def make_node(cluster: Cluster, name: str, zone: str) -> None:
    labels = {"topology.kubernetes.io/zone": zone} if zone else {}
    cluster.apply({"apiVersion": "v1", "kind": "Node", "metadata": {"name": name, "labels": labels}})


async def test_the_zone_of_an_instances_node_is_read_once_and_nobody_waits_for_it(
    cluster: Cluster, open_stage: Open
) -> None:
    for name, zone in (("zoned", "zone-a"), ("elsewhere", "zone-b"), ("bare", "")):
        make_node(cluster, name, zone)
    nodes = {"one": "zoned", "two": "zoned", "three": "elsewhere", "four": "bare", "five": "gone"}
    async with open_stage() as stage:
        for id in nodes:
            await stage.prepared(launch(id))
        cluster.fail(503)  # the first node is asked for again
        for id, node in nodes.items():
            stage.schedule(id, node)
            stage.status(id, RUNNING, phase="Running")
        machines = {"one": "zoned/zone-a", "two": "zoned/zone-a", "three": "elsewhere/zone-b"}
        machines |= {"four": "bare", "five": "gone"}
        await stage.until_listed(lambda listed: {report.id: report.machine for report in listed} == machines)
        make_node(cluster, "zoned", "zone-c")
        stage.status("one", {"terminated": {"exitCode": 1}}, phase="Failed")
        listed = await stage.until_listed(lambda listed: any(each.containers[0].exit for each in listed))
        assert {report.id: report.machine for report in listed} == machines


async def test_without_a_right_to_read_nodes_an_instance_has_its_node_alone(cluster: Cluster, open_stage: Open) -> None:
    make_node(cluster, "zoned", "zone-a")
    account = {"name": "zoneless", "namespace": CONTROL}
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "hostler-control"}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {
            "apiVersion": "rbac.authorization.k8s.io/v1", "kind": "RoleBinding", "roleRef": role,
            "metadata": {"name": "zoneless", "namespace": INSTANCES},
            "subjects": [{"kind": "ServiceAccount", **account}],
        },
    )  # fmt: skip
    async with open_stage(token=cluster.token(CONTROL, "zoneless")) as stage:
        await stage.prepared(launch("one"))
        stage.schedule("one", "zoned")
        user = f"system:serviceaccount:{CONTROL}:zoneless"
        async with asyncio.timeout(GUARD):
            while not any(who == user for who, _ in cluster.rights_missed()):
                await stage.engine.list()
                await asyncio.sleep(0.02)
        await stage.prepared(launch("two"))
        stage.schedule("two", "zoned")
        await stage.until_listed(lambda listed: [each.machine for each in listed] == ["zoned", "zoned"])


async def test_preparing_and_starting_an_id_twice_is_one_pod(open_stage: Open) -> None:
    async with open_stage() as stage:
        report = await stage.started(launch("twice"))
        storages = await stage.engine.prepare(launch("twice"))
        assert await stage.engine.prepare(launch("twice")) == storages
        assert await stage.engine.start("twice") == report
        assert stage.pods() == [stage.name("twice")]
        with pytest.raises(EngineError, match="not prepared"):
            await stage.engine.start("never")


async def test_a_stopped_instance_has_its_grace_and_is_gone_when_its_stop_returns(open_stage: Open) -> None:
    async with open_stage() as stage:
        await stage.started(launch("ends"))
        stopping = asyncio.create_task(stage.engine.stop("ends", 30))
        await stage.until_listed(lambda listed: listed[0].leaving)
        assert stage.pod("ends")["metadata"]["deletionGracePeriodSeconds"] == 30
        assert not stopping.done()
        stage.remove("ends")
        await asyncio.wait_for(stopping, GUARD)
        assert await stage.engine.list() == []
        await stage.engine.stop("ends", 0)
        await stage.engine.stop("never", 5)


async def test_a_stop_ends_a_preparation_that_is_under_way(open_stage: Open) -> None:
    async with open_stage() as stage:
        for turns in range(6):
            preparing = asyncio.create_task(stage.engine.prepare(launch("hasty")))
            for _ in range(turns):
                await asyncio.sleep(0.005)
            preparing.cancel()
            await asyncio.gather(preparing, return_exceptions=True)
            await stage.engine.stop("hasty", 0)
            assert stage.pods() == []
            assert await stage.engine.list() == []


async def test_an_id_can_be_used_again_after_it_was_stopped(open_stage: Open) -> None:
    async with open_stage() as stage:
        await stage.prepared(launch("again"))
        await stage.engine.stop("again", 0)
        report = await stage.started(launch("again", 2))
        assert len(report.containers) == 2


async def test_a_new_engine_takes_over_what_an_earlier_one_started_also_before_the_agents_are_linked(
    open_stage: Open,
) -> None:
    async with open_stage() as stage:
        report = await stage.started(launch("kept", 2))
        await stage.prepared(launch("waits"))
    async with open_stage() as second:
        listed = {report.id: report for report in await second.engine.list()}
        assert listed["kept"] == report
        assert listed["waits"].containers == (ContainerReport(),)
        storages = await asyncio.wait_for(second.engine.prepare(launch("kept", 2)), GUARD)
        assert len(storages) == 2
        assert await second.engine.start("kept") == report
        await second.prepared(launch("waits"))
        assert len(second.pods()) == 2


async def test_an_instance_that_others_removed_is_said_to_whoever_prepares_and_missing_from_the_list(
    open_stage: Open,
) -> None:
    async with open_stage() as stage:
        await stage.started(launch("robbed"))
        preparing = asyncio.create_task(stage.engine.prepare(launch("unborn")))
        await stage.until_listed(lambda listed: len(listed) == 2)
        stage.remove("robbed")
        assert [report.id for report in await stage.until_listed(lambda listed: len(listed) == 1)] == ["unborn"]
        stage.remove("unborn")
        with pytest.raises(EngineError, match="Others have removed its pod"):
            await asyncio.wait_for(preparing, GUARD)


async def test_a_pod_that_its_node_refuses_is_given_up(open_stage: Open) -> None:
    async with open_stage() as stage:
        preparing = asyncio.create_task(stage.engine.prepare(launch("refused")))
        await stage.there("refused")
        stage.status("refused", phase="Failed", reason="OutOfcpu", message="Node didn't have enough resource: cpu")
        with pytest.raises(EngineError, match=r"did not let it run \(OutOfcpu\)"):
            await asyncio.wait_for(preparing, GUARD)


async def test_what_a_pod_waits_for_is_in_the_list_and_an_image_that_is_not_there_ends_its_start(
    open_stage: Open,
) -> None:
    async with open_stage() as stage:
        await stage.prepared(launch("pulls"))
        no_room = {"type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": "0/3 nodes"}
        stage.status("pulls", phase="Pending", conditions=[no_room])
        (report,) = await stage.until_listed(lambda listed: listed[0].trouble)
        assert (report.lack, report.trouble) == ("capacity", "no node of the cluster has room for it: 0/3 nodes.")
        starting = asyncio.create_task(stage.engine.start("pulls"))
        stage.status("pulls", {"waiting": {"reason": "ErrImagePull", "message": "x"}}, conditions=[])
        message = 'Failed to pull image "registry.example/theirs:1": not found'
        stage.warn("pulls", "Failed", message)
        (report,) = await stage.until_listed(lambda listed: listed[0].lack == "image")
        assert not report.hopeless
        stage.warn("pulls", "Failed", message, count=3)
        with pytest.raises(ImageMissing, match="not found"):
            await asyncio.wait_for(starting, GUARD)


async def test_what_cannot_run_in_a_cluster_is_refused_before_there_is_a_pod(open_stage: Open) -> None:
    async with open_stage(images={"registry.example/theirs": ("python",)}) as stage:
        with pytest.raises(EngineError, match="a cluster runs images alone"):
            await stage.engine.prepare(launch("command"))
        bad = msgspec.structs.replace(launch("x").containers[0], image="No Image")
        with pytest.raises(ImageMissing, match="no reference"):
            await stage.engine.prepare(msgspec.structs.replace(launch("bad"), containers=(bad,)))
        wrong = msgspec.structs.replace(bad, image="fine:1", environment={"A": "\0"})
        with pytest.raises(NotStarted, match="cannot be set"):
            await stage.engine.prepare(msgspec.structs.replace(launch("wrong"), containers=(wrong,)))
        assert stage.pods() == []
        await stage.engine.stop("wrong", 0)


async def test_without_the_owner_no_pod_is_made_and_its_name_is_said(cluster: Cluster, open_stage: Open) -> None:
    async with open_stage() as stage:
        cluster.delete(CONFIG_MAP, INSTANCES, "hostler-instances")
        try:
            with pytest.raises(EngineError, match="The ConfigMap hostler-instances in the namespace hostler-instances"):
                await stage.engine.prepare(launch("orphan"))
        finally:
            make_owner(cluster)
        await stage.engine.stop("orphan", 0)
        await stage.prepared(launch("orphan"))


async def test_without_the_right_to_create_pods_an_instance_is_given_up_at_once_and_the_right_is_said(
    cluster: Cluster, open_stage: Open
) -> None:
    account = {"name": "looker", "namespace": CONTROL}
    rules = [
        {"apiGroups": [""], "resources": ["pods", "events"], "verbs": ["get", "list", "watch", "delete"]},
        {"apiGroups": [""], "resources": ["configmaps"], "verbs": ["get"]},
    ]
    role = {"apiGroup": "rbac.authorization.k8s.io", "kind": "Role", "name": "looker"}
    own = {"apiVersion": "rbac.authorization.k8s.io/v1", "metadata": {"name": "looker", "namespace": INSTANCES}}
    cluster.apply(
        {"apiVersion": "v1", "kind": "ServiceAccount", "metadata": account},
        {**own, "kind": "Role", "rules": rules},
        {**own, "kind": "RoleBinding", "roleRef": role, "subjects": [{"kind": "ServiceAccount", **account}]},
    )
    async with open_stage(token=cluster.token(CONTROL, "looker")) as stage:
        with pytest.raises(EngineError) as refused:
            await asyncio.wait_for(stage.engine.prepare(launch("one")), GUARD)
        assert re.fullmatch(
            r"The pod of the instance cannot be created: the API server does not allow it \(403\): pods is forbidden:"
            r' User "system:serviceaccount:hostler:looker" cannot create resource "pods" in API group "" in the'
            r' namespace "hostler-instances"\. hostler doctor --cluster says which rights are missing\.',
            str(refused.value),
        ), refused.value
        await stage.engine.stop("one", 0)


async def test_a_pod_that_its_namespace_does_not_admit_is_no_question_of_rights(
    cluster: Cluster, open_stage: Open
) -> None:
    def enforce(**labels: str) -> None:
        def change(namespace: Any) -> None:
            namespace["metadata"]["labels"] = labels

        cluster.call(lambda: cluster.store.patch(cluster.store.get(NAMESPACE, "", INSTANCES), change))

    enforce(**{"pod-security.kubernetes.io/enforce": "restricted"})
    try:
        async with open_stage() as stage:
            with pytest.raises(EngineError, match=r"violates PodSecurity .*[^.]\.$") as refused:
                await asyncio.wait_for(stage.engine.prepare(launch("one")), GUARD)
            assert "doctor" not in str(refused.value)
            await stage.engine.stop("one", 0)
    finally:
        enforce()


async def test_beyond_the_quota_of_its_namespace_there_is_no_capacity_for_an_instance(
    cluster: Cluster, open_stage: Open
) -> None:
    metadata = {"name": "hostler-instances", "namespace": INSTANCES}
    cluster.apply({"apiVersion": "v1", "kind": "ResourceQuota", "metadata": metadata, "spec": {"hard": {"pods": "1"}}})
    try:
        async with open_stage() as stage:
            await stage.started(launch("one"))
            with pytest.raises(NoCapacity, match=r"exceeded quota: hostler-instances, .* limited: pods=1\.$"):
                await asyncio.wait_for(stage.engine.prepare(launch("two")), GUARD)
            await stage.engine.stop("two", 0)
            stage.remove("one")
            await stage.prepared(launch("two"))
    finally:
        cluster.delete(QUOTA, INSTANCES, "hostler-instances")


async def test_an_isolated_pod_knows_the_address_of_control(open_stage: Open) -> None:
    async with open_stage() as stage:
        await stage.prepared(launch("alone", isolated=True))
        aliases = stage.pod("alone")["spec"]["hostAliases"]
        assert aliases[-1]["hostnames"] == ["localhost"]
        assert aliases[-1]["ip"] in ("127.0.0.1", "::1")


async def test_an_autopsy_has_what_the_agent_sees_without_its_own_port_and_the_neighbours(open_stage: Open) -> None:
    async with open_stage() as stage:
        preparing = asyncio.create_task(stage.engine.prepare(launch("seen", 2)))
        await stage.there("seen")
        listening = tuple(
            ListeningPort(port, loopback) for port, loopback in ((7901, False), (8080, True), (8081, False))
        )
        await stage.agent("seen", Looked(0, listening, Failure("code", "it fails")))
        await preparing
        found = await stage.engine.autopsy("seen", 0, 1000)
        assert (found.port, found.listening, found.loopback) == (8080, (8080,), True)
        assert found.failure == Failure("code", "it fails")
        assert found.limit == 8 * 2**30
        assert (await stage.engine.autopsy("never", 0, 1000)).port == 0
        assert await stage.engine.memory("seen", 0) == 0


async def test_each_instance_has_its_own_memory(open_stage: Open) -> None:
    async with open_stage(instance_memory=2**30) as stage:
        assert stage.engine.pooled == 0
        assert stage.engine.size("ml.m5.large") == (int(0.9 * 2**30), 2)


async def test_the_output_of_a_container_is_in_its_stream_once_and_outlives_its_pod(
    cluster: Cluster, open_stage: Open
) -> None:
    lines = ["2026-11-30T14:00:00.000000001Z one", "2026-11-30T14:00:00.000000002Z two"]

    async def logs(pod: Any, container: str, query: dict[str, str]) -> bytes:
        found = [line for line in lines if line >= query.get("sinceTime", "")[:-1]]
        if query.get("timestamps") != "true":
            found = [line.partition(" ")[2] for line in found]
        return "".join(f"{line}\n" for line in found).encode()

    async def until_written(stage: Stage, text: str) -> None:
        async with asyncio.timeout(GUARD):
            while stage.logs.tail("u/v/talks/0", 1000) != text:  # noqa: ASYNC110 - it is a file
                await asyncio.sleep(0.05)

    cluster.api.logs = logs
    try:
        async with open_stage() as stage:
            await stage.started(launch("talks"))
            await until_written(stage, "one\ntwo\n")
            assert await stage.engine.logs("talks", 0, 4) == "two\n"
            lines.append("2026-11-30T14:00:00.000000002Z two more")
            await until_written(stage, "one\ntwo\ntwo more\n")
        lines.append("2026-11-30T14:00:01.5Z three")
        async with open_stage() as second:
            await second.engine.list()
            await until_written(second, "one\ntwo\ntwo more\nthree\n")
            stopping = asyncio.create_task(second.engine.stop("talks", 1))
            await second.until_listed(lambda listed: listed[0].leaving)
            lines.append("2026-11-30T14:00:02.5Z bye")
            await until_written(second, "one\ntwo\ntwo more\nthree\nbye\n")
            second.remove("talks")
            await stopping
            assert second.logs.tail("u/v/talks/0", 4) == "bye\n"
            assert not [*(second.settings.data / "logs").rglob("*.mark")]
            assert await second.engine.logs("talks", 0, 1000) == ""
    finally:
        cluster.api.logs = None


# --- whose it is ------------------------------------------------------------------------------------------------------


async def test_the_pods_of_another_house_are_never_listed_and_never_touched_and_they_are_named(
    open_stage: Open, caplog: pytest.LogCaptureFixture
) -> None:
    async with open_stage(house="ffffffffffff") as lost, open_stage() as stage:
        await lost.started(launch("same"))
        await lost.prepared(launch("other"))
        report = await stage.started(launch("same"))
        assert await stage.engine.list() == [report]
        assert await stage.engine.sweep(["same"]) == ()
        assert len(stage.pods()) == 3
        assert "2 pods are of another store than this one's" in caplog.text
        assert "kubectl -n hostler-instances delete pods -l hostler.dev/house=ffffffffffff" in caplog.text
        await stage.engine.stop("other", 0)
        assert len(stage.pods()) == 3


def apply_own(cluster: Cluster, name: str, account: str) -> str:
    """Create a pod of control's namespace; return its uid."""
    secure = {"allowPrivilegeEscalation": False, "capabilities": {"drop": ["ALL"]}}
    spec = {
        "serviceAccountName": account,
        "containers": [{"name": "c", "image": "x", "securityContext": secure}],
        "securityContext": {"runAsNonRoot": True, "seccompProfile": {"type": "RuntimeDefault"}},
    }
    metadata = {"name": name, "namespace": CONTROL}
    [made] = cluster.apply({"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": spec})
    return str(made["metadata"]["uid"])


async def test_a_control_whose_pod_another_one_has_replaced_creates_and_ends_no_pod(
    cluster: Cluster, open_stage: Open, caplog: pytest.LogCaptureFixture
) -> None:
    name = "hostler-control-0"
    own = (name, apply_own(cluster, name, "hostler-control"))
    async with open_stage(own=own) as older:
        await older.started(launch("one"))
        assert [report.id for report in await older.engine.list()] == ["one"]
        cluster.delete(POD, CONTROL, name, grace=0)
        newer = (name, apply_own(cluster, name, "hostler-control"))
        async with asyncio.timeout(GUARD):
            await older.replaced.wait()
        assert "the pod hostler-control-0 of this control is gone" in caplog.text
        with pytest.raises(EngineAway, match="in the place of this one"):
            await older.engine.list()
        with pytest.raises(EngineAway, match="in the place of this one"):
            await older.engine.stop("one", 0)
        preparing = asyncio.create_task(older.engine.prepare(launch("two")))
        async with open_stage(own=newer) as stage:
            assert [report.id for report in await stage.engine.list()] == ["one"]
            await stage.started(launch("three"))
            assert sorted(stage.pods()) == [stage.name("one"), stage.name("three")]
            assert not stage.replaced.is_set()
        preparing.cancel()
    cluster.delete(POD, CONTROL, name, grace=0)


async def test_a_sweep_ends_what_no_instance_is_known_of(open_stage: Open) -> None:
    async with open_stage() as stage:
        await stage.prepared(launch("left"))
    async with open_stage() as second:
        await second.prepared(launch("known"))
        assert await second.engine.sweep([]) == (second.name("left"),)
        assert second.pods() == [second.name("known")]


@pytest.mark.parametrize("annotations", [{}, {"hostler.dev/launch": '{"id": "../x", "labels": {}, "containers": []}'}])
async def test_a_pod_with_our_labels_that_we_did_not_make_is_said_once_and_is_left_alone(
    cluster: Cluster, open_stage: Open, caplog: pytest.LogCaptureFixture, annotations: dict[str, str]
) -> None:
    labels = {"hostler.dev/house": HOUSE, "app.kubernetes.io/managed-by": "hostler"}
    metadata = {"name": "intruder", "namespace": INSTANCES, "labels": labels, "annotations": annotations}
    cluster.apply(
        {"apiVersion": "v1", "kind": "Pod", "metadata": metadata, "spec": {"containers": [{"name": "c", "image": "x"}]}}
    )
    async with open_stage() as stage:
        assert await stage.engine.list() == []
        assert await stage.engine.list() == []
        assert await stage.engine.sweep([]) == ()
        assert caplog.text.count("the pod intruder has hostler's labels") == 1
        assert stage.pods() == ["intruder"]
        assert "deletionTimestamp" not in cluster.get(POD, INSTANCES, "intruder")["metadata"]


async def until_away(stage: Stage) -> None:
    async def list_for_ever() -> None:
        while True:
            await stage.engine.list()
            await asyncio.sleep(0.05)

    with pytest.raises(EngineAway, match="does not answer"):
        await asyncio.wait_for(list_for_ever(), 2 * GUARD)


# --- a server that fails ----------------------------------------------------------------------------------------------


async def test_a_server_that_is_down_is_said_in_seconds_and_then_that_it_is_back_and_nothing_was_stopped(
    cluster: Cluster, open_stage: Open
) -> None:
    async with open_stage() as stage:
        report = await stage.started(launch("apart"))
        with cluster.down():
            await until_away(stage)
            preparing = asyncio.create_task(stage.engine.prepare(launch("patient")))
        assert await stage.until_listed(bool) == [report]
        await stage.there("patient")
        await stage.agent("patient")
        await asyncio.wait_for(preparing, GUARD)


async def test_a_watch_that_is_forgotten_begins_anew_and_nothing_is_missed(cluster: Cluster, open_stage: Open) -> None:
    async with open_stage() as stage:
        for id in ("a", "b"):
            await stage.started(launch(id))
        cluster.expire()
        stage.remove("a")
        cluster.expire()
        assert [report.id for report in await stage.until_listed(lambda listed: len(listed) == 1)] == ["b"]
        stage.status("b", {"terminated": {"exitCode": 137, "reason": "OOMKilled"}}, phase="Failed")
        (report,) = await stage.until_listed(lambda listed: listed[0].containers[0].exit is not None)
        assert (report.containers[0].exit, report.containers[0].oom) == (-9, True)


@pytest.mark.slow
async def test_a_server_that_is_mute_keeps_nobody_waiting(cluster: Cluster, open_stage: Open) -> None:
    async with open_stage() as stage:
        report = await stage.started(launch("quiet"))
        with cluster.mute():
            assert await stage.engine.list() == [report], "it counts for a while"
            await until_away(stage)
        assert await stage.until_listed(bool) == [report]


async def test_a_server_that_answers_with_errors_for_a_moment_is_asked_again(
    cluster: Cluster, open_stage: Open
) -> None:
    async with open_stage() as stage:
        await stage.engine.list()
        cluster.fail(503, times=2)
        await stage.started(launch("later"))


async def test_a_server_that_is_slow_is_waited_for_and_nothing_is_made_twice(
    cluster: Cluster, open_stage: Open
) -> None:
    async with open_stage() as stage:
        before = await stage.started(launch("before"))
        with cluster.slow(0.5):
            assert await stage.engine.list() == [before]
            await asyncio.gather(stage.prepared(launch("late")), stage.engine.prepare(launch("late")))
            assert sorted(stage.pods()) == sorted([stage.name("before"), stage.name("late")])
            await stage.engine.stop("late", 0)
            assert stage.pods() == [stage.name("before")]
        assert await stage.engine.list() == [before]


async def test_a_role_with_too_few_rights_is_said_in_one_sentence(cluster: Cluster, open_stage: Open) -> None:
    async with open_stage(token=cluster.token(CONTROL, "hostler-gateway")) as stage:
        with pytest.raises(EngineAway, match=r"does not allow it \(403\)"):
            await asyncio.wait_for(stage.engine.list(), GUARD)


# --- budgets, tokens, rights ------------------------------------------------------------------------------------------


def budgets(cluster: Cluster) -> dict[str, int]:
    found = cluster.list(BUDGET, INSTANCES)
    return {each["metadata"]["labels"]["hostler.dev/spread"]: each["spec"]["minAvailable"] for each in found}


async def until_budgets(stage: Stage, wanted: dict[str, int]) -> None:
    async with asyncio.timeout(GUARD):
        while budgets(stage.cluster) != wanted:
            await stage.engine.serving([])
            await asyncio.sleep(0.05)


async def test_a_drain_may_take_one_of_a_variant_at_a_time(cluster: Cluster, open_stage: Open) -> None:
    async with open_stage() as stage:
        for id, spread in (("a", "u.1.0"), ("b", "u.1.0"), ("c", "u.1.1")):
            await stage.started(launch(id, spread=spread))
        await until_budgets(stage, {"u-1-0": 1})
        cluster.delete(POD, INSTANCES, stage.name("a"))
        await stage.until_listed(lambda listed: any(report.leaving for report in listed))
        await stage.started(launch("d", spread="u.1.0"))
        await until_budgets(stage, {"u-1-0": 1})
        stage.remove("a")
        await stage.started(launch("e", spread="u.1.0"))
        await until_budgets(stage, {"u-1-0": 2})
    async with open_stage() as second:
        await second.engine.sweep([])
        for id in "bcde":
            second.remove(id)
        await second.until_listed(lambda listed: not listed)
        await until_budgets(second, {})


async def test_a_token_admits_the_agent_of_its_pod_or_a_gateway_and_nobody_else(
    cluster: Cluster, open_stage: Open
) -> None:
    async with open_stage() as stage:
        for id in ("one", "two"):
            await stage.prepared(launch(id))
        apply_own(cluster, "gateway-1", "hostler-gateway")
        door = TokenDoor(stage.api, HOUSE, stage.settings.kubernetes)
        of_one = cluster.token(INSTANCES, "hostler-instance", "hostler", stage.name("one"))
        of_gateway = cluster.token(CONTROL, "hostler-gateway", "hostler", "gateway-1")
        assert await door.admit(Knock("agent", "one", of_one)) == Peer("agent", "one")
        assert await door.admit(Knock("gateway", "gateway-1", of_gateway)) == Peer("gateway", "gateway-1")
        for role, name, token in (
            ("agent", "two", of_one),
            ("gateway", "one", of_one),
            ("agent", "gateway-1", of_gateway),
            ("gateway", "gateway-2", of_gateway),
            ("agent", "one", cluster.token(INSTANCES, "hostler-instance", "", stage.name("one"))),
            ("agent", "one", cluster.token(INSTANCES, "hostler-instance", "hostler")),
            ("agent", "one", cluster.token(INSTANCES, "hostler-instance", "hostler", stage.name("one"), seconds=-1)),
            ("agent", "one", of_one[:-1] + ("A" if of_one[-1] != "A" else "B")),
            ("agent", "one", "forged"),
            ("agent", "one", ""),
        ):
            assert await door.admit(Knock(role, name, token)) is None, (role, name)  # type: ignore[arg-type]
        stage.remove("one")
        assert await door.admit(Knock("agent", "one", of_one)) is None, "its pod is gone"
        with cluster.down():
            assert await door.admit(Knock("agent", "two", of_one)) is None


def test_control_needs_no_right_that_its_role_has_not_and_uses_all_that_it_has(one: Cluster) -> None:
    """Runs last: the tests before it have used what there is to use."""
    user = f"system:serviceaccount:{CONTROL}:hostler-control"
    assert not [missed for missed in one.rights_missed() if missed[0] == user]
    used = {(each.verb, each.resource, each.subresource) for each in one.rights_used(user) if each.namespace != CONTROL}
    assert used == {
        *((verb, "pods", "") for verb in ("get", "list", "watch", "create", "delete")),
        ("get", "pods", "log"),
        ("list", "events", ""), ("watch", "events", ""),
        *((verb, "poddisruptionbudgets", "") for verb in ("get", "list", "create", "update", "delete")),
        ("get", "configmaps", ""),
        ("create", "tokenreviews", ""),
        ("get", "nodes", ""),
    }  # fmt: skip
    assert isinstance(next(iter(one.rights_used(user))), Question)
