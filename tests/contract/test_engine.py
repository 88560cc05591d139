"""What every engine promises, asked of each: the fake one, a real host with forked and executed containers, Docker, a
cluster.
"""

from __future__ import annotations

import asyncio
import contextlib
import signal
import sys
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec
import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "containers"))
from fake_cluster import cluster as clusters
from fake_cluster.cluster import Cluster
from hosts import Host, hosting, none_of, until
from kubernetes_stage import KubernetesStage, furnish
from stages import (
    COMMAND,
    OURS,
    DockerStage,
    FakeStage,
    MixedStage,
    ProcessStage,
    Stage,
    exited,
    listed,
    playing,
    seen,
    started,
)

import docker_rig
from hostler.engines.engine import ContainerLaunch, ContainerReport, Engine, InstanceLaunch
from hostler.engines.fake import FakeEngine
from hostler.engines.host_client import HostClient
from hostler.errors import EngineError, NotStarted
from hostler.host import namespaces


@pytest.fixture(scope="module")
def host(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Callable[[str], Host]]:
    """Hosts by the setting `bubblewrap`, each started when first wanted."""
    open_hosts: dict[str, Host] = {}
    closers = []

    def get(bubblewrap: str) -> Host:
        if bubblewrap not in open_hosts:
            manager = hosting(tmp_path_factory.mktemp("host"), HOSTLER_BUBBLEWRAP=bubblewrap)
            open_hosts[bubblewrap] = manager.__enter__()
            closers.append(manager)
        return open_hosts[bubblewrap]

    yield get
    for manager in closers:
        manager.__exit__(None, None, None)


@pytest.fixture(scope="module")
def standins_image() -> str:
    return docker_rig.image("standins")


IN_DOCKER = [pytest.param(name, marks=pytest.mark.docker) for name in ("docker", "mixed")]


@pytest.fixture(scope="module")
def cluster() -> Iterator[Cluster]:
    with clusters.running(tls=False) as cluster:
        furnish(cluster)
        yield cluster


@pytest.fixture(params=["fake", "forked", "supervised", "bubblewrap", "kubernetes", *IN_DOCKER])
def stage(
    request: pytest.FixtureRequest, tmp_path: Path, host: Callable[[str], Host], require: Callable[..., None]
) -> Iterator[Stage]:
    stage: Stage
    if request.param == "fake":
        stage = FakeStage(tmp_path)
    elif request.param == "kubernetes":
        stage = KubernetesStage(tmp_path, request.getfixturevalue("cluster"))
    elif request.param == "docker":
        require("docker")
        stage = DockerStage(tmp_path, request.getfixturevalue("standins_image"))
    elif request.param == "mixed":
        require("docker")
        stage = MixedStage(host("off"), request.getfixturevalue("standins_image"))
    elif request.param == "forked":
        stage = ProcessStage(host("off"), OURS)
    else:
        if request.param == "bubblewrap":
            require("bwrap")
        stage = ProcessStage(host("on" if request.param == "bubblewrap" else "off"), COMMAND)
        stage.isolates = request.param == "bubblewrap"
    yield stage
    stage.end()


def test_a_started_instance_is_reported_by_its_start_and_by_the_list(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        launch = stage.launch("listed", {}, {}, {})
        assert len(await engine.prepare(launch)) == 3
        report = await engine.start("listed")
        assert report.labels == {"for": "a test"}
        assert await engine.list() == [report]
        assert (report.trouble, report.hopeless, report.leaving, report.lost) == ("", False, False, False)
        assert len({container.address for container in report.containers}) == 3
        for container in report.containers:
            assert container.address.startswith(stage.address)
            assert container.ours == stage.ours
            assert container.exit is None

    playing(stage, play)


def test_an_instance_runs_once_it_is_prepared_and_started_and_not_before(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        with pytest.raises(EngineError, match="not prepared"):
            await engine.start("early")
        await engine.prepare(stage.launch("early"))
        assert not any(container.address for report in await engine.list() for container in report.containers)
        await engine.stop("early", 0)
        with pytest.raises(EngineError, match="not prepared"):
            await engine.start("early")

    playing(stage, play)


def test_preparing_and_starting_an_id_twice_is_one_instance(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        launch = stage.launch("twice", {}, {})
        stage.put("box", "one")
        storages = await engine.prepare(launch)
        await storages[0].fetch_folder("model", "box", "one")
        assert await engine.prepare(launch) == storages
        before, again = await asyncio.gather(engine.start("twice"), engine.start("twice"))
        assert before == again
        assert (stage.folder("twice.0") / "model" / "model.bin").exists(), "it was prepared once"
        await engine.prepare(launch)
        assert await engine.start("twice") == before
        assert await engine.list() == [before]

    playing(stage, play)


def test_one_container_ends_with_its_code_and_the_others_live_on_until_the_instance_is_stopped(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("short", {}, {"STANDIN_EXIT": "7"}, {}))
        assert (await exited(engine, "short", 1)).exit == 7
        assert (await engine.start("short")).containers[1].exit == 7, "what has exited is not started again"
        assert [container.exit for container in (await seen(engine, "short")).containers] == [None, 7, None]
        await engine.stop("short", 0)
        assert await engine.list() == []

    playing(stage, play)


def test_a_stopped_instance_is_forgotten_and_nothing_of_it_is_left(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("family", {}, {}))
        family = await stage.family("family.0") | await stage.family("family.1")
        await engine.stop("family", 30)
        assert none_of(family)
        assert await engine.list() == []
        assert not [*(stage.data / "containers").glob("family*")]

    playing(stage, play)


def test_a_killed_container_has_ended_with_all_below_it_and_the_others_live_on(stage: Stage) -> None:
    if not stage.kills:
        pytest.skip("a pod is ended as a whole")

    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("victim", {}, {"STANDIN_STUBBORN": "1"}))
        family, other = await stage.family("victim.1"), await stage.family("victim.0")
        await engine.kill("victim", 1)
        until("what was below it has ended", lambda: none_of(family))
        report = await seen(engine, "victim")
        assert report.containers[0].exit is None
        assert report.containers[1].exit in (-signal.SIGKILL, 128 + signal.SIGKILL)
        await engine.kill("victim", 1)
        await engine.kill("never", 0)
        assert await seen(engine, "victim") == report
        assert not (other and none_of(other))

    playing(stage, play)


def test_a_container_that_an_earlier_client_started_can_be_killed(stage: Stage) -> None:
    if not stage.kills:
        pytest.skip("a pod is ended as a whole")

    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("heir"))
        await stage.close()
        second = stage.engine()
        await second.kill("heir", 0)
        assert (await seen(second, "heir")).containers[0].exit is not None
        await second.stop("heir", 0)

    playing(stage, play)


def test_a_container_that_ignores_sigterm_is_killed_after_its_grace(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("stubborn", {"STANDIN_STUBBORN": "1"}))
        family = await stage.family("stubborn.0")
        await engine.stop("stubborn", 0.05)
        assert none_of(family)

    playing(stage, play)


def test_stopping_twice_at_once_and_stopping_the_unknown_are_no_errors(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("once", {}, {}))
        await asyncio.gather(engine.stop("once", 5), engine.stop("once", 5))
        await engine.stop("never", 5)
        assert await engine.list() == []

    playing(stage, play)


def test_an_id_can_be_used_again_after_it_was_stopped(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("again", {}, {}))
        await engine.stop("again", 5)
        report = await started(engine, stage.launch("again", {}))
        assert await engine.list() == [report]
        assert len(report.containers) == 1

    playing(stage, play)


def test_a_stop_ends_a_start_that_is_under_way(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        for turns in range(6):
            await engine.prepare(stage.launch("hasty", {}, {}))
            start = asyncio.create_task(engine.start("hasty"))
            for _ in range(turns):
                await asyncio.sleep(0)
            start.cancel()
            await asyncio.gather(start, return_exceptions=True)
            await engine.stop("hasty", 0)
            assert await engine.list() == []

    playing(stage, play)


def test_a_new_client_reports_what_an_earlier_one_started_and_finds_its_artifacts(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        launch = stage.launch("kept", {}, {}, multi_model=True)
        stage.put("box", "one")
        _, storage = await engine.prepare(launch)
        await engine.start("kept")
        placed = await storage.fetch("0123", "one", "box", "one")
        before = await engine.list()
        await stage.close()
        second = stage.engine()
        assert await second.list() == before
        _, storage = await second.prepare(launch)
        (found,) = (await storage.known(["0123"])).values()
        assert (found.target, found.shown) == ("one", placed.shown)
        assert await second.start("kept") == before[0], "nothing of it is started again"
        await second.stop("kept", 0)
        assert await second.list() == []
        assert not [*(stage.data / "containers").glob("kept*")]

    playing(stage, play)


def test_a_new_client_stops_what_an_earlier_one_started(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("left", {}, {}))
        family = await stage.family("left.0") | await stage.family("left.1")
        await stage.close()
        await stage.engine().stop("left", 5)
        assert none_of(family)
        assert not [*(stage.data / "containers").glob("left*")]

    playing(stage, play)


def test_an_artifact_that_comes_after_the_start_is_seen_inside_where_its_path_says(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        stage.put("box", "late")
        (storage,) = await engine.prepare(stage.launch("late", {}, multi_model=True))
        await engine.start("late")
        placed = await storage.fetch("4567", "late", "box", "late")
        assert stage.sees(await stage.family("late.0"), f"{placed.shown}/model.bin")
        await storage.discard("4567")

    playing(stage, play)


def test_a_submit_directory_in_s3_becomes_the_folder_of_the_code_as_the_container_sees_it(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        stage.put("box", "code")
        launch = stage.launch("code", {"SAGEMAKER_SUBMIT_DIRECTORY": "s3://box/code"})
        (storage,) = await engine.prepare(launch)
        await storage.fetch_folder("code", "box", "code")
        await engine.start("code")
        environment = dict(line.split("=", 1) for line in stage.environment("code.0").splitlines())
        assert stage.sees(await stage.family("code.0"), f"{environment['SAGEMAKER_SUBMIT_DIRECTORY']}/model.bin")

    playing(stage, play)


def test_a_container_that_others_removed_is_missing_from_the_next_list(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        before = await started(engine, stage.launch("robbed", {}, {}))
        await stage.remove("robbed.0")
        if stage.kills:
            part = (ContainerReport(), before.containers[1])
            await listed(engine, lambda reports: [each.containers for each in reports] == [part])
            await stage.remove("robbed.1")
        await listed(engine, lambda reports: not reports)
        await engine.stop("robbed", 0)

    playing(stage, play)


def test_changes_are_reported_when_an_instance_starts_and_when_it_ends(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await engine.list()
        await started(engine, stage.launch("news"))
        await asyncio.wait_for(engine.changed(), 60)
        await engine.stop("news", 5)
        await asyncio.wait_for(engine.changed(), 60)

    playing(stage, play)


async def list_for_ever(engine: Engine) -> None:
    while True:
        await engine.list()
        await asyncio.sleep(0.01)


def test_an_engine_that_cannot_be_asked_says_so_in_seconds_and_then_that_it_can_again(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        report = await started(engine, stage.launch("apart"))
        await engine.list()
        with stage.away():
            with pytest.raises(EngineError, match="not answer"):
                await asyncio.wait_for(list_for_ever(engine), 60)  # a guard: it is promised within seconds
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(engine.changed(), 0.1)  # whatever changed before
        async with asyncio.timeout(60):
            while True:  # a change may be one of before, and the engine cannot be asked yet
                await engine.changed()
                with contextlib.suppress(EngineError):
                    if await engine.list() == [report]:
                        break

    playing(stage, play)


def test_the_log_is_read_from_its_end_and_a_missing_one_is_empty(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("talker", {}, {"STANDIN_EXIT": "0"}))
        await exited(engine, "talker", 1)
        assert (await engine.logs("talker", 1, 1000)).endswith("a stand-in speaks\n")
        assert await engine.logs("talker", 1, 7) == "speaks\n"
        assert await engine.logs("talker", 2, 1000) == ""
        assert await engine.logs("never", 0, 1000) == ""

    playing(stage, play)


def test_memory_counts_a_containers_whole_tree_and_is_zero_without_one(stage: Stage) -> None:
    if not stage.measures:
        pytest.skip("the processes of a pod are nobody's to look at")

    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("eater", {}, {}))
        await stage.family("eater.1")
        assert await engine.memory("eater", 1) > 2**20
        assert await engine.memory("eater", 2) == 0
        assert await engine.memory("never", 0) == 0

    playing(stage, play)


def test_processor_time_counts_a_containers_whole_tree_and_is_zero_without_one(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("works", {"STANDIN_WORK": "0.1"}))  # the system counts in hundredths
        await stage.family("works.0")
        used = await engine.processor_time("works", 0)
        assert used > 0 or isinstance(stage, FakeStage) or not stage.measures
        assert await engine.processor_time("works", 0) >= used
        assert await engine.processor_time("never", 0) == 0

    playing(stage, play)


def test_an_isolated_container_has_a_socket_and_ports_of_its_own_or_is_not_started(stage: Stage) -> None:
    if isinstance(stage, KubernetesStage):
        pytest.skip("a cluster isolates by its network policies")
    if refused := namespaces.trial().isolation:
        pytest.skip(f"this machine allows no network namespaces: {refused}")

    async def play(engine: Engine) -> None:
        await engine.prepare(msgspec.structs.replace(stage.launch("alone", {}, {}), isolated=True))
        if not stage.isolates:
            with pytest.raises(NotStarted, match="EnableNetworkIsolation, which this machine does not allow"):
                await engine.start("alone")
            await engine.stop("alone", 0)
            return
        report = await engine.start("alone")
        await stage.family("alone.0")
        assert all(container.address.startswith("unix:") for container in report.containers)
        found = await engine.autopsy("alone", 0, 1000)
        port = 8080 if stage.image == COMMAND else 0
        assert found.port == port
        assert port in (*found.listening, 0)  # beside those of the other one, where they share a network

    playing(stage, play)


def test_an_autopsy_tells_of_log_program_and_ports_also_after_control_was_restarted(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        report = await started(engine, stage.launch("failed", {}))
        await stage.family("failed.0")
        port = stage.port(report)
        found = await engine.autopsy("failed", 0, 1000)
        assert found.log.endswith("a stand-in speaks")
        if stage.measures:
            assert (found.port, found.listening) == ((port, (port,)) if port else (0, ()))
        assert found.program == stage.program
        assert (await engine.autopsy("never", 0, 1000)).log == ""
        await stage.close()
        second = stage.engine()
        await second.list()
        again = await second.autopsy("failed", 0, 1000)
        assert again == (found if stage.measures else msgspec.structs.replace(found, listening=again.listening))

    playing(stage, play)


def test_a_container_that_cannot_be_started_is_named_and_the_instance_leaves_nothing(stage: Stage) -> None:
    if isinstance(stage, FakeStage):
        pytest.skip("the fake engine starts anything")

    async def play(engine: Engine) -> None:
        for wrong in ({"A=B": ""}, {"A": "\0"}):
            with pytest.raises(NotStarted, match=r".") as refused:
                await started(engine, stage.launch("bad", {}, wrong))
            assert refused.value.position == 1
            await engine.stop("bad", 5)
            assert await engine.list() == []

    playing(stage, play)


def test_an_image_that_nothing_here_can_run_is_refused_before_anything_is_made(stage: Stage) -> None:
    if isinstance(stage, KubernetesStage):
        pytest.skip("there an image that nobody knows runs itself")

    async def play(engine: Engine) -> None:
        launch = InstanceLaunch("strange", {}, (ContainerLaunch("nobody/knows:1", {}),))
        with pytest.raises(EngineError, match="Nothing here can run the image nobody/knows:1"):
            await engine.prepare(launch)
        assert not [*(stage.data / "containers").glob("strange*")]

    playing(stage, play)


def test_a_sweep_removes_what_is_left_of_unknown_instances_and_no_others(stage: Stage) -> None:
    if isinstance(stage, KubernetesStage):
        pytest.skip("nothing of a cluster's instances is on this machine")

    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("known"))
        left = stage.data / "containers" / "forgotten.0"
        left.mkdir()
        assert await engine.sweep(["known"]) == ("forgotten.0",)
        assert not left.exists()
        assert [report.id for report in await engine.list()] == ["known"]
        assert [*(stage.data / "containers").glob("known*")]

    playing(stage, play)


def test_an_instance_has_a_size_and_may_be_told_to_serve(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("sized"))
        size = engine.size("ml.m5.large")
        assert size.memory == int(stage.usable * 8 * 2**30)
        assert size.cpus >= 1
        assert engine.pooled >= 0
        await engine.serving(["sized"])
        await engine.serving([])

    playing(stage, play)


def test_a_container_under_bubblewrap_has_the_hostname_that_its_environment_says(
    host: Callable[[str], Host], require: Callable[..., None]
) -> None:
    require("bwrap")
    stage = ProcessStage(host("on"), COMMAND)

    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("named", {"HOSTNAME": "secondContainer", "STANDIN_NAME": "1"}))
        await stage.family("named.0")
        assert "is secondContainer at 127.0.0.1" in await engine.logs("named", 0, 1000)

    playing(stage, play)


def test_a_child_that_no_control_started_is_left_alone(host: Callable[[str], Host]) -> None:
    stage = ProcessStage(host("off"), OURS)

    async def play(engine: Engine) -> None:
        client = HostClient(host("off").run)
        await client.start(host("off").spawn("stranger", "forked"))
        report = await started(engine, stage.launch("friend"))
        assert await engine.list() == [report]
        assert "stranger" in [child.id for child in await client.list()]
        await client.stop("stranger", 0)
        client.close()

    playing(stage, play)


def test_the_fake_engine_refuses_and_ends_containers_on_request(tmp_path: Path) -> None:
    stage = FakeStage(tmp_path)

    async def play(engine: Engine) -> None:
        assert isinstance(engine, FakeEngine)
        engine.refuse = "no room"
        await engine.prepare(stage.launch("one"))
        with pytest.raises(NotStarted, match="no room"):
            await engine.start("one")
        engine.refuse = ""
        engine.address = lambda container: f"tcp:127.0.0.1:{len(container.id)}"
        await engine.start("one")
        engine.end("one.0", -9)
        engine.report("one", leaving=True, trouble="it rains")
        (report,) = await engine.list()
        assert report.containers == (ContainerReport("tcp:127.0.0.1:5", True, -9),)
        assert (report.leaving, report.trouble) == (True, "it rains")

    playing(stage, play)
