"""An instance over a fake engine: its containers come up together, and one that ends, ends it."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest
from ground import PATIENCE, Container, Engine
from simulated import Loop

from hostler import contract
from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource
from hostler.core.endpoints.failure_facts import Lack
from hostler.engines.engine import ContainerReport, InstanceReport
from hostler.engines.fake import FakeContainer
from hostler.engines.rooms import Rooms
from hostler.failures import FILE
from hostler.hosting import clock
from hostler.hosting.faults import Faults
from hostler.hosting.gateway_links import Gateways
from hostler.hosting.instance import SILENCE, Instance
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.metrics import Metrics
from hostler.hosting.platform import Platform
from hostler.hosting.targets.registry import RuntimeRegistry
from hostler.hosting.usage import Usage
from hostler.settings import Settings
from hostler.store import documents
from silent_ports import refusing, silent

pytestmark = pytest.mark.simulated

SPOT = InstanceKey("us-east-1/ep", "e1", 1, 1, "v", 0, 0, 0)
HURRY = {"ContainerStartupHealthCheckTimeoutInSeconds": 0.2}
XGBOOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"


def addresses(instance: Instance) -> tuple[str, ...]:
    return tuple(container.address for container in instance.containers)


class Stage:
    """A platform whose containers answer in this loop, and one instance at a time on it."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.settings = Settings(data=folder, images={"mine": ("serve-it",)}, startup_timeout=PATIENCE)
        self.engine = Engine(folder / "c", self._container)
        self.pings: dict[int, int] = {}  # position -> what a new container answers, if not 200
        self.news = asyncio.Event()
        self.disk = ArtifactCache(
            folder / "artifacts", EmbeddedSource(folder / "s3"), 2**30, ArchiveLimits(10**9, 1000, 1000.0)
        )
        rooms = Rooms(self.settings, self.disk)
        self.platform = Platform(self.settings, self.engine.connect(rooms), rooms.logs, Metrics(), self.news.set)

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()
        await self.disk.close()

    def instance(self, *containers: dict[str, Any], **variant: Any) -> Instance:
        spec = documents.variant_spec({"VariantName": "v", **variant}, {"Containers": list(containers)})
        return Instance(self.platform, SPOT, spec)

    async def ready(self, *containers: dict[str, Any], **variant: Any) -> Instance:
        """Return an instance that has become ready."""
        instance = self.instance(*containers, **variant)
        instance.begin()
        await self.until(instance, "ready")
        return instance

    async def until(self, instance: Instance, state: str) -> None:
        await self.when(lambda: instance.state == state)

    async def when(self, true: Callable[[], object]) -> None:
        async with asyncio.timeout(PATIENCE):
            while not true():
                self.news.clear()
                await self.news.wait()

    async def until_started(self) -> None:
        """Wait until a container was started, and its instance has been told so."""
        async with asyncio.timeout(PATIENCE):
            while not self.engine.started:
                await self.engine.changed()
        await asyncio.sleep(1.0)

    def started(self, position: int) -> FakeContainer:
        return next(container for container in self.engine.started if container.position == position)

    def containers(self) -> Path:
        """The folder of all containers' folders."""
        return self.folder / "containers"

    async def restart(self) -> InstanceReport:
        """Connect a new control; return what it finds."""
        self.engine.connect(Rooms(self.settings, self.disk))
        (report,) = await self.engine.list()
        return report

    async def look(self, instance: Instance) -> None:
        """Have the instance look at what the engine lists."""
        (report,) = await self.engine.list()
        await instance.look(report, whole=True)

    async def report(self, instance: Instance, **fields: object) -> None:
        """Set fields of what the engine reports of the instance, and have it look."""
        self.engine.report(SPOT.id, **fields)
        await self.look(instance)

    def _container(self, started: FakeContainer) -> Container:
        return Container(ping=self.pings.get(started.position, 200))


@pytest.fixture
def stage(tmp_path: Path) -> Stage:
    return Stage(tmp_path / "data")


async def a_while() -> None:
    """Until any moment of an instance's start, by the loop's seed: so many seconds and turns."""
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    if seconds := loop.random.choice((0.0, 0.0, 0.001, 0.01, 0.1, 0.4)):
        await asyncio.sleep(seconds)
    for _ in range(loop.random.randrange(12)):
        await asyncio.sleep(0)


async def stopped(instance: Instance) -> None:
    if instance.state != "stopping":
        instance.retire()
    await instance.stop(0)


def mine(**more: Any) -> dict[str, Any]:
    return {"Image": "mine", **more}


def ours(**more: Any) -> dict[str, Any]:
    """A container on one of our own servers, without an artifact."""
    return {"Image": XGBOOST, **more}


async def test_each_container_has_its_own_folder_log_name_and_environment(stage: Stage) -> None:
    instance = stage.instance(
        ours(ContainerHostname="first", Environment={"A": "1", "HOSTNAME": "x", "SAGEMAKER_MULTI_MODEL": "true"}),
        ours(Environment={"A": "2"}, Mode="MultiModel", ModelDataUrl="s3://b/p/"),
    )
    instance.begin()
    await stage.until(instance, "ready")
    first, second = stage.started(0), stage.started(1)
    assert (first.environment["A"], second.environment["A"]) == ("1", "2")
    assert (first.environment["HOSTNAME"], second.environment["HOSTNAME"]) == ("first", "container-2")
    assert "SAGEMAKER_MULTI_MODEL" not in first.environment
    assert second.environment["SAGEMAKER_MULTI_MODEL"] == "true"
    assert (stage.containers() / first.id / "model").is_dir()
    assert (stage.containers() / second.id / "models").is_dir()
    logs = f"e1/v/{SPOT.aws_id}"
    assert [first.launch.log, second.launch.log] == [f"{logs}/first", f"{logs}/container-2"]
    assert addresses(instance) == tuple(f"unix:{stage.folder}/c/{container.id}/s" for container in (first, second))
    await stopped(instance)
    assert not list(stage.containers().iterdir())


async def test_a_container_that_is_alone_is_named_as_on_aws(stage: Stage) -> None:
    instance = await stage.ready(ours())
    assert stage.started(0).environment["HOSTNAME"] == "container-0.local"
    assert stage.started(0).launch.log == f"e1/v/{SPOT.aws_id}"
    assert re.fullmatch("i-[0-9a-f]{17}", SPOT.aws_id)
    await stopped(instance)


async def test_an_instance_is_ready_when_all_its_containers_are(stage: Stage) -> None:
    stage.pings[7] = 503
    instance = stage.instance(*(ours() for _ in range(15)))
    instance.begin()
    await stage.until(instance, "starting")
    async with asyncio.timeout(PATIENCE):
        while len(stage.engine.containers) < 15:
            await stage.engine.changed()
    assert instance.state == "starting"
    stage.engine.containers[f"{SPOT.id}.7"].ping = 200
    await stage.until(instance, "ready")
    assert len(set(addresses(instance))) == 15
    await stopped(instance)


async def test_a_container_that_ends_is_named_and_the_others_are_stopped_with_it(stage: Stage) -> None:
    instance = await stage.ready(ours(ContainerHostname="first"), ours(Mode="MultiModel", ModelDataUrl="s3://b/p/"))
    stage.engine.end(f"{SPOT.id}.0", 3)
    for _ in range(2):  # the second time is no news
        await stage.look(instance)
    assert instance.state == "ended"
    assert instance.reason.startswith("The first container for production variant v did not pass the ping health")
    assert "The container exited with code 3. " in instance.reason
    assert instance.culprits == (instance.containers[0],), "the multi-model container is not to blame"
    assert stage.platform.metrics.containers_ended == 1
    await stopped(instance)
    assert await stage.engine.list() == []
    assert instance.state == "gone"


@pytest.mark.parametrize("seed", range(12))
async def test_all_containers_that_have_ended_are_named_with_their_causes(stage: Stage, seed: int) -> None:
    instance = await stage.ready(*(ours(ContainerHostname=name) for name in ("one", "two", "three")))
    stage.engine.text[f"{SPOT.id}.2"] = "ModuleNotFoundError: No module named 'cv2'"
    stage.engine.end(f"{SPOT.id}.0", 3)
    stage.engine.end(f"{SPOT.id}.2", 1)
    await stage.look(instance)
    assert instance.reason.startswith("The one, three container for production variant v did not pass the ping")
    assert " one: The container exited with code 3." in instance.reason
    assert " three: The container exited with code 1. Python found no module named cv2." in instance.reason
    assert instance.culprits == (instance.containers[0], instance.containers[2])
    assert stage.platform.metrics.containers_ended == 2
    await stopped(instance)


ENDED = "The container exited with code 1 before it answered a ping."
SAID = "the model does not load: why"


@pytest.mark.parametrize(
    ("left", "reason"),
    [
        (
            b'{"code": "other", "message": "why", "line": "the model does not load: why"}',
            "The model does not load: why.",
        ),
        (b'{"code": "other", "message": "why"}', f"The model does not load: why. Its last lines: {SAID}"),
        (None, f"{ENDED} Its last lines: {SAID}"),
        (b"", f"{ENDED} Its last lines: {SAID}"),
        (b'{"code": "other", "message": "wh', f"{ENDED} Its last lines: {SAID}"),
        (b'{"code": "other", "message": "\xff"}', f"{ENDED} Its last lines: {SAID}"),
        (b'{"code": "other", "message": "\\r\\n"}', f"{ENDED} Its last lines: {SAID}"),
        (b'{"code": "other", "message": "' + b"m" * 2**20 + b'"}', f"{ENDED} Its last lines: {SAID}"),
        (
            b'{"code": "other", "message": "\\u001b[31mone\\ntwo", "advice": "Do\\nthat."}',
            f"The model does not load: ?[31mone. Do that. Its last lines: {SAID}",
        ),
        (
            b'{"code": "other", "message": "in %(base)s/model/x, %(data)s/keys", "advice": "See %(data)s/y."}',
            f"The model does not load: in /opt/ml/model/x, keys. See y. Its last lines: {SAID}",
        ),
    ],
    ids=["good", "no line", "none", "empty", "cut short", "not UTF-8", "blank", "huge", "a terminal's", "paths"],
)
async def test_a_failure_that_a_server_left_is_the_cause_and_an_unreadable_one_leaves_the_log(
    stage: Stage, left: bytes | None, reason: str
) -> None:
    stage.pings = {0: 503}
    instance = stage.instance(ours())
    instance.begin()
    async with asyncio.timeout(PATIENCE):
        while not stage.engine.started:
            await stage.engine.changed()
    folder = stage.containers() / f"{SPOT.id}.0"
    if left is not None:
        data = left.replace(b"%(base)s", bytes(folder)).replace(b"%(data)s", bytes(stage.folder))
        (folder / FILE).write_bytes(data)
    stage.engine.text[f"{SPOT.id}.0"] = f"{SAID}\n"
    stage.engine.end(f"{SPOT.id}.0", 1)
    await stage.look(instance)
    assert instance.reason.partition(" for this endpoint. ")[2] == reason
    await stopped(instance)


async def test_all_containers_that_never_passed_are_named_with_their_causes(stage: Stage) -> None:
    stage.pings = {0: 404, 2: 503}
    instance = stage.instance(*(ours(ContainerHostname=name) for name in ("one", "two", "three")), **HURRY)
    instance.begin()
    await stage.until(instance, "ended")
    assert "The one, three container for production variant v did not pass" in instance.reason
    assert " one: In 0.2 seconds, GET /ping was answered with 404 instead of 200" in instance.reason
    assert " three: In 0.2 seconds, GET /ping was answered with 503 instead of 200" in instance.reason
    await stopped(instance)


async def test_an_artifact_that_is_missing_is_named_by_its_containers_number_and_nothing_starts(stage: Stage) -> None:
    instance = stage.instance(ours(), ours(ModelDataUrl="s3://nowhere/x.tar.gz"))
    instance.begin()
    await stage.until(instance, "ended")
    assert instance.reason.startswith('Failed to download model data for container "container_2" from URL: "s3://now')
    assert "NoSuchBucket" in instance.reason
    assert stage.engine.started == []
    await stopped(instance)
    assert not list(stage.containers().iterdir())


async def test_a_submit_directory_that_is_no_address_is_the_users_mistake(stage: Stage) -> None:
    instance = stage.instance(ours(Environment={"SAGEMAKER_SUBMIT_DIRECTORY": "s3:///sourcedir.tar.gz"}))
    instance.begin()
    await stage.until(instance, "ended")
    assert instance.reason.startswith('Failed to download model data for container "container_1"')
    await stopped(instance)


async def test_a_container_that_the_engine_refuses_to_start_has_its_cause_behind_awss_sentence(stage: Stage) -> None:
    stage.engine.refuse = "no port is free"
    instance = stage.instance(mine())
    instance.begin()
    await stage.until(instance, "ended")
    assert instance.reason == (
        "The primary container for production variant v did not pass the ping health check. Please check CloudWatch"
        " logs for this endpoint. The container could not be started: no port is free. It wrote nothing to its log."
    )
    await stopped(instance)


async def test_a_wrong_port_is_found_by_looking(stage: Stage) -> None:
    stage.engine.address = lambda container: "tcp:127.0.0.1:9"  # where nobody listens
    stage.engine.ports[f"{SPOT.id}.0"] = (9000,)
    instance = stage.instance(mine(), **HURRY)
    instance.begin()
    await stage.until(instance, "ended")
    assert "the container listens on port 9000, but it was told 9, in SAGEMAKER_BIND_TO_PORT" in instance.reason
    await stopped(instance)


async def test_a_new_control_starts_only_the_containers_that_an_earlier_one_did_not(stage: Stage) -> None:
    definitions = [ours(ContainerHostname=name) for name in ("one", "two", "three")]
    earlier = stage.instance(*definitions)
    earlier.begin()
    await stage.until(earlier, "ready")
    await earlier.detach()
    stage.engine.remove(f"{SPOT.id}.1")
    stage.engine.started.clear()
    before = await stage.restart()

    instance = stage.instance(*definitions)
    instance.begin(before)
    assert not instance.running
    await stage.until(instance, "ready")
    assert [container.environment["HOSTNAME"] for container in stage.engine.started] == ["two"]
    assert addresses(instance) == tuple(f"unix:{stage.folder}/c/{SPOT.id}.{position}/s" for position in range(3))
    await stopped(instance)


async def test_a_container_that_others_removed_ends_the_instance_and_is_named(stage: Stage) -> None:
    instance = await stage.ready(ours(ContainerHostname="one"), ours(ContainerHostname="two"))
    stage.engine.remove(f"{SPOT.id}.1")
    await stage.look(instance)
    assert instance.state == "ended"
    assert instance.reason.startswith("The two container for production variant v did not pass the ping health check.")
    assert "The container is there no more: others have removed it." in instance.reason
    assert not instance.ended_by_itself
    assert not instance.containers[1].foreign, "what it was is remembered"
    await stage.report(instance, lost=True)
    assert instance.report.lost, "nothing waits until it is stopped"
    await stopped(instance)


async def test_a_list_from_before_the_start_takes_nothing_away(stage: Stage) -> None:
    instance = await stage.ready(ours(), ours())
    before = instance.report
    await instance.look(InstanceReport(SPOT.id, {}, (ContainerReport(), before.containers[1])), whole=False)
    assert (instance.state, instance.report.containers) == ("ready", before.containers)
    await stopped(instance)


async def test_an_instance_for_which_there_is_no_room_in_time_ends_with_the_engines_reason(stage: Stage) -> None:
    stage.engine.may_prepare.clear()
    instance = stage.instance(ours(), **HURRY)
    instance.begin()
    await stage.until(instance, "fetching")
    report = InstanceReport(SPOT.id, {}, (ContainerReport(),), trouble="All machines are full.")
    await instance.look(report, whole=False)
    await stage.until(instance, "ended")
    assert (
        instance.reason == "There was no room for the instance, and for 0.2 seconds no progress: All machines are full."
    )
    await stopped(instance)


@pytest.mark.parametrize(
    ("lack", "begin"),
    [
        ("capacity", "CapacityError: Unable to provision requested ML compute capacity due to Insufficient"),
        ("image", "Please make sure all images included in the model for the production variant "),
    ],
)
async def test_what_an_instance_lacks_decides_which_words_of_aws_come_first(
    stage: Stage, lack: Lack, begin: str
) -> None:
    stage.engine.may_prepare.clear()
    instance = stage.instance(ours(), **HURRY)
    instance.begin()
    await stage.until(instance, "fetching")
    report = InstanceReport(SPOT.id, {}, (ContainerReport(),), trouble="0/3 nodes are available.", lack=lack)
    await instance.look(report, whole=False)
    await stage.until(instance, "ended")
    assert instance.reason.startswith(begin)
    assert "0/3 nodes are available." in instance.reason
    await stopped(instance)


async def test_a_container_whose_end_the_engine_explains_has_that_for_its_cause(stage: Stage) -> None:
    instance = await stage.ready(ours())
    ended = msgspec.structs.replace(instance.report.containers[0], exit=-9, cause="Its node evicted it: low on memory.")
    await instance.look(msgspec.structs.replace(instance.report, containers=(ended,)), whole=True)
    assert instance.state == "ended"
    assert "Its node evicted it: low on memory." in instance.reason
    assert "SIGKILL" not in instance.reason
    assert not instance.ended_by_itself
    await stopped(instance)


async def test_an_instance_that_the_engine_calls_hopeless_ends_at_once(stage: Stage) -> None:
    stage.engine.may_prepare.clear()
    instance = stage.instance(ours())
    instance.begin()
    await stage.until(instance, "fetching")
    report = InstanceReport(SPOT.id, {}, (ContainerReport(),), trouble="There is no such image.", hopeless=True)
    await instance.look(report, whole=False)
    assert (instance.state, instance.reason) == ("ended", "There is no such image.")
    await stopped(instance)


async def test_an_instance_that_others_end_leaves_and_one_that_starts_does_not(stage: Stage) -> None:
    stage.pings = {0: 503}
    instance = stage.instance(ours())
    instance.begin()
    await stage.until(instance, "starting")
    await stage.until_started()
    await stage.report(instance, leaving=True)
    assert instance.state == "starting"
    stage.engine.containers[f"{SPOT.id}.0"].ping = 200
    await stage.until(instance, "ready")
    await stage.look(instance)
    assert instance.state == "leaving"
    await stopped(instance)


async def test_an_instance_that_the_engine_calls_lost_is_unheard_with_the_first_ping_that_fails(stage: Stage) -> None:
    instance = await stage.ready(ours())
    stage.engine.report(SPOT.id, lost=True)
    for _ in range(3):  # the engine's word alone ends nothing
        await stage.look(instance)
        await asyncio.sleep(0.5)
    assert (instance.state, instance.unheard) == ("ready", False)
    begun = clock.now()
    stage.engine.containers[f"{SPOT.id}.0"].ping = 503
    await stage.look(instance)
    await stage.when(lambda: instance.unheard)
    assert clock.now() - begun < contract.PING_TIMEOUT, "it is pinged at once, and once"
    await asyncio.sleep(30.0)
    assert instance.state == "ready", "others decide whether it is lost"
    instance.lose()
    assert (instance.state, instance.lost) == ("ended", True)
    assert instance.reason == "The machine of an instance of production variant v does not answer any more."
    await stopped(instance)


async def test_an_instance_is_unheard_while_its_beat_is_silent_too_and_no_longer(stage: Stage) -> None:
    instance = await stage.ready(ours())
    with silent() as beat:
        await stage.report(instance, beat=beat)
        stage.engine.containers[f"{SPOT.id}.0"].ping = 503
        instance.doubt()
        await stage.when(lambda: instance.unheard)
        await asyncio.sleep(30.0)
        assert instance.state == "ready"
        stage.engine.containers[f"{SPOT.id}.0"].ping = 200
        await stage.when(lambda: not instance.unheard)
    await stopped(instance)


async def test_a_machine_that_others_call_silent_is_asked_while_the_ping_waits_for_its_answer(stage: Stage) -> None:
    instance = await stage.ready(ours())
    with silent() as beat:
        await stage.report(instance, beat=beat)
        stage.engine.containers[f"{SPOT.id}.0"].ping = 0
        begun = clock.now()
        instance.doubt()
        await stage.when(lambda: instance.unheard)
        assert clock.now() - begun < contract.PING_TIMEOUT + SILENCE
    await stopped(instance)


async def test_an_instance_whose_machine_answers_ends_after_three_pings_as_ever(stage: Stage) -> None:
    instance = await stage.ready(ours())
    await stage.report(instance, beat=refusing())
    stage.engine.containers[f"{SPOT.id}.0"].ping = 503
    await stage.until(instance, "ended")
    assert "3 times in a row" in instance.reason
    assert not instance.unheard
    await stopped(instance)


@pytest.mark.parametrize("turns", range(6))
async def test_a_control_that_stands_still_while_it_pings_misses_no_ping(stage: Stage, turns: int) -> None:
    loop = asyncio.get_running_loop()
    assert isinstance(loop, Loop)
    instance = await stage.ready(ours())
    for _ in range(6):
        instance.doubt()
        for _ in range(turns):
            await asyncio.sleep(0)
        loop.stand_still(10.0)
        await asyncio.sleep(1.0)
    assert instance.state == "ready"
    assert not stage.platform.metrics.pings_missed
    await stopped(instance)


async def test_an_engine_that_cannot_stop_an_instance_just_now_is_asked_again_and_that_is_said_once(
    stage: Stage, caplog: pytest.LogCaptureFixture
) -> None:
    instance = await stage.ready(ours())
    instance.retire()
    stage.engine.unreachable = "it restarts"
    stopping = asyncio.create_task(instance.stop(0))
    await asyncio.sleep(3.0)
    assert instance.state == "stopping"
    assert caplog.text.count("cannot be stopped just now: it restarts") == 1
    stage.engine.unreachable = ""
    await stopping
    assert instance.state == "gone"
    assert await stage.engine.list() == []


@pytest.mark.parametrize("seed", range(40))
async def test_an_instance_that_is_retired_while_it_comes_up_stops_and_leaves_nothing(stage: Stage, seed: int) -> None:
    stage.pings = {0: 503}
    instance = stage.instance(ours(), ours())
    instance.begin()
    await a_while()
    instance.retire()
    await asyncio.sleep(0)
    assert (instance.state, instance.reason) == ("stopping", "")
    await stopped(instance)
    assert instance.state == "gone"
    assert await stage.engine.list() == []
    assert not [*stage.containers().glob("*")]


@pytest.mark.parametrize("seed", range(12))
@pytest.mark.parametrize("restarted", [False, True])
async def test_a_missing_interpreter_has_another_cause_than_a_missing_program_also_for_a_new_control(
    stage: Stage, tmp_path: Path, seed: int, restarted: bool
) -> None:
    program = tmp_path / "serve it.py"
    program.write_text(f"#!{tmp_path}/venv/bin/python -u\n")
    program.chmod(0o700)
    stage.settings.images["mine"] = (str(program),)
    stage.engine.address = lambda container: "tcp:127.0.0.1:9"  # where nobody listens
    stage.engine.text[f"{SPOT.id}.0"] = f"bwrap: execvp {program}: No such file or directory"

    instance = stage.instance(mine())
    instance.begin()
    await stage.until_started()
    if restarted:
        await instance.detach()
        instance = stage.instance(mine())
        instance.begin(await stage.restart())
        assert instance.containers[0].foreign
    stage.engine.end(f"{SPOT.id}.0", 1)
    await stage.look(instance)
    assert f": the interpreter {tmp_path}/venv/bin/python, which the first line of {program} nam" in instance.reason
    await stopped(instance)


async def test_of_several_containers_each_has_its_share_of_what_the_instance_uses(stage: Stage) -> None:
    async with stage:
        instance = stage.instance(ours(ContainerHostname="a"), ours(ContainerHostname="b"))
        instance.begin()
        await stage.until(instance, "ready")
        gateways = Gateways()
        runtimes = RuntimeRegistry(
            stage.settings, gateways, Metrics(), Faults(gateways), machine_memory=0, changed=stage.news.set
        )
        budget = runtimes.budgets([instance])[instance.id]
        usage = Usage({instance.id: instance}, runtimes, stage.folder)
        for position, part in enumerate((8, 4)):
            stage.engine.bytes[f"{instance.id}.{position}"] = budget // part
        await usage.sample(1)
        await asyncio.sleep(10)
        for position, seconds in enumerate((5.0, 10.0)):
            stage.engine.processor[f"{instance.id}.{position}"] = seconds
        samples = {
            (sample.metric, sample.container): round(sample.value, 3)
            for sample in await usage.sample(2)
            if sample.metric != "DiskUtilization"
        }
        assert samples == {
            ("MemoryUtilization", ""): 37.5,
            ("MemoryUtilization", "a"): 12.5,
            ("MemoryUtilization", "b"): 25,
            ("CPUUtilization", ""): 150,
            ("CPUUtilization", "a"): 50,
            ("CPUUtilization", "b"): 100,
        }
        await stopped(instance)
