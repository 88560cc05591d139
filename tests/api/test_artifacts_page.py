"""/_hostler/artifacts/: objects for agents, and for nobody else."""

import json
import urllib.error
import urllib.request
from urllib.parse import quote

import pytest
from stage import running

from hostler.artifacts.source import EmbeddedSource, FileSource

PASSKEY = "the passkey of an agent that is linked"
KEY = "pre/ü ?%.tar.gz"
FILES = quote("file://", safe="")


@pytest.fixture(scope="module")
def stage(tmp_path_factory):
    folder = tmp_path_factory.mktemp("artifacts")
    (folder / "s3" / "bucket" / "pre").mkdir(parents=True)
    (folder / "s3" / "bucket" / KEY).write_bytes(b"content")
    (folder / "files").mkdir()
    (folder / "files" / "m.tar.gz").write_bytes(b"x" * 3_000_000)
    with running(folder) as stage:
        stage.context.source = FileSource(str(folder / "files"), EmbeddedSource(folder / "s3"))
        stage.context.admits_agent = PASSKEY.__eq__
        stage.file = f"{FILES}{folder}/files/m.tar.gz"
        yield stage


def get(stage, path, passkey=PASSKEY, method="GET", **headers):
    url = f"{stage.url}/_hostler/artifacts/{path}"
    request = urllib.request.Request(url, None, {"x-hostler-passkey": passkey, **headers}, method=method)
    try:
        with urllib.request.urlopen(request, timeout=30) as answer:
            return answer.status, answer.headers, answer.read()
    except urllib.error.HTTPError as error:
        return error.code, error.headers, error.read()


def test_an_agent_gets_an_object_and_its_version(stage):
    status, headers, body = get(stage, f"bucket/{quote(KEY)}")
    assert (status, body, headers["content-length"]) == (200, b"content", "7")
    status, _, body = get(stage, f"bucket/{quote(KEY)}", **{"If-None-Match": headers["etag"]})
    assert (status, body) == (304, b"")


def test_an_agent_gets_a_large_file_of_this_machine(stage):
    status, _, body = get(stage, stage.file)
    assert (status, len(body)) == (200, 3_000_000)


def test_an_agent_gets_a_list(stage):
    status, _, body = get(stage, "bucket?prefix=pre/&most=10")
    assert status == 200
    assert [listed[0] for listed in json.loads(body)] == [KEY]


@pytest.mark.parametrize(
    ("path", "kind"),
    [
        ("bucket/none", "missing"),
        ("none/key", "missing"),
        ("none?most=1", "missing"),
        ("bucket/..%2F..%2Fhostler.db", "missing"),
        (f"{FILES}/etc/passwd", "missing"),
    ],
)
def test_what_is_not_there_is_told_in_data(stage, path, kind):
    status, _, body = get(stage, path)
    assert (status, json.loads(body)["kind"]) == (404, kind)


@pytest.mark.parametrize("most", ["", "-1", "x", "9" * 5000])
def test_a_list_of_no_number_is_refused(stage, most):
    assert get(stage, f"bucket?prefix=&most={most}")[0] == 400


@pytest.mark.parametrize("passkey", ["", "another"])
def test_nobody_else_learns_of_the_page(stage, passkey):
    status, _, body = get(stage, f"bucket/{quote(KEY)}", passkey)
    assert (status, json.loads(body)) == (404, {"message": "there is no such page"})


def test_an_agent_changes_nothing(stage):
    assert get(stage, f"bucket/{quote(KEY)}", method="DELETE")[0] == 405
