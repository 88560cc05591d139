"""`hostler agent` as a process: it brings artifacts through control, keeps them over its death, answers its page."""

from __future__ import annotations

import asyncio
import contextlib
import os
import shutil
import signal
from pathlib import Path

import msgspec
import pytest
import uvicorn

import agents
from agents import cell
from certificates import CertificateAuthority
from hostler.core.targets.placed import Placed
from hostler.engines.kubernetes.remote_storage import RemoteStorage
from hostler.errors import ArtifactBad, ArtifactMissing, ArtifactUnchanged, DiskFull, StorageUnavailable
from hostler.s3.app import s3_app
from hostler.wire.agent_messages import ContainerRoom
from packing import LIMITS, CountingSource, archive
from small_disk import small_disk

FOREIGN = ContainerRoom(ours=False, multi_model=True)
SCRIPTS = ContainerRoom(ours=True, multi_model=True, scripts=True)
SINGLE = ContainerRoom(ours=True)


@pytest.fixture
def source(tmp_path: Path) -> CountingSource:
    (tmp_path / "s3" / "bucket").mkdir(parents=True)
    return CountingSource(tmp_path / "s3")


def put(tmp_path: Path, key: str, **files: bytes) -> None:
    path = tmp_path / "s3" / "bucket" / key
    path.parent.mkdir(parents=True, exist_ok=True)
    (tmp_path / "new").write_bytes(archive(**files))
    os.replace(tmp_path / "new", path)


async def fetch(storage: RemoteStorage, name: str, failed: str = "") -> Placed:
    return await storage.fetch(f"id-{name}", name, "bucket", name, failed)


def content(placed: Placed, name: str = "model") -> bytes:
    return (Path(placed.shown) / name).read_bytes()


async def test_targets_come_through_control_and_leave(tmp_path: Path, source: CountingSource) -> None:
    put(tmp_path, "m ü?.tar.gz", model=b"one")
    async with cell(tmp_path, source) as (control, agent):
        (storage,) = await control.linked(agent)
        placed = await fetch(storage, "m ü?.tar.gz")
        assert content(placed) == b"one"
        assert (placed.bucket, placed.key, placed.size) == ("bucket", "m ü?.tar.gz", 3)
        assert Path(placed.shown).is_relative_to(agent.folder)
        await storage.discard(placed.model_id)
        assert await storage.known(()) == {}
        again = await fetch(storage, "m ü?.tar.gz")
        assert (again.shown, again.download, source.opened) == (placed.shown, 0.0, 1)
        await storage.discard(placed.model_id, forget=True)
        assert not list((agent.folder / "a0").glob("?" * 32))


async def test_links_and_objects_may_come_over_tls(tmp_path: Path, source: CountingSource) -> None:
    put(tmp_path, "m.tar.gz", model=os.urandom(3_000_000))
    certificates = CertificateAuthority().issue(tmp_path / "certificates", "127.0.0.1")
    async with cell(tmp_path, source, certificates=certificates) as (control, agent):
        (storage,) = await control.linked(agent)
        assert (await fetch(storage, "m.tar.gz")).size == 3_000_000
        await agent.end()
        other = CertificateAuthority().issue(tmp_path / "other", "127.0.0.1")
        shutil.copy(other / "ca.crt", certificates / "ca.crt")  # by which the agent judges control
        await agent.start()
        await agents.until(lambda: b"certificate verify failed" in agent.log.read_bytes())
        assert not control.links.linked(agent.instance)


@pytest.mark.parametrize(("isolated", "via", "by_control"), [
    (False, "auto", False), (True, "auto", True), (True, "s3", False), (False, "control", True),
])  # fmt: skip
async def test_an_agent_fetches_from_s3_itself_unless_it_may_not(
    tmp_path: Path, source: CountingSource, isolated: bool, via: str, by_control: bool
) -> None:
    put(tmp_path, "m.tar.gz", model=b"one")
    put(tmp_path, "n.tar.gz", model=b"two")
    s3 = uvicorn.Server(uvicorn.Config(s3_app(tmp_path / "s3"), port=0, log_config=None, lifespan="off"))
    serving = asyncio.create_task(s3._serve())
    while not s3.started:  # noqa: ASYNC110 - uvicorn has no event
        await asyncio.sleep(0.005)
    endpoint = f"http://127.0.0.1:{s3.servers[0].sockets[0].getsockname()[1]}"
    async with cell(tmp_path, source, s3_endpoint=endpoint, artifacts_via=via) as (control, agent):
        (storage,) = await control.linked(agent, isolated=isolated)
        assert content(await fetch(storage, "m.tar.gz")) == b"one"
        await storage.fetch_folder("all", "bucket", "", "prefix")
        assert sorted(path.name for path in (agent.folder / "c0" / "all").iterdir()) == ["m.tar.gz", "n.tar.gz"]
        assert (source.requests > 0) is by_control
    s3.should_exit = True
    await serving


async def test_what_is_no_target_is_placed_in_each_form(tmp_path: Path, source: CountingSource) -> None:
    put(tmp_path, "pre/m.tar.gz", model=b"one")
    async with cell(tmp_path, source) as (control, agent):
        storage, _ = await control.linked(agent, SINGLE, FOREIGN)
        placed = await storage.fetch_folder("model", "bucket", "pre/m.tar.gz")
        assert (agent.folder / "c0" / "model" / "model").read_bytes() == b"one"
        assert placed.model_id == "model"
        await storage.fetch_folder("additional-model-data-sources/all", "bucket", "pre/", "prefix")
        assert (agent.folder / "c0" / "additional-model-data-sources" / "all" / "m.tar.gz").is_file()


@pytest.mark.parametrize(
    ("key", "kind"), [("none.tar.gz", ArtifactMissing), ("bad.tar.gz", ArtifactBad), ("big.tar.gz", ArtifactBad)]
)
async def test_a_failure_is_told_as_it_is_on_one_machine(
    tmp_path: Path, source: CountingSource, key: str, kind: type[Exception]
) -> None:
    (tmp_path / "s3" / "bucket" / "bad.tar.gz").write_bytes(b"no archive")
    put(tmp_path, "big.tar.gz", model=b"x" * 2_000_000)
    async with cell(tmp_path, source, archive_max_bytes=LIMITS.bytes) as (control, agent):
        (storage,) = await control.linked(agent)
        with pytest.raises(kind) as raised:
            await fetch(storage, key)
        assert str(agent.folder) not in str(raised.value)


async def test_a_version_that_failed_does_not_come_back(tmp_path: Path, source: CountingSource) -> None:
    put(tmp_path, "m.tar.gz", model=b"one")
    async with cell(tmp_path, source) as (control, agent):
        (storage,) = await control.linked(agent)
        placed = await fetch(storage, "m.tar.gz")
        await storage.discard(placed.model_id, failed=True)
        with pytest.raises(ArtifactUnchanged):
            await fetch(storage, "m.tar.gz", placed.version)
        put(tmp_path, "m.tar.gz", model=b"two")
        assert content(await fetch(storage, "m.tar.gz", placed.version)) == b"two"


@pytest.mark.parametrize("kills", [4, pytest.param(20, marks=pytest.mark.slow)])
async def test_a_killed_agent_finds_all_again_and_nothing_is_brought_twice(
    tmp_path: Path, source: CountingSource, kills: int
) -> None:
    names = [f"m{n}.tar.gz" for n in range(kills)]
    for name in names:
        put(tmp_path, name, model=name.encode())
    async with cell(tmp_path, source) as (control, agent):
        (storage,) = await control.linked(agent)
        control.links.go(agent.instance)
        await agent.until("/started", 200)
        for count, name in enumerate(names, 1):
            before, while_idle = source.opened, count % 2
            fetching = asyncio.create_task(fetch(storage, name))
            if while_idle:
                await fetching
            await agent.end()
            await agent.start()
            placed = await fetching
            assert content(placed) == name.encode()
            assert len(await storage.known([f"id-{name}" for name in names])) == count
            assert source.opened == before + 1 or not while_idle  # what came in part begins again
        await agent.until("/started", 200)  # without another word of control's
        assert len(list((agent.folder / "a0").glob("?" * 32))) == len(names)


async def test_a_measured_memory_is_known_after_the_agents_death(tmp_path: Path, source: CountingSource) -> None:
    put(tmp_path, "m.tar.gz", model=b"one")
    async with cell(tmp_path, source) as (control, agent):
        (storage,) = await control.linked(agent)
        placed = await fetch(storage, "m.tar.gz")
        await storage.remember(placed.model_id, 4711)
        await agents.until(lambda: bool(list((agent.folder / "a0").glob("*/memory"))))
        await agent.end()
        await agent.start()
        assert (await fetch(storage, "m.tar.gz")).memory == 4711


async def test_artifacts_in_use_are_not_evicted_after_the_agents_death(tmp_path: Path, source: CountingSource) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path, f"{name}.tar.gz", model=name.encode() * 1000)
    async with cell(tmp_path, source, disk_budget=2500) as (control, agent):
        (storage,) = await control.linked(agent)
        used = [await fetch(storage, "a.tar.gz"), await fetch(storage, "b.tar.gz")]
        await agent.end()
        await agent.start()
        with pytest.raises(DiskFull):
            await fetch(storage, "c.tar.gz")
        assert [content(placed)[:1] for placed in used] == [b"a", b"b"]
        await storage.discard(used[0].model_id)
        assert content(await fetch(storage, "c.tar.gz"))[:1] == b"c"


async def test_a_new_control_takes_over_what_is_in_place(tmp_path: Path, source: CountingSource) -> None:
    put(tmp_path, "m.tar.gz", model=b"one")
    async with cell(tmp_path, source) as (control, agent):
        (storage,) = await control.linked(agent)
        placed = await fetch(storage, "m.tar.gz")
        control.links.serving({agent.instance})
        await agent.until("/serving", 200)
        await control.close()
        assert await agent.page("/serving") == 200
        control.term = 2
        await control.open()
        (storage,) = await control.linked(agent)
        assert await agent.page("/serving") == 200  # the new control has not said otherwise
        assert await storage.known([placed.model_id]) == {placed.model_id: placed_again(placed)}


def placed_again(placed: Placed) -> Placed:
    """The same, as it is known again: nothing was brought."""
    return msgspec.structs.replace(placed, download=0.0, extract=0.0)


async def test_a_control_of_a_lower_term_is_not_heard(tmp_path: Path, source: CountingSource) -> None:
    async with cell(tmp_path, source) as (control, agent):
        control.links.expect(agent.instance, (agents.OURS,))
        await control.linked(agent)
        await control.close()
        control.term = 0
        await control.open()
        control.links.expect(agent.instance, (agents.OURS,))
        control.links.go(agent.instance)
        await agents.until(lambda: b"term 0" in agent.log.read_bytes())
        assert await agent.page("/started") == 503
        await agent.end()  # another one remembers it
        await agent.start()
        await agents.until(lambda: agent.log.read_bytes().count(b"term 0") > 2)
        assert await agent.page("/started") == 503


async def test_sigterm_ends_an_agent_and_another_one_goes_on(tmp_path: Path, source: CountingSource) -> None:
    put(tmp_path, "m.tar.gz", model=b"one")
    async with cell(tmp_path, source) as (control, agent):
        (storage,) = await control.linked(agent)
        source.gate.clear()
        fetching = asyncio.create_task(fetch(storage, "m.tar.gz"))
        await agents.until(lambda: source.requests > 0)
        assert await agent.end(signal.SIGTERM) == 0
        source.gate.set()
        await agent.start()
        assert content(await fetching) == b"one"


async def test_a_container_that_writes_over_its_copy_harms_no_other(tmp_path: Path, source: CountingSource) -> None:
    put(tmp_path, "m.tar.gz", model=b"one")
    async with cell(tmp_path, source) as (control, agent):
        (storage,) = await control.linked(agent, FOREIGN)
        placed = await fetch(storage, "m.tar.gz")
        (Path(placed.shown) / "model").write_bytes(b"other")
        (Path(placed.shown) / "beside").write_bytes(b"x")
        await storage.discard(placed.model_id)
        again = await fetch(storage, "m.tar.gz")
        assert (content(again), source.opened) == (b"one", 1)
        assert not (Path(again.shown) / "beside").exists()
        # It puts a link in the place of the folder of its models.
        await storage.discard(placed.model_id)
        elsewhere = tmp_path / "elsewhere"
        elsewhere.mkdir()
        shutil.rmtree(agent.folder / "c0" / "models")
        (agent.folder / "c0" / "models").symlink_to(elsewhere)
        with pytest.raises(StorageUnavailable):
            await fetch(storage, "m.tar.gz")
        assert [*elsewhere.iterdir()] == []
        # The link leads nowhere, and another agent takes over: it is linked, and the container alone has the harm.
        elsewhere.rmdir()
        await agent.end()
        await agent.start()
        with pytest.raises(StorageUnavailable, match="a link in the place of a folder"):
            await fetch(storage, "m.tar.gz")
        assert not elsewhere.exists()


async def test_a_full_disk_is_told_and_passes(tmp_path: Path, source: CountingSource) -> None:
    for name in ("a", "b", "c"):
        put(tmp_path, f"{name}.tar.gz", model=os.urandom(1_500_000))
    with small_disk(tmp_path / "room"):
        async with cell(tmp_path, source) as (control, agent):
            (storage,) = await control.linked(agent)
            placed = [await fetch(storage, f"{name}.tar.gz") for name in ("a", "b")]
            with pytest.raises(DiskFull) as raised:
                await fetch(storage, "c.tar.gz")
            assert str(tmp_path) not in str(raised.value)
            filler = agent.folder / "c0" / "filler"  # a model writes until nothing more fits
            with contextlib.suppress(OSError), filler.open("wb", buffering=0) as file:
                while file.write(bytes(4096)):
                    pass
            control.links.go(agent.instance)
            await agent.until("/started", 200)
            assert all(content(each) for each in placed)
            filler.unlink()
            await storage.discard(placed[0].model_id)
            assert len(content(await fetch(storage, "c.tar.gz"))) == 1_500_000


async def test_a_script_gets_a_link_into_the_cache(tmp_path: Path, source: CountingSource) -> None:
    put(tmp_path, "m.tar.gz", model=b"one")
    async with cell(tmp_path, source) as (control, agent):
        (storage,) = await control.linked(agent, SCRIPTS)
        placed = await fetch(storage, "m.tar.gz")
        assert placed.shown == str(agent.folder / "c0" / "models" / placed.model_id / "model")
        assert os.readlink(placed.shown).startswith(str(agent.folder / "a0"))


async def test_an_agent_is_looked_at_for_ports_and_reports(tmp_path: Path, source: CountingSource) -> None:
    async with cell(tmp_path, source) as (control, agent):
        await control.linked(agent)
        looked = await control.links.look(agent.instance, 0)
        assert agent.port in {listener.port for listener in looked.listening}
        assert looked.failure is None


async def test_nobody_without_a_passkey_gets_an_object(tmp_path: Path, source: CountingSource) -> None:
    put(tmp_path, "m.tar.gz", model=b"one")
    async with cell(tmp_path, source) as (control, agent):
        await control.linked(agent)
        port = control.links._settings.api_listen.rpartition(":")[2]
        for passkey in ("", "none"):
            reader, writer = await asyncio.open_connection("127.0.0.1", int(port))
            path = "/_hostler/artifacts/bucket/m.tar.gz"
            writer.write(f"GET {path} HTTP/1.0\r\nx-hostler-passkey: {passkey}\r\n\r\n".encode())
            assert (await reader.read()).split()[1] == b"404"
            writer.close()
