"""What every engine promises, asked of each: the fake one, and a real host with forked and executed containers."""

from __future__ import annotations

import asyncio
import sys
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path

import pytest

sys.path.insert(0, str(Path(__file__).parents[1] / "containers"))
from hosts import Host, hosting, none_of, until
from standins import DESCENDANTS

from hostler.engines.engine import Engine, Launch, Seen
from hostler.engines.fake import FakeEngine
from hostler.engines.process import ProcessEngine
from hostler.errors import EngineError
from hostler.processes.tree import descendants


class FakeStage:
    """The fake engine has no processes: what a container would do is done to it."""

    def __init__(self) -> None:
        self._engine = FakeEngine()

    def engine(self) -> Engine:
        return self._engine

    def launch(self, id: str, **environment: str) -> Launch:
        if "STANDIN_EXIT" in environment:
            self._engine.exits = int(environment["STANDIN_EXIT"])
        self._engine.text[f"{id}.log"] = "a stand-in speaks\n"
        self._engine.bytes[1_000_001] = 10 * 2**20
        self._engine.ports[1_000_001] = (8080,)
        return Launch(id, f"/nowhere/{id}", f"{id}.log", environment, {"for": "a test"}, framework="script")

    def family(self, seen: Seen) -> set[int]:
        return {seen.pid}


class ProcessStage:
    """The process engine over a real host, which outlives the engines that a test connects to it."""

    def __init__(self, host: Host, kind: str, address: str) -> None:
        self._host = host
        self._kind = kind
        self.address = address

    def engine(self) -> Engine:
        return ProcessEngine(self._host.run)

    def launch(self, id: str, **environment: str) -> Launch:
        return self._host.launch(id, self._kind, **environment)

    def family(self, seen: Seen) -> set[int]:
        """The container and everything below it, once all of it is there."""
        ready = self._host.data / "containers" / seen.id / "environment"
        until(f"{seen.id} is up", ready.exists)
        found = {seen.pid, *descendants(seen.pid)}
        assert len(found) > DESCENDANTS
        return found


Stage = FakeStage | ProcessStage


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


@pytest.fixture(params=["fake", "forked", "supervised", "bubblewrap"])
def stage(request: pytest.FixtureRequest, host: Callable[[str], Host], require: Callable[..., None]) -> Stage:
    if request.param == "fake":
        return FakeStage()
    if request.param == "forked":
        return ProcessStage(host("off"), "forked", "unix:/")
    if request.param == "bubblewrap":
        require("bwrap")
    return ProcessStage(host("on" if request.param == "bubblewrap" else "off"), "executed", "tcp:127.0.0.1:")


def playing(stage: Stage, play: Callable[[Engine], Awaitable[None]]) -> None:
    """Run one test on an engine, and stop what it left."""

    async def run() -> None:
        engine = stage.engine()
        try:
            await play(engine)
        finally:
            for seen in await engine.list():
                await engine.stop(seen.id, 0)
            await closed(engine)

    asyncio.run(asyncio.wait_for(run(), 60))


async def closed(engine: Engine) -> None:
    if isinstance(engine, ProcessEngine):
        engine.close()
        await asyncio.sleep(0)


async def one(engine: Engine, id: str) -> Seen:
    return next(seen for seen in await engine.list() if seen.id == id)


async def exited(engine: Engine, id: str) -> Seen:
    while (seen := await one(engine, id)).exit is None:
        await engine.changed()
    return seen


def test_a_started_container_is_listed_with_all_that_control_needs(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        launch = stage.launch("listed")
        await engine.start(launch)
        seen = await one(engine, "listed")
        assert seen.labels == {"for": "a test"}
        assert seen.exit is None
        assert seen.pid > 1
        assert seen.base in (launch.folder, "/opt/ml")
        assert seen.address.startswith(stage.address if isinstance(stage, ProcessStage) else "unix:/")

    playing(stage, play)


def test_starting_an_id_twice_starts_one_container(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        launch = stage.launch("twice")
        await asyncio.gather(engine.start(launch), engine.start(launch))
        before = await one(engine, "twice")
        await engine.start(launch)
        assert [seen for seen in await engine.list() if seen.id == "twice"] == [before]

    playing(stage, play)


def test_an_exit_is_seen_with_its_code_until_the_container_is_stopped(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        launch = stage.launch("short", STANDIN_EXIT="7")
        await engine.start(launch)
        assert (await exited(engine, "short")).exit == 7
        await engine.start(launch)
        assert (await one(engine, "short")).exit == 7
        await engine.stop("short", 0)
        assert await engine.list() == []

    playing(stage, play)


def test_a_stopped_container_is_forgotten_and_nothing_of_it_runs(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await engine.start(stage.launch("family"))
        family = stage.family(await one(engine, "family"))
        await engine.stop("family", 30)
        assert none_of(family)
        assert await engine.list() == []

    playing(stage, play)


def test_a_container_that_ignores_sigterm_is_killed_after_its_grace(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await engine.start(stage.launch("stubborn", STANDIN_STUBBORN="1"))
        family = stage.family(await one(engine, "stubborn"))
        await engine.stop("stubborn", 0.05)
        assert none_of(family)

    playing(stage, play)


def test_stopping_twice_at_once_and_stopping_the_unknown_are_no_errors(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await engine.start(stage.launch("once"))
        await asyncio.gather(engine.stop("once", 5), engine.stop("once", 5))
        await engine.stop("never", 5)
        assert await engine.list() == []

    playing(stage, play)


def test_an_id_can_be_started_again_after_it_was_stopped(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        launch = stage.launch("again")
        await engine.start(launch)
        first = (await one(engine, "again")).pid
        await engine.stop("again", 5)
        await engine.start(launch)
        assert (await one(engine, "again")).pid != first

    playing(stage, play)


def test_a_new_client_lists_the_containers_that_an_earlier_one_started(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await engine.start(stage.launch("kept"))
        before = await engine.list()
        await closed(engine)
        second = stage.engine()
        assert await second.list() == before
        await closed(second)
        assert await engine.list() == before

    playing(stage, play)


def test_changes_are_reported_when_a_container_starts_and_when_it_ends(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await engine.list()
        await engine.start(stage.launch("news"))
        await asyncio.wait_for(engine.changed(), 20)
        await engine.stop("news", 5)
        await asyncio.wait_for(engine.changed(), 20)

    playing(stage, play)


def test_the_log_is_read_from_its_end_and_a_missing_one_is_empty(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        launch = stage.launch("talker", STANDIN_EXIT="0")
        await engine.start(launch)
        await exited(engine, "talker")
        assert engine.logs(launch.log, 1000).endswith("a stand-in speaks\n")
        assert engine.logs(launch.log, 7) == "speaks\n"
        assert engine.logs(launch.log + ".not", 1000) == ""

    playing(stage, play)


def test_memory_counts_the_whole_tree_and_is_zero_after_its_end(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await engine.start(stage.launch("eater"))
        seen = await one(engine, "eater")
        stage.family(seen)
        assert engine.memory(seen.pid) > 2**20
        assert engine.memory(2**22 + 1) == 0

    playing(stage, play)


def test_all_ports_on_which_a_container_listens_are_listed(stage: Stage) -> None:
    async def play(engine: Engine) -> None:
        await engine.start(stage.launch("listener"))
        seen = await one(engine, "listener")
        stage.family(seen)
        told = int(seen.address.rpartition(":")[2]) if seen.address.startswith("tcp:") else None
        expected = (8080,) if isinstance(stage, FakeStage) else (told,) if told else ()
        until("it listens", lambda: engine.listening(seen.pid) == expected)
        assert engine.listening(2**22 + 1) == ()

    playing(stage, play)


def test_a_container_under_bubblewrap_has_the_hostname_that_its_environment_says(
    host: Callable[[str], Host], require: Callable[..., None]
) -> None:
    require("bwrap")
    stage = ProcessStage(host("on"), "executed", "tcp:127.0.0.1:")

    async def play(engine: Engine) -> None:
        launch = stage.launch("named", HOSTNAME="secondContainer", STANDIN_NAME="1")
        await engine.start(launch)
        stage.family(await one(engine, "named"))
        assert "is secondContainer at 127.0.0.1" in engine.logs(launch.log, 1000)

    playing(stage, play)


def test_a_container_that_cannot_be_started_is_refused_and_leaves_nothing(stage: Stage) -> None:
    if isinstance(stage, FakeStage):
        pytest.skip("the fake engine starts anything")

    async def play(engine: Engine) -> None:
        good = stage.launch("bad")
        for launch in (
            Launch("../bad", good.folder, good.log, {}, {}, framework="script"),
            Launch("bad", good.folder, good.log, {}, {}),
            Launch("bad", good.folder, good.log, {}, {}, framework="script", command=("true",)),
            Launch("bad", good.folder + "/not", good.log, {}, {}, framework=good.framework, command=good.command),
            Launch("bad", good.folder, good.log, {"A=B": ""}, {}, framework=good.framework, command=good.command),
            Launch("bad", good.folder, good.log, {"A": "\0"}, {}, framework=good.framework, command=good.command),
        ):
            with pytest.raises(EngineError, match=r"."):
                await engine.start(launch)
        assert await engine.list() == []

    playing(stage, play)


def test_the_fake_engine_refuses_and_ends_containers_on_request() -> None:
    async def play() -> None:
        engine = FakeEngine()
        launch = Launch("one", "/nowhere", "log", {}, {}, framework="script")
        engine.refuse = "no room"
        with pytest.raises(EngineError, match="no room"):
            await engine.start(launch)
        engine.refuse = ""
        engine.address = lambda launch: f"tcp:127.0.0.1:{len(launch.id)}"
        await engine.start(launch)
        engine.end("one", -9)
        assert [(seen.address, seen.exit) for seen in await engine.list()] == [("tcp:127.0.0.1:3", -9)]

    asyncio.run(play())
