"""The rooms of containers on this machine."""

from __future__ import annotations

import io
import tarfile
from pathlib import Path

import pytest

from hostler import contract
from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import EmbeddedSource
from hostler.engines.engine import ContainerLaunch, InstanceLaunch
from hostler.engines.images import Server
from hostler.engines.rooms import Rooms
from hostler.settings import Settings

IMAGE = "an-image"


def rooms(folder: Path) -> Rooms:
    source = EmbeddedSource(folder / "s3")
    cache = ArtifactCache(folder / "artifacts", source, 1 << 30, ArchiveLimits(bytes=1 << 20, files=100, ratio=200))
    return Rooms(Settings(data=folder), cache)


def put_data(folder: Path) -> None:
    """Put an artifact that is data alone into the bucket `box`."""
    (folder / "s3" / "box").mkdir(parents=True)
    with tarfile.open(folder / "s3" / "box" / "m", "w:gz") as tar:
        info = tarfile.TarInfo("xgboost-model")
        info.size = 2
        tar.addfile(info, io.BytesIO(b"{}"))


@pytest.mark.parametrize("variable", ["", contract.ENV_PROGRAM, contract.ENV_SUBMIT_DIRECTORY])
@pytest.mark.parametrize("adopted", [False, True])
async def test_where_the_environment_names_a_script_every_target_has_a_folder(
    tmp_path: Path, variable: str, adopted: bool
) -> None:
    put_data(tmp_path)
    environment = {variable: "inference.py"} if variable else {}
    launch = InstanceLaunch(
        "i", {}, (ContainerLaunch(IMAGE, environment, multi_model=True, has_artifact=True, log="l"),)
    )
    made = rooms(tmp_path)
    if adopted:
        await made.prepare(launch)
        made = rooms(tmp_path)
        made.adopt("i", 0, Server("xgboost"), "l", "/shown")
    (room,) = await made.prepare(launch)
    placed = await room.storage.fetch("a" * 32, "m", "box", "m")
    base = "/shown" if adopted else str(tmp_path / "containers" / "i.0")
    assert placed.shown.startswith(base if variable else str(tmp_path / "artifacts"))


async def test_the_room_of_an_image_is_open_to_every_user_and_the_folder_of_the_rooms_to_none(tmp_path: Path) -> None:
    made = rooms(tmp_path)
    image = ContainerLaunch(IMAGE, {}, has_artifact=True, log="l", server=Server(reference=IMAGE))
    process = ContainerLaunch(IMAGE, {}, has_artifact=True, log="m", server=Server("xgboost"))
    of_image, of_process = await made.prepare(InstanceLaunch("i", {}, (image, process)))
    modes = {path: path.stat().st_mode & 0o777 for path in (of_image.folder, of_image.folder / "model")}
    assert {*modes.values()} == {0o777}
    assert of_process.folder.stat().st_mode & 0o777 == 0o700
    assert (tmp_path / "containers").stat().st_mode & 0o777 == 0o700
    assert contract.ENV_ARTIFACTS not in (of_image.environment or {}), "it gets copies"
