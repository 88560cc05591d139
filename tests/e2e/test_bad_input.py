"""Bad input through the real port: a clear AWS-shaped 4xx, never a 5xx, a hang or a lost connection.

After each test everything still works, and no file lies where none should be.
"""

from __future__ import annotations

import contextlib
import io
import json
import socket
import tarfile
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

import numpy
import psutil
import pytest
import targets
from botocore.exceptions import ClientError
from running import BUCKET, Hostler, eventually, hostler_up

TIMEOUT = 60  # seconds for any answer: a hang guard


@dataclass(frozen=True)
class Answer:
    status: int
    headers: dict[str, str]
    body: bytes


@pytest.fixture(scope="module", name="running")
def _running(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler]:
    folder = tmp_path_factory.mktemp("bad")
    limits = {"archive_max_bytes": "20MiB", "archive_max_files": 50, "archive_max_ratio": 100}
    with hostler_up(folder, **limits) as running:
        running.put("bad/7.tar.gz", targets.xgboost_target(7))
        running.put("secret.tar.gz", targets.xgboost_target(1))  # beside the endpoint's prefix, not under it
        running.create_endpoint("bad")
        yield running


@pytest.fixture(name="hostler")
def _hostler_still_works(running: Hostler) -> Iterator[Hostler]:
    """The hostler of all these tests; after each test it still works, with the same processes."""
    hostler = running

    def processes() -> list[psutil.Process]:
        return [hostler.control, *hostler.gateways, *hostler.containers]

    assert targets.number(hostler.invoke("bad", "7.tar.gz")) == 7
    before = processes()
    yield hostler
    assert targets.number(hostler.invoke("bad", "7.tar.gz")) == 7
    assert processes() == before, "a process of hostler has ended"
    assert hostler.sm.describe_endpoint(EndpointName="bad")["EndpointStatus"] == "InService"
    assert "Traceback" not in hostler.output.read_text(errors="replace"), hostler.tail()


# --- TargetModel ------------------------------------------------------------------------------------------------------

_CLIMBING = [
    "..", "../", "../..", "../secret.tar.gz", "./7.tar.gz", ".", "./", "a/../7.tar.gz", "a/../../secret.tar.gz",
    "a/..", "a/.", "a/./b", "../bad/7.tar.gz", "..;/7.tar.gz", ".../7.tar.gz", "....//7.tar.gz", "/..",
    "/../secret.tar.gz", "a//b", "//7.tar.gz", "///etc/passwd", "a/", "7.tar.gz/", "7.tar.gz/..", "7.tar.gz/.", "/",
    "//",
]  # fmt: skip
_ABSOLUTE = [
    "/etc/passwd", "//etc/passwd", "/proc/self/environ", "/root/.aws/credentials", "C:\\windows\\win.ini",
    "C:/windows", "file:///etc/passwd", "s3://models/secret.tar.gz", "s3://models/bad/7.tar.gz", "http://127.0.0.1/x",
    "~/x", "~root/x", "$HOME/x", "${HOME}", "`id`", "$(id)", "|id", ";id", "&& id", "%HOME%",
]  # fmt: skip
_ENCODED = [
    "%2e", "%2e%2e", "%2e%2e/secret.tar.gz", "%2E%2E/secret.tar.gz", ".%2e/secret.tar.gz", "%2e./secret.tar.gz",
    "..%2fsecret.tar.gz", "..%2Fsecret.tar.gz", "%2e%2e%2fsecret.tar.gz", "%252e%252e/secret.tar.gz",
    "..%5csecret.tar.gz", "%5c..%5c", "7.tar.gz%00", "%007.tar.gz", "%00", "a%00/../../x",
    "%c0%ae%c0%ae/secret.tar.gz", "%u002e%u002e/x", "%", "%%", "%2", "%zz", "7%2etar.gz", "..%c0%af", "%2f",
    "%2fetc%2fpasswd",
]  # fmt: skip
_BACKSLASH = [
    "\\", "..\\", "..\\secret.tar.gz", "..\\..\\x", "a\\b", "\\\\host\\share", "a\\..\\..\\secret.tar.gz", "7.tar.gz\\",
    ".\\7.tar.gz", "\\etc\\passwd",
]  # fmt: skip
_UNICODE = [
    "ü.tar.gz", "模型.tar.gz", "\u202e7.tar.gz", "‥/secret.tar.gz", "．．/secret.tar.gz", "․․/x", "∕etc∕passwd", "💥",
    "\ufeff7.tar.gz", "7.tar.gz\u00a0", "e\u0301", "\u2028", "\u0085", "\u00ad", "İ.tar.gz",
]  # fmt: skip
_LONG = [
    "a" * 1024,
    "a" * 1025,
    "a/" * 511 + "b",
    "a/" * 512 + "b",
    "a" * 4096,
    "é" * 600,
    "a" * 256,
    "../" * 400,
    "a" * 30_000,
]
_MISSING = [
    "", "nothing.tar.gz", "7", "7.tar", "7.TAR.GZ", "7.tar.gz.gz", "bad/7.tar.gz", "null", "None", "0", "*", "?",
    "7.tar.gz?x=1", "7.tar.gz#x", "7.tar.gz,7.tar.gz", '"7.tar.gz"', "'7.tar.gz'", "<script>", "{}", "[]",
]  # fmt: skip
CORPUS = [*_CLIMBING, *_ABSOLUTE, *_ENCODED, *_BACKSLASH, *_UNICODE, *_LONG, *_MISSING]


def test_every_malformed_target_model_is_a_validation_error(hostler: Hostler) -> None:
    assert len(CORPUS) >= 100
    failures = []
    for name in CORPUS:
        answer = invoke(hostler, name.encode())
        if (answer.status, answer.headers.get("x-amzn-errortype", "").split(":")[0]) == (400, "ValidationError"):
            document = json.loads(answer.body)
            if document.get("Message") and not _leaks(hostler, answer.body):
                continue
        if len(name) > 8000 and 400 <= answer.status < 500:  # a header that long may be refused before it is read
            continue
        failures.append((name[:60], answer.status, answer.headers.get("x-amzn-errortype"), answer.body[:300]))
    assert failures == []
    assert sorted(path.name for path in (hostler.data / "s3").iterdir() if path.name[0] != ".") == [BUCKET]


_INVALID_HEADER_VALUES = [
    b"a\x00b", b"\x00", b"a\rb", b"a\nb", b"a\r\n b", b"\xff\xfe", b"\xc3\x28", b"a\x01b", b"a\tb", b"\x7f", b"a\x1bb",
    b"a\x0bb", b"\x1f",
]  # fmt: skip


@pytest.mark.parametrize("name", _INVALID_HEADER_VALUES)
def test_a_target_model_that_is_not_a_valid_header_value_is_refused(hostler: Hostler, name: bytes) -> None:
    assert 400 <= invoke(hostler, name).status < 500


def test_a_target_model_header_that_is_missing_or_repeated_is_a_validation_error(hostler: Hostler) -> None:
    for fields in ([], [("X-Amzn-SageMaker-Target-Model", b"7.tar.gz"), ("X-Amzn-SageMaker-Target-Model", b"../x")]):
        answer = request(hostler, "POST", "/endpoints/bad/invocations", fields, b"1,2")
        assert (answer.status, answer.headers["x-amzn-errortype"].split(":")[0]) == (400, "ValidationError"), answer


# --- archives ---------------------------------------------------------------------------------------------------------


def _tar(*members: tuple[tarfile.TarInfo, bytes], mode: str = "w:gz") -> bytes:
    buffer = io.BytesIO()
    with tarfile.open(fileobj=buffer, mode=mode) as tar:  # type: ignore[call-overload]
        for info, content in members:
            tar.addfile(info, io.BytesIO(content) if info.isreg() else None)
    return buffer.getvalue()


def _member(
    name: str, kind: bytes = tarfile.REGTYPE, link: str = "", content: bytes = b""
) -> tuple[tarfile.TarInfo, bytes]:
    info = tarfile.TarInfo(name)
    info.type, info.linkname, info.size = kind, link, len(content)
    return info, content


def _archives() -> dict[str, bytes]:
    good = targets.xgboost_target(7)
    model = _member("xgboost-model", content=targets.xgboost_model(7))
    return {
        "empty-file": b"",
        "not-gzip": b"this is no archive" * 100,
        "a-zip": b"PK\x03\x04" + bytes(200),
        "truncated-half": good[: len(good) // 2],
        "truncated-end": good[:-9],
        "flipped": good[:60] + bytes([good[60] ^ 0xFF]) + good[61:],
        "wrong-checksum": good[:-8] + b"\x00" * 8,
        "gzip-of-no-tar": targets.stored(b"no tar at all" * 1000),
        "gzip-of-nothing": targets.stored(b""),
        "plain-tar": _tar(model, mode="w"),
        "bzip2": _tar(model, mode="w:bz2"),
        "bomb-by-ratio": targets.archive({"xgboost-model": bytes(15 * 2**20)}, level=9),
        "bomb-by-size": targets.archive({"xgboost-model": bytes(21 * 2**20)}, level=0),
        "bomb-by-count": targets.archive({f"file{number}": b"" for number in range(51)}),
        "bomb-twice": targets.archive({"xgboost-model": targets.archive({"x": bytes(10 * 2**20)}, level=9)}),
        "header-lies": _tar(model)[:200],
        "climbs": _tar(model, _member("../climbed", content=b"x")),
        "climbs-deep": _tar(model, _member("a/../../../../climbed", content=b"x")),
        "absolute": _tar(model, _member("/tmp/hostler-climbed", content=b"x")),
        "link": _tar(model, _member("link", tarfile.SYMTYPE, "/etc/passwd")),
        "link-as-model": _tar(_member("xgboost-model", tarfile.SYMTYPE, "/etc/passwd")),
        "link-then-through-it": _tar(_member("out", tarfile.SYMTYPE, "../.."), _member("out/climbed", content=b"x")),
        "hard-link": _tar(model, _member("link", tarfile.LNKTYPE, "/etc/passwd")),
        "character-device": _tar(model, _member("device", tarfile.CHRTYPE)),
        "block-device": _tar(model, _member("device", tarfile.BLKTYPE)),
        "fifo": _tar(model, _member("fifo", tarfile.FIFOTYPE)),
        "backslash": _tar(model, _member("..\\climbed", content=b"x")),
        "long-name": _tar(model, _member("n" * 300, content=b"x")),
        "deep": _tar(model, _member("/".join(["d"] * 2000) + "/x", content=b"x")),
    }


def test_a_bad_archive_is_refused_and_writes_nothing_outside_its_folder(hostler: Hostler) -> None:
    failures = []
    for name, content in _archives().items():
        hostler.put(f"bad/{name}.tar.gz", content)
        answer = invoke(hostler, f"{name}.tar.gz".encode())
        if (
            answer.status not in (400, 424)
            or not json.loads(answer.body).get("Message")
            or _leaks(hostler, answer.body)
        ):
            failures.append((name, answer.status, answer.body[:300]))
    assert failures == []
    assert not Path("/tmp/hostler-climbed").exists()
    assert list(hostler.folder.rglob("climbed")) == []
    links = [path for path in hostler.data.rglob("*") if path.is_symlink()]
    assert all(link.resolve().is_relative_to(hostler.data) for link in links), links


def test_a_bad_archive_that_is_replaced_by_a_good_one_is_served(hostler: Hostler) -> None:
    hostler.put("bad/mended.tar.gz", b"not yet")
    assert invoke(hostler, b"mended.tar.gz").status in (400, 424)
    hostler.put("bad/mended.tar.gz", targets.xgboost_target(8))
    deadline = time.monotonic() + 30  # failures are cached for a moment, against storms
    while (answer := invoke(hostler, b"mended.tar.gz")).status != 200 and time.monotonic() < deadline:
        time.sleep(0.1)
    assert (answer.status, targets.number(answer.body)) == (200, 8)


# --- models that do not load, and bodies that do not parse ------------------------------------------------------------


MODELS = {
    "garbage": {"xgboost-model": b"garbage" * 1000},
    "empty-model": {"xgboost-model": b""},
    "half-a-model": {"xgboost-model": targets.xgboost_model(7)[:700]},
    "json-but-no-model": {"xgboost-model": b'{"learner": {}}'},
    "no-model": {"readme.txt": b"nothing here"},
    "pickle-of-evil": {"xgboost-model": b"cposix\nsystem\n(S'exit 3'\ntR."},
    "no-sklearn": {"model.joblib": b"\x80\x04garbage"},
    "syntax-error": {"code/inference.py": b"def model_fn(:\n"},
    "import-error": {"code/inference.py": b"import no_such_module_anywhere\n"},
    "raises": {"code/inference.py": b"def model_fn(d):\n    raise RuntimeError('no')\n"},
    "exits": {"code/inference.py": b"import sys\ndef model_fn(d):\n    sys.exit(3)\n"},
    "exits-hard": {"code/inference.py": b"import os\ndef model_fn(d):\n    os._exit(3)\n"},
    "is-killed": {"code/inference.py": b"import os\ndef model_fn(d):\n    os.kill(os.getpid(), 9)\n"},
    "no-model-fn": {"code/inference.py": b"x = 1\n"},
}


@pytest.mark.parametrize("name", MODELS)
def test_a_model_that_does_not_load_is_a_model_error(hostler: Hostler, name: str) -> None:
    hostler.put(f"bad/{name}.tar.gz", targets.archive(MODELS[name]))
    with pytest.raises(ClientError) as refused:
        hostler.invoke("bad", f"{name}.tar.gz")
    response = refused.value.response
    assert response["Error"]["Code"] == "ModelError"
    assert response["ResponseMetadata"]["HTTPStatusCode"] == 424
    assert response["OriginalStatusCode"] >= 400 or response["OriginalStatusCode"] == 0
    assert "/endpoints/bad" in response["LogStreamArn"].lower()


def test_a_model_file_that_crashes_its_server_is_a_model_error_and_other_targets_still_answer(tmp_path: Path) -> None:
    """XGBoost's reader believes lengths: this one ends the process with a segmentation fault."""
    length = b"base_weights[$d#L\0\0\0\0\0\0\0\x01"
    poison = targets.xgboost_model(7).replace(length, length[:-3] + b"\x08\0\x01")
    with hostler_up(tmp_path) as hostler:
        hostler.put("bad/7.tar.gz", targets.xgboost_target(7))
        hostler.put("bad/poison.tar.gz", targets.archive({"xgboost-model": poison}))
        hostler.create_endpoint("bad", count=2)
        hostler.invoke("bad", "7.tar.gz")
        for _ in range(2):
            answer = invoke(hostler, b"poison.tar.gz")
            assert (answer.status, answer.headers["x-amzn-errortype"].split(":")[0]) == (424, "ModelError"), answer
            eventually(lambda: invoke(hostler, b"7.tar.gz").status == 200, 60, "another target answers")


def _npy_of_objects() -> bytes:
    """Return an array that only unpickling could read."""
    buffer = io.BytesIO()
    numpy.save(buffer, numpy.array([print, 1], dtype=object), allow_pickle=True)
    return buffer.getvalue()


def _npy_of_shape(rows: int) -> bytes:
    """Return the header of an array with that many rows, without the rows."""
    buffer = io.BytesIO()
    header = {"descr": "<f8", "fortran_order": False, "shape": (rows, 2)}
    numpy.lib.format.write_array_header_1_0(buffer, header)
    return buffer.getvalue()


BODIES = [
    ("text/csv", b"a,b"), ("text/csv", b"1,2\n3"), ("text/csv", b'"1,2'), ("text/csv", b"\xff\xfe\x00"),
    ("text/csv", b",,,"), ("text/csv", b"1,2" * 1_000_000), ("text/csv", b"\x00" * 1000),
    ("application/json", b"{"), ("application/json", b"[[1, 2]"), ("application/json", b'{"a": 1}'),
    ("application/json", b"[" * 100_000), ("application/json", b'"text"'), ("application/json", b"\xff"),
    ("application/json", b"null"), ("application/jsonlines", b'{"features": '), ("application/jsonlines", b"x\ny\n"),
    ("text/libsvm", b"1 x:y"), ("text/libsvm", b"0 -1:2"), ("text/libsvm", b"0 99999999999:1"),
    ("application/x-npy", b"\x93NUMPY"), ("application/x-npy", b"garbage"), ("application/x-npy", _npy_of_objects()),
    ("application/x-npy", _npy_of_shape(99_999_999_999)),
    ("application/python-pickle", b"cposix\nsystem\n(S'exit 3'\ntR."), ("image/png", b"\x89PNG"), ("", b"1,2"),
    ("/", b"1,2"), ("text/csv; charset=\xff", b"1,2"), ("x" * 900, b"1,2"),
]  # fmt: skip


@pytest.mark.parametrize(("content_type", "body"), BODIES, ids=[f"{t[:20]}-{b[:12]!r}" for t, b in BODIES])
def test_a_body_that_does_not_parse_is_a_model_error(hostler: Hostler, content_type: str, body: bytes) -> None:
    fields = [("X-Amzn-SageMaker-Target-Model", b"7.tar.gz"), ("Content-Type", content_type.encode("latin-1"))]
    answer = request(hostler, "POST", "/endpoints/bad/invocations", fields, body)
    if content_type == "" or body == b",,,":  # the model decides about missing values, and without a content type
        assert answer.status in (200, 400, 424), answer
        return
    assert answer.status in (400, 424), answer
    document = json.loads(answer.body)
    assert document["Message"]
    if answer.status == 424:
        assert 400 <= document["OriginalStatusCode"] < 500, document  # the caller's fault, not the model's


def test_an_unsupported_accept_header_is_a_model_error(hostler: Hostler) -> None:
    fields = [("X-Amzn-SageMaker-Target-Model", b"7.tar.gz"), ("Content-Type", b"text/csv"), ("Accept", b"image/png")]
    answer = request(hostler, "POST", "/endpoints/bad/invocations", fields, b"1,2")
    assert (answer.status, json.loads(answer.body)["OriginalStatusCode"]) == (424, 415)  # as that image's handler says


# --- sizes ------------------------------------------------------------------------------------------------------------


def test_a_body_over_6_mib_is_413_with_any_framing(hostler: Hostler) -> None:
    head = "POST /endpoints/bad/invocations HTTP/1.1\r\nHost: localhost\r\nX-Amzn-SageMaker-Target-Model: 7.tar.gz\r\n"
    just = raw(hostler, f"{head}Content-Length: 6291457\r\n\r\n".encode() + b"1" * 6_291_457)
    huge = raw(hostler, f"{head}Content-Length: 10000000000\r\n\r\n".encode())
    expecting = raw(hostler, f"{head}Content-Length: 6291457\r\nExpect: 100-continue\r\n\r\n".encode())
    chunk = b"100000\r\n" + b"1" * 0x100000 + b"\r\n"
    chunked = raw(hostler, f"{head}Transfer-Encoding: chunked\r\n\r\n".encode() + chunk * 7 + b"0\r\n\r\n")
    assert [answer.status for answer in (just, huge, expecting, chunked)] == [413] * 4


def test_a_body_of_exactly_6_mib_reaches_the_model(hostler: Hostler) -> None:
    body = b"1,2" + b"\n" * (6_291_456 - 3)
    assert targets.number(hostler.invoke("bad", "7.tar.gz", body)) == 7


def test_too_many_or_too_long_headers_are_refused(hostler: Hostler) -> None:
    many = [(f"X-Header-{number}", b"x") for number in range(2000)]
    for fields in (many, [("X-Long", b"x" * 200_000)], [("Cookie", b"c" * 70_000)]):
        assert 400 <= request(hostler, "POST", "/endpoints/bad/invocations", fields, b"1,2").status < 500
    long_path = "/endpoints/" + "a" * 100_000 + "/invocations"
    assert 400 <= request(hostler, "POST", long_path, [], b"1,2").status < 500


# --- HTTP and paths ---------------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "text",
    [
        b"GARBAGE\r\n\r\n",
        b"\x16\x03\x01\x02\x00\x01\x00\x01\xfc\x03\x03" + bytes(60),  # a TLS handshake
        b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n",
        b"POST / HTTP/9.9\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\n\r\n",  # no Host
        b"POST / HTTP/1.1\r\nHost: localhost\r\nHost: localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: -1\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 1, 2\r\n\r\nx",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nContent-Length: 3\r\nTransfer-Encoding: chunked\r\n\r\n0\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\nTransfer-Encoding: chunked\r\n\r\nZZ\r\n",
        b"POST / HTTP/1.1\r\nHost : localhost\r\n\r\n",
        b"POST / HTTP/1.1\r\nHost: localhost\r\n folded: x\r\n\r\n",
        b"POST / HTTP/1.1\nHost: localhost\n\n",
    ],
)
def test_malformed_http_is_refused(hostler: Hostler, text: bytes) -> None:
    assert 400 <= raw(hostler, text).status < 500


@pytest.mark.parametrize(
    ("method", "path"),
    [
        ("POST", "/endpoints//invocations"), ("POST", "/endpoints/%00/invocations"),
        ("POST", "/endpoints/../invocations"), ("POST", "/endpoints/%2e%2e/invocations"),
        ("POST", "/endpoints/bad%2finvocations"), ("POST", "/endpoints/bad name/invocations"),
        ("POST", "/endpoints/no-such-endpoint/invocations"), ("POST", "/endpoints/BAD/invocations"),
        ("POST", "/endpoints/" + "a" * 64 + "/invocations"), ("POST", "/endpoints/bad/invocation"),
        ("POST", "/endpoints/bad"), ("GET", "/endpoints/bad/invocations"), ("PUT", "/endpoints/bad/invocations"),
        ("DELETE", "/endpoints/bad/invocations"), ("POST", "/endpoints/bad/invocations/.."), ("POST", "/%ff%fe"),
        ("POST", "//"), ("BREW", "/"), ("GET", "/../../../etc/passwd"), ("GET", "/models/../../../../etc/passwd"),
        ("GET", "/models/%2e%2e/%2e%2e/hostler.db"), ("GET", "/models/..%2f..%2fhostler.db"),
        ("GET", "/%2e%2e/hostler.db"), ("GET", "/no-such-bucket/x"), ("GET", "/models/no-such-key"),
        ("PUT", "/models/../../climbed"), ("PUT", "/models/%2e%2e/%2e%2e/climbed"), ("PUT", "/../climbed"),
        ("PUT", "/UPPER_case bucket"), ("DELETE", "/models/no/../../x"), ("GET", "/_hostler/nothing"),
        ("POST", "/_hostler/../endpoints/bad/invocations"),
    ],
)  # fmt: skip
def test_unexpected_paths_and_methods_are_refused(hostler: Hostler, method: str, path: str) -> None:
    answer = request(hostler, method, path.replace(" ", "%20"), [], b"1,2" if method in ("POST", "PUT") else b"")
    ok = method == "DELETE" and answer.status == 204  # as S3 answers for a missing key
    assert 400 <= answer.status < 500 or ok, answer
    assert b"SQLite" not in answer.body
    assert not _leaks(hostler, answer.body)
    assert list(hostler.folder.rglob("climbed")) == []


@pytest.mark.parametrize(
    "host", ["example.com", "127.0.0.1.example.com", "localhost.example.com", "169.254.169.254", "evil", "[::2]", ""]
)
def test_a_foreign_host_is_forbidden(hostler: Hostler, host: str) -> None:
    for method, path in (
        ("POST", "/endpoints/bad/invocations"),
        ("GET", "/_hostler/health"),
        ("POST", "/"),
        ("GET", "/models"),
    ):
        answer = raw(hostler, f"{method} {path} HTTP/1.1\r\nHost: {host}\r\nContent-Length: 0\r\n\r\n".encode())
        assert answer.status == 403 or (host == "" and answer.status == 400), (path, answer)


@pytest.mark.parametrize(
    "origin", ["https://example.com", "http://localhost.example.com", "null", "file://", "https://127.0.0.1.nip.io"]
)
def test_a_foreign_origin_is_forbidden(hostler: Hostler, origin: str) -> None:
    for method, path in (
        ("POST", "/endpoints/bad/invocations"),
        ("GET", "/_hostler/health"),
        ("POST", "/"),
        ("GET", "/models"),
    ):
        assert request(hostler, method, path, [("Origin", origin.encode())], b"").status == 403, path


# --- the control plane ------------------------------------------------------------------------------------------------


def _variant(members: bytes, model: bytes = b"bad") -> bytes:
    variant = b'{"VariantName": "v", "ModelName": "%s", %s}' % (model, members)
    return b'{"EndpointConfigName": "c", "ProductionVariants": [%s]}' % variant


_MODEL_ARN = b"arn:aws:sagemaker:us-east-1:123456789012:model/none"
CONTROL: list[tuple[str, bytes]] = [
    ("CreateModel", b""), ("CreateModel", b"{"), ("CreateModel", b"[]"), ("CreateModel", b"null"),
    ("CreateModel", b'"x"'), ("CreateModel", b"{}"), ("CreateModel", b"\xff\xfe"), ("CreateModel", b"[" * 100_000),
    ("CreateModel", b'{"a":' * 50_000), ("CreateModel", b'{"ModelName": 1}'), ("CreateModel", b'{"ModelName": null}'),
    ("CreateModel", b'{"ModelName": ["x"]}'), ("CreateModel", b'{"ModelName": "-bad-"}'),
    ("CreateModel", b'{"ModelName": "../x"}'), ("CreateModel", b'{"ModelName": ""}'),
    ("CreateModel", b'{"ModelName": "' + b"a" * 64 + b'"}'), ("CreateModel", b'{"ModelName": "a\\u0000b"}'),
    ("CreateModel", b'{"ModelName": "x", "Containers": {}}'),
    ("CreateModel", b'{"ModelName": "x", "Containers": [1]}'),
    ("CreateModel", b'{"ModelName": "x", "PrimaryContainer": {"Image": "i", "Mode": "Wrong"}}'),
    ("CreateModel", b'{"ModelName": "x", "PrimaryContainer": {"Image": "i", "ModelDataUrl": "ftp://x"}}'),
    ("CreateModel", b'{"ModelName": "x", "PrimaryContainer": {"Image": "i", "ModelDataUrl": "s3://models/../../x.tar.gz"}}'),
    ("CreateModel", b'{"ModelName": "x", "PrimaryContainer": {"Image": "i", "Environment": {"A=B": 1}}}'),
    ("CreateModel", b'{"ModelName": "x", "ExecutionRoleArn": "no arn", "PrimaryContainer": {"Image": "i"}}'),
    ("DescribeModel", b'{"ModelName": "none"}'), ("DescribeEndpoint", b'{"EndpointName": "none"}'),
    ("DescribeEndpoint", b'{"EndpointName": "bad/../bad"}'), ("DeleteModel", b'{"ModelName": "none"}'),
    ("CreateEndpointConfig", b'{"EndpointConfigName": "c", "ProductionVariants": []}'),
    ("CreateEndpointConfig", _variant(b'"InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1', b"none")),
    ("CreateEndpointConfig", _variant(b'"InstanceType": "ml.imaginary", "InitialInstanceCount": 1')),
    ("CreateEndpointConfig", _variant(b'"InstanceType": "ml.m4.xlarge", "InitialInstanceCount": -1')),
    ("CreateEndpointConfig", _variant(b'"InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1e400')),
    ("CreateEndpointConfig", _variant(b'"InstanceType": "ml.m4.xlarge", "InitialVariantWeight": NaN')),
    ("CreateEndpoint", b'{"EndpointName": "e", "EndpointConfigName": "none"}'),
    ("CreateEndpoint", b'{"EndpointName": "bad", "EndpointConfigName": "bad"}'), ("ListModels", b'{"MaxResults": 0}'),
    ("ListModels", b'{"MaxResults": 1000}'), ("ListModels", b'{"MaxResults": "ten"}'),
    ("ListModels", b'{"NextToken": "not one of ours"}'), ("ListModels", b'{"SortBy": "Colour"}'),
    ("ListModels", b'{"CreationTimeAfter": "yesterday"}'), ("ListModels", b'{"CreationTimeAfter": 1e300}'),
    ("ListEndpoints", b'{"StatusEquals": "Fine"}'), ("ListTags", b'{"ResourceArn": "no arn"}'),
    ("AddTags", b'{"ResourceArn": "%s", "Tags": [{"Key": "a", "Value": "b"}]}' % _MODEL_ARN),
    ("NoSuchOperation", b"{}"), ("CreateTrainingJob", b"{}"), ("createmodel", b"{}"), ("", b"{}"),
    ("../CreateModel", b"{}"),
]  # fmt: skip


@pytest.mark.parametrize(("operation", "body"), CONTROL, ids=[f"{o}-{b[:40]!r}" for o, b in CONTROL])
def test_bad_control_plane_calls_are_refused_as_by_aws(hostler: Hostler, operation: str, body: bytes) -> None:
    fields = [("X-Amz-Target", f"SageMaker.{operation}".encode()), ("Content-Type", b"application/x-amz-json-1.1")]
    answer = request(hostler, "POST", "/", fields, body)
    assert 400 <= answer.status < 500, answer
    document = json.loads(answer.body)
    assert document["__type"]
    assert document.get("message") or document.get("Message")
    assert not _leaks(hostler, answer.body)


@pytest.mark.parametrize(
    "target", [None, b"SageMaker", b"DynamoDB_20120810.ListTables", b"SageMaker.ListModels.x", b"\xff"]
)
def test_a_call_without_a_known_operation_is_refused(hostler: Hostler, target: bytes | None) -> None:
    fields = [("Content-Type", b"application/x-amz-json-1.1")]
    if target is not None:
        fields.append(("X-Amz-Target", target))
    assert 400 <= request(hostler, "POST", "/", fields, b"{}").status < 500


def test_a_huge_control_plane_body_is_refused(hostler: Hostler) -> None:
    fields = [("X-Amz-Target", b"SageMaker.CreateModel"), ("Content-Type", b"application/x-amz-json-1.1")]
    answer = request(hostler, "POST", "/", fields, b'{"ModelName": "' + b"a" * 50_000_000 + b'"}')
    assert 400 <= answer.status < 500


def test_a_caller_who_disconnects_in_the_middle_of_a_request_affects_no_other(hostler: Hostler) -> None:
    head = b"POST /endpoints/bad/invocations HTTP/1.1\r\nHost: localhost\r\nX-Amzn-SageMaker-Target-Model: 7.tar.gz\r\n"
    for text in (b"", head[:20], head, head + b"Content-Length: 100\r\n\r\nhalf"):
        with _connection(hostler) as sock:
            sock.sendall(text)


# --- the wire ---------------------------------------------------------------------------------------------------------


def invoke(hostler: Hostler, target: bytes) -> Answer:
    fields = [("Content-Type", b"text/csv"), ("X-Amzn-SageMaker-Target-Model", target)]
    return request(hostler, "POST", "/endpoints/bad/invocations", fields, b"1,2")


def request(hostler: Hostler, method: str, path: str, fields: list[tuple[str, bytes]], body: bytes) -> Answer:
    head = f"{method} {path} HTTP/1.1\r\nHost: localhost\r\nContent-Length: {len(body)}\r\n".encode()
    return raw(
        hostler, head + b"".join(name.encode() + b": " + value + b"\r\n" for name, value in fields) + b"\r\n" + body
    )


def raw(hostler: Hostler, text: bytes) -> Answer:
    """Send these bytes on a new connection and return the answer, which must be complete."""
    with _connection(hostler) as sock, sock.makefile("rb") as stream:
        with contextlib.suppress(ConnectionError):  # refused before all of it was read, but answered
            sock.sendall(text)
        status = 100
        while status < 200:
            line = stream.readline()
            assert line, f"no answer to {text[:200]!r}"
            status = int(line.split()[1])
            headers = {}
            while (field := stream.readline().rstrip()) != b"":
                name, _, value = field.decode("latin-1").partition(":")
                headers[name.lower()] = value.strip()
        if headers.get("transfer-encoding") == "chunked":
            body = b""
            while size := int(stream.readline(), 16):
                body += stream.read(size)
                stream.readline()
        else:
            body = stream.read(int(headers.get("content-length", 0)))
            assert len(body) == int(headers.get("content-length", 0)), "the answer is cut short"
        return Answer(status, headers, body)


def _connection(hostler: Hostler) -> socket.socket:
    host, _, port = hostler.url.removeprefix("http://").partition(":")
    return socket.create_connection((host, int(port)), timeout=TIMEOUT)


def _leaks(hostler: Hostler, body: bytes) -> bool:
    """Return whether an answer has names of this machine's folders, or content of its files."""
    return str(hostler.folder).encode() in body or b"root:" in body
