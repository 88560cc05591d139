"""An instance over a fake engine: its containers come up together, and one that ends, ends it."""

from __future__ import annotations

import asyncio
from pathlib import Path
from typing import Any

import pytest
from ground import PATIENCE, Container, Engine
from simulated import Loop

from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource
from hostler.engines.engine import Launch, Seen
from hostler.failures import FILE
from hostler.hosting.container import presentable
from hostler.hosting.instance import Instance
from hostler.hosting.instance_key import InstanceKey
from hostler.hosting.metrics import Metrics
from hostler.hosting.platform import Platform
from hostler.settings import Settings
from hostler.store import documents

pytestmark = pytest.mark.simulated

SPOT = InstanceKey("us-east-1/ep", "e1", 1, 1, "v", 0, 0, 0)
FOLDER = Path("/home/me/.hostler/containers/1.1.0.0.0")
HURRY = {"ContainerStartupHealthCheckTimeoutInSeconds": 0.2}
XGBOOST = "123456789012.dkr.ecr.us-east-1.amazonaws.com/sagemaker-xgboost:1"


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
        self.platform = Platform(self.settings, self.engine, self.disk, Metrics(), self.news.set)

    async def __aenter__(self) -> Stage:
        return self

    async def __aexit__(self, *_: object) -> None:
        await self.engine.close()
        await self.disk.close()

    def instance(self, *containers: dict[str, Any], **variant: Any) -> Instance:
        spec = documents.variant_spec({"VariantName": "v", **variant}, {"Containers": list(containers)})
        return Instance(self.platform, SPOT, spec)

    async def until(self, instance: Instance, state: str) -> None:
        async with asyncio.timeout(PATIENCE):
            while instance.state != state:
                self.news.clear()
                await self.news.wait()

    def launch(self, position: int) -> Launch:
        return next(launch for launch in self.engine.started if launch.id == f"{SPOT.id}.{position}")

    def _container(self, launch: Launch) -> Container:
        return Container(ping=self.pings.get(int(launch.id[-1]), 200))


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
    first, second = stage.launch(0), stage.launch(1)
    assert (first.environment["A"], second.environment["A"]) == ("1", "2")
    assert (first.environment["HOSTNAME"], second.environment["HOSTNAME"]) == ("first", "container-2")
    assert "SAGEMAKER_MULTI_MODEL" not in first.environment
    assert second.environment["SAGEMAKER_MULTI_MODEL"] == "true"
    assert (Path(first.folder) / "model").is_dir()
    assert (Path(second.folder) / "models").is_dir()
    logs = stage.folder / "logs" / "e1" / "v" / SPOT.id
    assert [first.log, second.log] == [str(logs / "first.log"), str(logs / "container-2.log")]
    assert instance.addresses == tuple(f"unix:{stage.folder}/c/{launch.id}/s" for launch in (first, second))
    await stopped(instance)
    assert not list((stage.folder / "containers").iterdir())


async def test_a_container_that_is_alone_is_named_as_on_aws(stage: Stage) -> None:
    instance = stage.instance(ours())
    instance.begin()
    await stage.until(instance, "ready")
    assert stage.launch(0).environment["HOSTNAME"] == "container-0.local"
    assert stage.launch(0).log == str(stage.folder / "logs" / "e1" / "v" / f"{SPOT.id}.log")
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
    assert len(set(instance.addresses)) == 15
    await stopped(instance)


async def test_a_container_that_ends_is_named_and_the_others_are_stopped_with_it(stage: Stage) -> None:
    instance = stage.instance(ours(ContainerHostname="first"), ours(Mode="MultiModel", ModelDataUrl="s3://b/p/"))
    instance.begin()
    await stage.until(instance, "ready")
    stage.engine.end(f"{SPOT.id}.0", 3)
    for _ in range(2):  # the second time is no news
        await instance.containers_ended(await _exited(stage))
    assert instance.state == "ended"
    assert instance.reason.startswith("The first container for production variant v did not pass the ping health")
    assert "The container exited with code 3. " in instance.reason
    assert instance.culprits == (instance.containers[0],), "the multi-model container is not to blame"
    assert stage.platform.metrics.containers_ended == 1
    await stopped(instance)
    assert await stage.engine.list() == []
    assert instance.state == "gone"


async def _exited(stage: Stage) -> list[Seen]:
    return [seen for seen in await stage.engine.list() if seen.exit is not None]


@pytest.mark.parametrize("seed", range(12))
async def test_all_containers_that_have_ended_are_named_with_their_causes(stage: Stage, seed: int) -> None:
    instance = stage.instance(*(ours(ContainerHostname=name) for name in ("one", "two", "three")))
    instance.begin()
    await stage.until(instance, "ready")
    log = stage.platform.log(SPOT.uid, SPOT.variant, SPOT.id, "three")
    stage.engine.text[str(log)] = "ModuleNotFoundError: No module named 'cv2'"
    stage.engine.end(f"{SPOT.id}.0", 3)
    stage.engine.end(f"{SPOT.id}.2", 1)
    await instance.containers_ended(await _exited(stage))
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
    folder = Path(stage.launch(0).folder)
    if left is not None:
        data = left.replace(b"%(base)s", bytes(folder)).replace(b"%(data)s", bytes(stage.folder))
        (folder / FILE).write_bytes(data)
    stage.engine.text[str(stage.platform.log(SPOT.uid, SPOT.variant, SPOT.id))] = f"{SAID}\n"
    stage.engine.end(f"{SPOT.id}.0", 1)
    await instance.containers_ended(await _exited(stage))
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
    assert not list((stage.folder / "containers").iterdir())


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
    stage.engine.address = lambda launch: "tcp:127.0.0.1:9"  # where nobody listens
    stage.engine.ports[1_000_001] = (9000,)
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
    await stage.engine.stop(f"{SPOT.id}.1", 0)
    before = {int(seen.labels["container"]): seen for seen in await stage.engine.list()}
    stage.engine.started.clear()

    instance = stage.instance(*definitions)
    instance.begin(before)
    assert not instance.running
    await stage.until(instance, "ready")
    assert [launch.environment["HOSTNAME"] for launch in stage.engine.started] == ["two"]
    assert [container.seen and container.seen.labels["container"] for container in instance.containers] == [*"012"]
    await stopped(instance)


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
    assert not [*(stage.folder / "containers").glob("*")]


@pytest.mark.parametrize(
    ("text", "shown"),
    [
        ("", ""),
        ("one\ntwo\n", "one\ntwo"),
        ("\x1b[31mred\x1b[0m\tand\0", "?[31mred?[0m\tand?"),
        (f"no model in {FOLDER}/model/x.json", "no model in /opt/ml/model/x.json"),
        ('File "/usr/lib/python3.11/site-packages/a/b.py", line 3', 'File "b.py", line 3'),
        ('File "/usr/lib/python3.11/json/decoder.py", line 3', 'File "decoder.py", line 3'),
        ("no '/home/me/secret/a.txt', /home/me/", "no 'a.txt', me"),
        ("--config=/home/me/a:/home/me/b file:///home/me/c", "--config=a:b file://c"),
        ("exec /home/me/bin/prog: /home/me/bin/other", "exec /home/me/bin/prog: other"),
        ("/home/mercury/a.txt /home/me-too/a.txt", "/home/mercury/a.txt /home/me-too/a.txt"),
        ("no '/opt/app/config/x.yaml'", "no '/opt/app/config/x.yaml'"),
        ("GET /v2/models/foo HTTP/1.1 404", "GET /v2/models/foo HTTP/1.1 404"),
        (
            "see https://host/home/me/b and 1/2, 3 /4/5 and a/b/c",
            "see https://host/home/me/b and 1/2, 3 /4/5 and a/b/c",
        ),
    ],
)
def test_a_log_shows_none_of_this_machines_private_folders(text: str, shown: str) -> None:
    assert presentable(text, FOLDER, ["/home/me", "/"], ["/home/me/bin/prog", "--x"]) == shown


@pytest.mark.parametrize("seed", range(12))
async def test_a_missing_interpreter_has_another_cause_than_a_missing_program(
    stage: Stage, tmp_path: Path, seed: int
) -> None:
    program = tmp_path / "serve it.py"
    program.write_text(f"#!{tmp_path}/venv/bin/python -u\n")
    program.chmod(0o700)

    stage.engine.exits = 1
    stage.engine.address = lambda launch: "tcp:127.0.0.1:9"  # where nobody listens
    stage.settings.images["mine"] = (str(program),)
    instance = stage.instance(mine())
    stage.engine.text[str(stage.platform.log(SPOT.uid, SPOT.variant, SPOT.id))] = (
        f"bwrap: execvp {program}: No such file or directory"
    )
    instance.begin()
    await stage.engine.changed()
    await instance.containers_ended(await _exited(stage))
    assert f": the interpreter {tmp_path}/venv/bin/python, which the first line of {program} nam" in instance.reason
    await stopped(instance)
