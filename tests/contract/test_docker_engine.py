"""What the Docker engine alone promises: networks, exits, rooms, logs, and to bear a Docker that does not answer."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import msgspec
import pytest
from stages import DockerStage, exited, playing, seen, started

import deep_folder
import docker_rig
from hostler.engines.docker.engine import DockerEngine
from hostler.engines.docker.inside import Site
from hostler.engines.docker.remover import Remover
from hostler.engines.engine import Engine, InstanceLaunch
from hostler.engines.house import open_house
from hostler.engines.images import Server
from hostler.errors import EngineAway, EngineError

pytestmark = pytest.mark.docker

SLEEP = {"SCRIPT": "exec sleep 1000"}


@pytest.fixture(scope="module")
def script() -> str:
    return docker_rig.image("script")


@pytest.fixture
def make(tmp_path: Path, script: str) -> Iterator[Callable[..., DockerStage]]:
    """Return a stage whose containers run the shell script in their variable SCRIPT. Arguments: settings."""
    stages = []

    def new(folder: str = "data", **settings: object) -> DockerStage:
        (tmp_path / folder).mkdir()
        stages.append(DockerStage(tmp_path / folder, script, **settings))
        return stages[-1]

    yield new
    for stage in stages:
        stage.end()


def inside(stage: DockerStage, id: str, *words: str) -> str:
    """Run a command in a container; return its output."""
    return docker_rig.docker("exec", stage.name(id), *words)


def named(launch: InstanceLaunch, *names: str) -> InstanceLaunch:
    """Return a launch whose containers have these hostnames."""
    pairs = zip(launch.containers, names, strict=True)
    containers = [msgspec.structs.replace(container, hostname=name) for container, name in pairs]
    return msgspec.structs.replace(launch, containers=tuple(containers))


async def says(engine: Engine, id: str, position: int, words: str) -> None:
    """Return once a container has written these words."""
    while True:
        if words in await engine.logs(id, position, 2**20):
            return
        await asyncio.sleep(0.05)


def test_the_containers_of_an_instance_reach_each_other_by_name_and_other_instances_by_no_way(
    make: Callable[..., DockerStage],
) -> None:
    stage = make()
    serve = {"SCRIPT": "exec python3 -m http.server --directory /bin $SAGEMAKER_BIND_TO_PORT"}
    names = ("first", "second", "third-one")

    reach = (
        "import socket, sys, time\n"
        "def connect(place):\n"
        "    host, port = place.split(':')\n"
        "    while True:\n"
        "        try:\n"
        "            return socket.create_connection((host, int(port)), 1)\n"
        "        except ConnectionRefusedError:\n"
        "            time.sleep(0.1)\n"
        "for place in sys.argv[1:]: connect(place)\n"
    )

    async def play(engine: Engine) -> None:
        await started(engine, named(stage.launch("three", serve, serve, serve), *names))
        address = (await started(engine, named(stage.launch("other", serve), "other"))).containers[0].address
        places = [f"{name}:{8080 + position}" for position, name in enumerate(names)]
        for position in (0, 2):
            await asyncio.to_thread(inside, stage, f"three.{position}", "python3", "-c", reach, *places)
        assert inside(stage, "three.0", "hostname") == "first\n"
        for place in (address.removeprefix("tcp:"), "other:8080"):
            with pytest.raises(AssertionError, match=r"timed out|not known|resolution"):
                await asyncio.to_thread(inside, stage, "three.0", "python3", "-c", reach, place)

    playing(stage, play)


def test_each_container_ends_in_its_own_way(make: Callable[..., DockerStage]) -> None:
    stage = make(limits=True, instance_memory=64 * 2**20)
    eat = "python3 -c 'held = [bytearray(2**20) for _ in range(1000)]'; exit $?"

    async def play(engine: Engine) -> None:
        scripts = ("exec sleep 1000", "exit 7", "kill -9 $$", "kill -TERM $$", eat)
        launch = stage.launch("ends", *({"SCRIPT": script} for script in scripts))
        await started(engine, msgspec.structs.replace(launch, type="ml.m5.large"))
        exits = [(await exited(engine, "ends", position)) for position in range(1, 5)]
        assert [each.exit for each in exits] == [7, -signal.SIGKILL, -signal.SIGTERM, -signal.SIGKILL]
        assert [each.oom for each in exits] == [False, False, False, True]
        assert all(each.address for each in exits)
        assert (await seen(engine, "ends")).containers[0].exit is None
        assert (await engine.autopsy("ends", 4, 1000)).limit == 64 * 2**20

    playing(stage, play)


def test_the_first_containers_end_is_told_from_that_of_those_which_share_its_network(
    make: Callable[..., DockerStage],
) -> None:
    stage = make()

    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("late", {"SCRIPT": "sleep 0.5; exit 3"}, SLEEP))
        assert (await exited(engine, "late", 0)).exit == 3
        report = await seen(engine, "late")
        assert report.containers[0].address
        assert (report.containers[1].exit, bool(report.containers[1].address)) == (None, True)
        await engine.stop("late", 0)
        for attempt in range(3):  # it may end before the others are started
            id = f"soon{attempt}"
            report = await started(engine, stage.launch(id, {"SCRIPT": "exit 3"}, SLEEP, SLEEP))
            assert all(container.address for container in report.containers)
            assert (await exited(engine, id, 0)).exit == 3
            assert [container.exit for container in (await seen(engine, id)).containers] == [3, None, None]
            await engine.stop(id, 0)
        assert await engine.list() == []

    playing(stage, play)


def test_two_houses_on_one_docker_never_see_each_other(make: Callable[..., DockerStage]) -> None:
    stage, other = make("one"), make("two")

    async def play(engine: Engine) -> None:
        neighbour = other.engine()
        first = await started(engine, stage.launch("same", SLEEP))
        assert await neighbour.list() == []
        second = await started(neighbour, other.launch("same", SLEEP))
        assert (await engine.list(), await neighbour.list()) == ([first], [second])
        await neighbour.stop("same", 0)
        await neighbour.sweep([])
        await neighbour.leave(0)
        assert await engine.list() == [first]
        await other.close()

    playing(stage, play)


@pytest.mark.usefixtures("umask_of_hostler")
def test_a_container_of_any_user_reads_its_model_and_writes_beside_it_and_the_shared_artifact_stays_as_it_was(
    make: Callable[..., DockerStage],
) -> None:
    stage = make()
    write = "date > /opt/ml/model/beside && mkdir /opt/ml/model/__pycache__ && date > /opt/ml/more && echo written"
    write = f"grep -q model /opt/ml/model/model.bin && {write}"
    somebody = {"SCRIPT": f"setpriv --reuid 1234 --regid 1234 --clear-groups sh -c '{write}'; sleep 1000"}
    root = {"SCRIPT": f"{write}; date > /opt/ml/model/model.bin; sleep 1000"}

    async def play(engine: Engine) -> None:
        stage.put("box", "one")
        storages = await engine.prepare(stage.launch("writers", somebody, root))
        for storage in storages:
            assert (await storage.fetch_folder("model", "box", "one")).shown == "/opt/ml/model"
        await engine.start("writers")
        await says(engine, "writers", 0, "written")
        await says(engine, "writers", 1, "written")
        (cached,) = (stage.data / "artifacts").glob("*/model")
        assert [path.name for path in cached.iterdir()] == ["model.bin"]
        assert (cached / "model.bin").read_bytes() == b"model"
        await engine.stop("writers", 0)
        assert not [*(stage.data / "containers").glob("*")]

    playing(stage, play)


def test_a_server_of_hostlers_reads_the_shared_artifacts_and_writes_to_its_folder_alone(
    make: Callable[..., DockerStage], script: str
) -> None:
    stage = make()
    stage.server, stage.ours = Server("script", reference=script), True
    tries = (
        "for path in / /usr /tmp /opt/ml $HOSTLER_ARTIFACTS; do touch $path/a 2>/dev/null && echo writes $path; done"
    )
    look = {"SCRIPT": f"{tries}; cat $HOSTLER_ARTIFACTS/*/model/model.bin; echo; id -u; exec sleep 1000"}

    async def play(engine: Engine) -> None:
        stage.put("box", "one")
        (storage,) = await engine.prepare(stage.launch("ours", look, multi_model=True))
        await storage.fetch("0123", "one", "box", "one")
        report = await engine.start("ours")
        assert report.containers[0].ours
        await says(engine, "ours", 0, f"\n{os.geteuid()}\n")
        ran, *lines = (await engine.logs("ours", 0, 1000)).splitlines()
        assert ran.startswith("hostler: Docker runs ")
        assert lines == ["writes /tmp", "writes /opt/ml", "model", f"{os.geteuid()}"]

    playing(stage, play)


async def test_what_another_user_has_left_is_removed_by_a_container_of_hostlers_own(
    tmp_path: Path, make: Callable[..., DockerStage], caplog: pytest.LogCaptureFixture
) -> None:
    stage = make()
    (stage.data / "containers" / "left.0" / "theirs").mkdir(parents=True)
    (stage.data / "containers" / "left.0" / "theirs" / "file").touch()
    deep_folder.make(stage.data / "containers" / "left.0" / "deep")
    (stage.data / "containers" / "kept.0").mkdir()
    engine = stage.engine()
    remover = Remover(engine._docker, open_house(stage.data), Site(user="0:0"))
    await remover.remove(stage.data / "containers", ["left.0"])
    assert [path.name for path in (stage.data / "containers").iterdir()] == ["kept.0"]
    await remover.remove(stage.data / "containers", ["not-there.0"])
    assert "not-there.0 in the data folder's `containers` cannot be removed" in caplog.text
    mine = f"label=hostler.house={open_house(stage.data).id}"
    assert docker_rig.docker("ps", "--all", "--quiet", "--filter", mine) == ""
    await stage.close()


# --- logs -------------------------------------------------------------------------------------------------------------


def test_the_log_has_every_byte_once_whatever_ends_meanwhile(make: Callable[..., DockerStage]) -> None:
    """1. Control ends, three times. 2. Docker's stream breaks, three times. 3. Nobody listens when the container ends.

    Docker itself keeps text: a byte that is none becomes U+FFFD.
    """
    stage = make()
    lines = "".join(f"line {n}\n" for n in range(4000))
    count = (
        "python3 -c 'import os, time\n"
        'for n in range(4000):\n    os.write(1 + n % 2, b"line %d\\n" % n)\n    n % 20 or time.sleep(0.01)\n\'; '
        "printf '\\377no text\\0'; head -c 100000 /dev/zero | tr '\\0' x"
    )
    expected = lines.encode() + "\ufffdno text\0".encode() + b"x" * 100_000

    async def play(engine: Engine) -> None:
        await started(engine, stage.launch("talks", {"SCRIPT": count}))
        path = stage.rooms().logs.path("group/talks/0")

        async def grows() -> None:
            size = path.stat().st_size
            while True:
                if path.stat().st_size > size:
                    return
                await asyncio.sleep(0.01)

        for _ in range(3):  # 1.
            await grows()
            await stage.close()
            engine = stage.engine()
            await engine.list()
        for _ in range(3):  # 2.
            await grows()
            stage.proxy.leave()
            stage.proxy.come_back()
        await grows()
        await stage.close()  # 3.
        await asyncio.to_thread(docker_rig.docker, "wait", stage.name("talks.0"))
        engine = stage.engine()
        await exited(engine, "talks", 0)
        await engine.stop("talks", 0)
        ran, _, written = path.read_bytes().partition(b"\n")
        assert ran.startswith(b"hostler: Docker runs ")
        assert sorted(written.split(b"\n")) == sorted(expected.split(b"\n"))
        assert not path.with_suffix(".mark").exists()

    playing(stage, play)


# --- a Docker that does not answer ------------------------------------------------------------------------------------

Call = Callable[[DockerEngine, DockerStage], Awaitable[object]]
CALLS: dict[str, Call] = {
    "list": lambda engine, _: engine.list(),
    "start": lambda engine, _: engine.start("new"),
    "stop": lambda engine, _: engine.stop("old", 1),
    "kill": lambda engine, _: engine.kill("old", 0),
    "sweep": lambda engine, _: engine.sweep([]),
    "leave": lambda engine, _: engine.leave(1),
}


@pytest.mark.parametrize("fault", ["leaves", pytest.param("hangs", marks=pytest.mark.slow)])
@pytest.mark.parametrize("call", CALLS)
def test_a_call_to_a_docker_that_is_away_fails_and_succeeds_once_it_is_back(
    make: Callable[..., DockerStage], call: str, fault: str
) -> None:
    stage = make()

    async def play(engine: Engine) -> None:
        assert isinstance(engine, DockerEngine)
        await started(engine, stage.launch("old", SLEEP))
        await engine.prepare(stage.launch("new", SLEEP))
        if fault == "hangs":
            stage.proxy.hang()
        else:
            stage.proxy.leave()
        with pytest.raises(EngineAway):
            await asyncio.wait_for(CALLS[call](engine, stage), 60)
        if fault == "hangs":
            stage.proxy.resume()
        else:
            stage.proxy.come_back()
        await CALLS[call](engine, stage)
        assert {report.id for report in await engine.list()} <= {"old", "new"}

    playing(stage, play)


@pytest.mark.slow
def test_a_start_during_which_docker_dies_is_whole_when_it_is_repeated_and_leaves_nothing_when_it_is_not(
    make: Callable[..., DockerStage],
) -> None:
    stage = make()

    async def play(engine: Engine) -> None:
        for turn in range(12):
            id = f"turn{turn}"
            await engine.prepare(stage.launch(id, SLEEP, SLEEP))
            start = asyncio.ensure_future(engine.start(id))
            await asyncio.sleep(0.05 * turn)
            stage.proxy.leave()
            (outcome,) = await asyncio.gather(start, return_exceptions=True)
            assert not isinstance(outcome, BaseException) or isinstance(outcome, EngineError)
            stage.proxy.come_back()
            if turn % 2:
                report = await engine.start(id)
                assert all(container.address and container.exit is None for container in report.containers)
            await engine.stop(id, 0)
            assert await engine.list() == []
        mine = f"label=hostler.house={open_house(stage.data).id}"
        while docker_rig.docker("ps", "--all", "--quiet", "--filter", mine):  # Docker may yet create the last one
            assert await engine.list() == []

    playing(stage, play)
