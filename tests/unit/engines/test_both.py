"""One engine over two: processes, and images in Docker; here both are fake."""

from __future__ import annotations

import asyncio
import contextlib
import signal
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import msgspec
import pytest

from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource
from hostler.engines import both, house, last_list
from hostler.engines.both import Both
from hostler.engines.engine import ContainerLaunch, ContainerReport, InstanceLaunch, InstanceReport
from hostler.engines.fake import FakeEngine
from hostler.engines.rooms import Rooms
from hostler.errors import EngineAway, EngineError, ImageMissing
from hostler.settings import Settings

pytestmark = pytest.mark.simulated  # else a machine that stands still for a moment is a Docker that is away

OURS = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"
IMAGE = "registry.example/team/model:3"
COMMAND = "registry.example/a-command:1"
AWAY = "Docker cannot be reached: it is asleep."


class FakeDocker(FakeEngine):
    """A Docker with images; `missing` are those that it has not, with the reason."""

    def __init__(self) -> None:
        super().__init__()
        self.mine = lambda server: bool(server.reference)
        self.missing: dict[str, str] = {}
        self.pulled = asyncio.Event()  # while it is not set, a pull goes on
        self.pulled.set()
        self.provided: list[str] = []
        self.closed = False

    async def provide(self, reference: str, say: Callable[[str], None]) -> None:
        if self.unreachable:
            raise EngineAway(self.unreachable)
        if reference in self.missing:
            raise ImageMissing(self.missing[reference])
        if not self.pulled.is_set():
            say(f"pulling {reference}: 45 %")
        await self.pulled.wait()
        self.provided.append(reference)

    async def close(self) -> None:
        self.closed = True


class Machine:
    """A process engine and a Docker, which outlive the controls."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.processes = FakeEngine()
        self.processes.mine = lambda server: not server.reference
        self.docker = FakeDocker()
        self.opened = 0
        self.cannot_open = ""

    def control(self, *, inside: bool = False, **settings: Any) -> Both:
        """Return what a new control has. `inside`: it is in a container."""
        source = EmbeddedSource(self.folder / "s3")
        cache = ArtifactCache(self.folder / "artifacts", source, 2**30, ArchiveLimits(10**9, 1000, 1000.0))
        rooms = Rooms(Settings(data=self.folder, images={COMMAND: ("true",)}, **settings), cache)

        async def open_docker() -> FakeDocker:
            self.opened += 1
            if self.cannot_open:
                raise EngineAway(self.cannot_open)
            (self.folder / house.FILE).touch()
            self.docker.connect(rooms)
            return self.docker

        return Both(self.processes.connect(rooms), rooms, open_docker, inside=inside)


@pytest.fixture
def machine(tmp_path: Path) -> Machine:
    return Machine(tmp_path)


def launch(*images: str, id: str = "i", has_artifact: bool = False) -> InstanceLaunch:
    containers = (
        ContainerLaunch(image, {}, False, has_artifact or image == OURS, f"group/{id}/{position}")
        for position, image in enumerate(images)
    )
    return InstanceLaunch(id, {"for": "a test"}, tuple(containers))


async def started(engine: Both, wanted: InstanceLaunch) -> InstanceReport:
    await engine.prepare(wanted)
    return await engine.start(wanted.id)


@contextlib.asynccontextmanager
async def preparing(engine: Both, wanted: InstanceLaunch) -> AsyncIterator[asyncio.Task[object]]:
    """Prepare an instance meanwhile."""
    task: asyncio.Task[object] = asyncio.create_task(engine.prepare(wanted))
    await asyncio.sleep(1.0)
    yield task
    task.cancel()
    await asyncio.wait({task})


async def listed(engine: Both) -> dict[str, InstanceReport]:
    return {report.id: report for report in await engine.list()}


def addresses(report: InstanceReport) -> list[str]:
    return [container.address for container in report.containers]


async def test_an_instance_may_have_containers_of_both_in_any_order(machine: Machine) -> None:
    engine = machine.control()
    assert len(await engine.prepare(launch(OURS, IMAGE, COMMAND))) == 3
    report = await engine.start("i")
    assert [(each.position, each.server.reference) for each in machine.docker.started] == [(1, IMAGE)]
    assert [each.position for each in machine.processes.started] == [0, 2]
    assert report == InstanceReport("i", {"for": "a test"}, report.containers)
    assert [container.image for container in report.containers] == ["", IMAGE, ""]
    assert addresses(report) == [f"unix:/nowhere/i.{position}" for position in range(3)]
    assert await engine.list() == [report]
    machine.docker.end("i.1", 7)
    (seen,) = await engine.list()
    assert [container.exit for container in seen.containers] == [None, 7, None]


async def test_what_is_asked_of_a_container_is_asked_of_the_part_that_has_it(machine: Machine) -> None:
    engine = machine.control()
    await started(engine, launch(OURS, IMAGE))
    for part, id in ((machine.processes, "i.0"), (machine.docker, "i.1")):
        part.text[id], part.bytes[id], part.processor[id] = f"output of {id}", len(id), 2.0
    assert await engine.logs("i", 0, 100) == "output of i.0"
    assert await engine.logs("i", 1, 100) == "output of i.1"
    assert (await engine.autopsy("i", 1, 100)).log == "output of i.1"
    assert [await engine.memory("i", position) for position in (0, 1)] == [3, 3]
    assert await engine.processor_time("i", 1) == 2.0
    await engine.kill("i", 1)
    (seen,) = await engine.list()
    assert [container.exit for container in seen.containers] == [None, -signal.SIGKILL]
    await engine.serving(["i"])
    assert machine.docker.in_service == machine.processes.in_service == {"i"}


async def test_a_stop_ends_both_and_leaves_no_folder(machine: Machine) -> None:
    engine = machine.control()
    await started(engine, launch(OURS, IMAGE))
    assert len([*(machine.folder / "containers").iterdir()]) == 2
    await engine.stop("i", 3)
    assert machine.docker.stopped == machine.processes.stopped == [("i", 3)]
    assert await engine.list() == []
    assert not [*(machine.folder / "containers").iterdir()]
    await engine.stop("never", 0)


async def test_docker_is_not_touched_before_the_first_image(machine: Machine) -> None:
    engine = machine.control()
    await started(engine, launch(OURS, COMMAND))
    await engine.list()
    await engine.stop("i", 0)
    await engine.sweep([])
    await engine.serving([])
    await engine.leave(0)
    assert machine.opened == 0
    await started(engine, launch(IMAGE))
    await started(engine, launch(IMAGE, id="j"))
    assert machine.opened == 1
    assert machine.docker.provided == [IMAGE, IMAGE]


async def test_an_image_that_is_being_pulled_is_listed_with_how_far_it_is(machine: Machine) -> None:
    engine = machine.control()
    machine.docker.pulled.clear()
    async with preparing(engine, launch(OURS, IMAGE)) as prepare:
        (seen,) = await engine.list()
        assert seen.trouble == f"pulling {IMAGE}: 45 %"
        assert seen.containers == (ContainerReport(), ContainerReport())
        machine.docker.pulled.set()
        await prepare
        log = engine._rooms.logs.path("group/i/1").read_text()
        assert log == f"hostler: pulling {IMAGE}: 45 %\nhostler: pulled {IMAGE}\n"
        assert await engine.list() == []
    assert (await engine.start("i")).trouble == ""


async def test_an_image_that_docker_cannot_have_is_replaced_by_our_server_with_one_warning(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = machine.control()
    machine.docker.missing[IMAGE] = "The image is nowhere."
    for id in ("i", "j"):
        report = await started(engine, launch(IMAGE, id=id, has_artifact=True))
        assert report.containers[0].ours
        log = engine._rooms.logs.path(f"group/{id}/0").read_text()
        assert log == "hostler: The image is nowhere. hostler's own server runs its model data instead.\n"
    assert [record.message for record in caplog.records] == [log.removeprefix("hostler: ").strip()]


@pytest.mark.parametrize("settings", [{"strict_images": True}, {}])
async def test_an_image_that_docker_cannot_have_and_nothing_can_replace_is_refused(
    machine: Machine, settings: dict[str, Any]
) -> None:
    engine = machine.control(**settings)
    machine.docker.missing[IMAGE] = "The image is nowhere."
    with pytest.raises(ImageMissing, match=r"The image is nowhere\. Nothing here .*under \[images\], "):
        await engine.prepare(launch(OURS, IMAGE, has_artifact=bool(settings)))
    assert not [*machine.folder.glob("containers/*")], "nothing was made of the other container either"


async def test_a_text_that_is_no_reference_never_reaches_docker(machine: Machine) -> None:
    engine = machine.control()
    with pytest.raises(ImageMissing, match="Bad//image is no reference to an image"):
        await engine.prepare(launch("Bad//image"))
    assert machine.opened == 0


async def test_without_docker_our_server_stands_in_or_the_reason_says_so(machine: Machine) -> None:
    machine.cannot_open = AWAY
    engine = machine.control()
    report = await started(engine, launch(IMAGE, has_artifact=True))
    assert report.containers[0].ours
    with pytest.raises(EngineAway, match=r"Docker cannot be reached.*no model data to serve.*under \[images\]"):
        await engine.prepare(launch(IMAGE, id="j"))
    assert not (machine.folder / house.FILE).exists()
    assert [report.id for report in await engine.list()] == ["i"]


async def test_nothing_stands_in_for_an_image_because_docker_is_away_for_a_moment(machine: Machine) -> None:
    engine = machine.control()
    await started(engine, launch(IMAGE, has_artifact=True))
    machine.docker.unreachable = AWAY
    with pytest.raises(EngineAway):
        await engine.prepare(launch(IMAGE, id="j", has_artifact=True))


async def test_with_the_setting_process_no_image_runs(machine: Machine) -> None:
    engine = machine.control(engine="process")
    assert (await started(engine, launch(IMAGE, has_artifact=True))).containers[0].ours
    with pytest.raises(EngineError, match="no model data to serve"):
        await engine.prepare(launch(IMAGE, id="j"))
    assert machine.opened == 0


async def test_with_the_setting_docker_our_servers_run_in_an_image_and_commands_do_not_run(machine: Machine) -> None:
    engine = machine.control(engine="docker", server_image="ours:1")
    report = await started(engine, launch(OURS, IMAGE))
    assert [(container.ours, container.image) for container in report.containers] == [(True, "ours:1"), (False, IMAGE)]
    assert machine.docker.provided == ["ours:1", IMAGE]
    assert not machine.processes.started
    with pytest.raises(EngineError, match='is a program of this machine, and engine = "docker" runs nothing outside'):
        await engine.prepare(launch(COMMAND, id="j"))
    machine.docker.missing["ours:1"] = "The image is nowhere."
    with pytest.raises(ImageMissing, match=r"The image is nowhere\. The setting server_image names it"):
        await engine.prepare(launch(OURS, id="k"))


@pytest.mark.parametrize(
    ("inside", "isolated", "missing", "in_docker"),
    [(True, True, False, True), (True, True, True, False), (True, False, False, False), (False, True, False, False)],
)
async def test_in_a_container_our_server_runs_in_docker_if_it_must_have_no_network_and_docker_has_its_image(
    machine: Machine, inside: bool, isolated: bool, missing: bool, in_docker: bool
) -> None:
    if missing:
        machine.docker.missing["ours:1"] = "There is no such image."
    engine = machine.control(inside=inside, server_image="ours:1")
    await started(engine, msgspec.structs.replace(launch(OURS), isolated=isolated))
    assert [each.server.reference for each in machine.docker.started] == ["ours:1"] * in_docker
    assert len(machine.processes.started) == (not in_docker)


async def test_what_a_container_runs_stays_as_an_earlier_control_decided_it(machine: Machine) -> None:
    machine.docker.missing[IMAGE] = "The image is nowhere."
    before = await started(machine.control(), launch(IMAGE, "registry.example/other", has_artifact=True))
    assert [container.ours for container in before.containers] == [True, False]
    machine.docker.missing.clear()
    engine = machine.control(engine="process")
    assert await engine.list() == [before]
    await engine.prepare(launch(IMAGE, "registry.example/other", has_artifact=True))
    assert await engine.start("i") == before
    assert len(machine.docker.started) == len(machine.processes.started) == 1


async def test_while_docker_is_away_its_containers_are_as_they_were_and_processes_are_listed(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = machine.control()
    mixed = await started(engine, launch(OURS, IMAGE))
    image = await started(engine, launch(IMAGE, id="j"))
    machine.docker.unreachable = AWAY
    assert await engine.list() == [mixed, image]
    machine.processes.end("i.0", 3)
    process = await started(engine, launch(OURS, id="k"))
    seen = await listed(engine)
    assert seen["i"].containers[0].exit == 3
    assert seen["i"].containers[1] == mixed.containers[1]
    assert (seen["j"], seen["k"]) == (image, process)
    with pytest.raises(EngineError, match="asleep"):
        await engine.stop("j", 0)
    await engine.stop("k", 0)
    assert len([record for record in caplog.records if "cannot be asked" in record.message]) == 1
    machine.docker.unreachable = ""
    machine.docker.end("j.0", 5)
    await engine.list()  # asks
    while (await listed(engine))["j"].containers[0].exit != 5:
        await engine.changed()


async def test_a_docker_that_hangs_keeps_nobody_waiting_twice(machine: Machine) -> None:
    engine = machine.control()
    image = await started(engine, launch(IMAGE))
    process = await started(engine, launch(OURS, id="j"))
    machine.docker.may_list.clear()
    assert await listed(engine) == {"i": image, "j": process}
    async with asyncio.timeout(last_list.PATIENCE / 2):
        for _ in range(10):
            assert len(await engine.list()) == 2
    late = await started(engine, launch(IMAGE, id="k"))
    await engine.stop("i", 0)
    machine.docker.may_list.set()  # the answer to the first question
    await engine.changed()
    assert await listed(engine) == {"j": process, "k": late}


async def test_a_new_control_waits_for_docker_for_some_seconds_and_then_serves_processes(machine: Machine) -> None:
    before = machine.control()
    await started(before, launch(OURS, id="j"))
    await started(before, launch(OURS, IMAGE))
    machine.cannot_open = AWAY
    engine = machine.control()
    with pytest.raises(EngineAway, match="asleep"):
        await engine.list()
    engine._listed = -both.RETURNS  # these seconds have passed
    assert addresses((await listed(engine))["i"]) == ["unix:/nowhere/i.0", ""]
    async with preparing(engine, launch(OURS, IMAGE)) as prepare:
        async with preparing(engine, launch(OURS, id="new")) as new:
            await new
        with pytest.raises(EngineAway):
            await engine.stop("i", 0)
        assert not prepare.done(), "Docker may run that already"
        assert (machine.folder / "containers" / "i.1").exists()
        machine.cannot_open = ""
        while "" in addresses((await listed(engine))["i"]):
            await engine.changed()
        await prepare
    assert len(machine.docker.started) == 1


async def test_after_a_kill_of_the_host_our_server_does_not_wait_for_a_docker_that_is_away(machine: Machine) -> None:
    await started(machine.control(), launch(OURS, id="ours"))
    await started(machine.control(), launch(IMAGE, id="theirs"))
    machine.processes = FakeEngine()  # its containers have ended with the host; their folders are there
    machine.processes.mine = lambda server: not server.reference
    machine.cannot_open = AWAY
    control = machine.control()
    assert (await started(control, launch(OURS, id="ours"))).containers[0].address
    async with preparing(control, launch(IMAGE, id="theirs")) as task:
        assert not task.done()


async def test_a_sweep_waits_until_docker_has_said_what_it_runs(machine: Machine) -> None:
    await started(machine.control(), launch(IMAGE))
    machine.cannot_open = AWAY
    engine = machine.control()
    engine._listed = -both.RETURNS
    await engine.list()
    sweep = asyncio.create_task(engine.sweep([]))
    await asyncio.sleep(1.0)
    assert not sweep.done()
    machine.cannot_open = ""
    await engine.list()
    await engine.changed()
    await engine.list()
    assert await sweep == ()
    assert [*(machine.folder / "containers").iterdir()]


async def test_a_late_answer_of_docker_is_a_change_only_if_there_may_be_news(
    machine: Machine, caplog: pytest.LogCaptureFixture
) -> None:
    engine = machine.control()
    image = await started(engine, launch(IMAGE))
    assert await engine.list() == [image]
    await engine.changed()
    machine.docker.may_list.clear()
    assert await engine.list() == [image]
    machine.docker.may_list.set()
    with pytest.raises(TimeoutError):
        await asyncio.wait_for(engine.changed(), 1.0)
    machine.docker.may_list.clear()
    for _ in range(2):
        assert await engine.list() == [image]
    machine.docker.may_list.set()
    await engine.changed()  # the second list was wanted after the question
    machine.docker.may_list.clear()
    assert await engine.list() == [image]
    machine.docker.end("i.0", 5)
    await engine.changed()
    machine.docker.may_list.set()
    await engine.changed()
    [late] = await engine.list()
    assert late.containers[0].exit == 5
    assert not [record for record in caplog.records if "Docker" in record.message], "it was asked, and has answered"


async def test_a_change_of_either_part_is_a_change(machine: Machine) -> None:
    engine = machine.control()
    await started(engine, launch(OURS, IMAGE))
    for part, id in ((machine.processes, "i.0"), (machine.docker, "i.1")):
        for _ in range(5):  # those of the start
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(engine.changed(), 1.0)
        changed = asyncio.create_task(engine.changed())
        await asyncio.sleep(1.0)
        assert not changed.done()
        part.end(id, 0)
        await changed


async def test_the_house_leaves_docker_and_its_connections_are_closed(machine: Machine) -> None:
    engine = machine.control()
    await started(engine, launch(IMAGE))
    await engine.leave(1)
    await engine.close()
    assert machine.docker.closed
