"""The pytest plugin in test suites of strangers: what they write runs, and nothing of hostler is left after it."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import tempfile
import uuid
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest
from running import REPOSITORY, eventually

from hostler.testing import NotReady, running

MODULE = re.search(r"## In a test suite\n.*?```python\n(.*?)```", (REPOSITORY / "README.md").read_text(), re.DOTALL)[1]

FOUR = """
import os, pytest
@pytest.mark.parametrize("number", range(4))
def test_fixed_names_do_not_meet(hostler, number):
    hostler.endpoint("same", answer=str(number))
    sm, runtime, s3 = (hostler.client(name) for name in ("sagemaker", "sagemaker-runtime", "s3"))
    assert runtime.invoke_endpoint(EndpointName="same", Body=b"")["Body"].read() == str(number).encode()
    s3.create_bucket(Bucket="mine")
    s3.put_object(Bucket="mine", Key="a", Body=b"1")
    assert len(sm.list_endpoints()["Endpoints"]) == 1
    assert os.environ["AWS_ENDPOINT_URL"] == hostler.url
"""

WIDER = """
import json, os, pytest
@pytest.fixture(scope="module")
def shared(hostler_server):
    with hostler_server.endpoint("shared", answer={"a.tar.gz": b"[1]", "b/c.tar.gz": b"[2]"}) as endpoint:
        yield endpoint
@pytest.mark.parametrize("number", range(2))
def test_what_a_wider_fixture_made_stays(hostler, shared, number):
    hostler.endpoint("own", answer="[3]", content_type="text/csv")
    assert shared.invoke("", target="a.tar.gz") == b"[1]" and shared.invoke("", target="b/c.tar.gz") == b"[2]"
    names = [each["EndpointName"] for each in hostler.client("sagemaker").list_endpoints()["Endpoints"]]
    assert sorted(names) == ["own", "shared"]
def test_awss_own_names_lead_to_it(hostler_aws_hosts):
    import boto3
    client = boto3.client("sts", endpoint_url="https://sts.us-east-1.amazonaws.com")
    assert client.get_caller_identity()["Account"] == "123456789012"
    assert boto3.client("s3").list_buckets()["Buckets"]
def test_the_environment_is_the_tests_own():
    assert "HTTPS_PROXY" not in os.environ and "HOSTLER_DATA" not in os.environ
    assert "AWS_ENDPOINT_URL" not in os.environ and os.environ["AWS_PROFILE"] == "mine"
def test_it_is_gone_after_its_block(hostler):
    def contents():
        return [arn for arn in hostler.contents() if ":log-group:" not in arn]  # logs outlive endpoints, as on AWS
    before = contents()
    with hostler.endpoint("gone", answer="1"):
        assert len(contents()) == len(before) + 4
    assert contents() == before
"""

FAULTS = """
import importlib.abc, sys
class NotInstalled(importlib.abc.MetaPathFinder):  # packages of hostler, but not of its plugin
    def find_spec(self, name, path=None, target=None):
        if name.partition(".")[0] in {"click", "httptools", "msgspec", "sqlalchemy", "starlette", "uvloop"}:
            raise ImportError(name)
sys.meta_path.insert(0, NotInstalled())
import boto3, pytest
from botocore.config import Config
def call():
    client = boto3.client("sagemaker-runtime", config=Config(retries={"total_max_attempts": 1}))
    return client.invoke_endpoint(EndpointName="prices", Body=b"")["Body"].read()
def test_within_a_block(hostler):
    hostler.endpoint("prices", answer="1")
    with hostler.fault("ModelError", endpoint="prices", status=400, message="boom", first=1):
        with pytest.raises(hostler.client("sagemaker-runtime").exceptions.ClientError) as error:
            call()
        assert error.value.response["OriginalMessage"] == "boom"
        assert call() == b"1"
@pytest.mark.hostler_fault("ModelNotReadyException", first=1)
@pytest.mark.hostler_fault("ThrottlingException", first=1)
def test_by_a_marker(hostler):
    hostler.endpoint("prices", answer="1")
    codes = []
    for _ in range(2):
        with pytest.raises(hostler.client("sagemaker-runtime").exceptions.ClientError) as error:
            call()
        codes.append(error.value.response["Error"]["Code"])
    assert sorted(codes) == ["ModelNotReadyException", "ThrottlingException"]
    assert call() == b"1"
def test_a_fault_that_a_test_left_is_gone_with_it(hostler):
    from hostler.testing import faults
    faults.put(hostler.url, "ServiceUnavailable")
def test_after_it(hostler):
    hostler.endpoint("prices", answer="1")
    assert call() == b"1"
"""

WITHOUT_PYTEST = """
import unittest, hostler.testing
class Prices(unittest.TestCase):
    @classmethod
    def setUpClass(cls):
        cls.hostler = cls.enterClassContext(hostler.testing.running(settings={"region": "eu-west-1"}))
    def test_answer(self):
        import boto3
        self.hostler.endpoint("prices", answer=b"[1]")
        with self.hostler.environment():
            answer = boto3.client("sagemaker-runtime").invoke_endpoint(EndpointName="prices", Body=b"")
        self.assertEqual(answer["Body"].read(), b"[1]")
        self.assertEqual(answer["ContentType"], "application/json")
unittest.main()
"""


class Suite:
    """A folder with a stranger's tests; all processes that these start are known by a variable."""

    def __init__(self, folder: Path, temporary: Path) -> None:
        self.folder = folder
        self.temporary = temporary  # for the temporary files of all of them
        self._mark = f"SUITE_MARK={uuid.uuid4().hex}"

    def start(self, text: str, *command: str) -> subprocess.Popen[str]:
        (self.folder / "test_stranger.py").write_text(text)
        name, value = self._mark.split("=")
        environment = {"PATH": os.environ["PATH"], "HOME": str(self.folder), "TMPDIR": str(self.temporary)}
        environment |= {name: value, "AWS_PROFILE": "mine", "PYTHONDONTWRITEBYTECODE": "1"}
        return subprocess.Popen(
            [sys.executable, *command], cwd=self.folder, env=environment, text=True,
            stdout=subprocess.PIPE, stderr=subprocess.STDOUT,
        )  # fmt: skip

    def run(self, text: str, *command: str) -> str:
        """Run the tests to their end and return their output; they must pass, and leave no process and no file."""
        with self.start(text, *command) as process:
            output = process.communicate(timeout=120)[0]
        assert process.returncode == 0, output
        assert self.remains() == []
        return output

    def remains(self) -> list[str]:
        """Return the processes and the temporary files that are left."""
        processes = []
        for process in psutil.process_iter():
            with contextlib.suppress(psutil.Error, OSError):
                if self._mark in Path(f"/proc/{process.pid}/environ").read_text(errors="replace").split("\0"):
                    processes.append(f"{process.pid} {' '.join(process.cmdline())}")
        return [*processes, *(str(path) for path in self.temporary.iterdir())]


@pytest.fixture
def suite(tmp_path: Path) -> Iterator[Suite]:
    temporary = Path(tempfile.mkdtemp(prefix="hp-", dir="/tmp"))  # short, so that hostler's run folder is there, too
    try:
        yield Suite(tmp_path, temporary)
    finally:
        shutil.rmtree(temporary)


PYTEST = ("-m", "pytest", "-p", "no:cacheprovider", "-p", "no:hypothesispytest", "-W", "error", "-q")


def test_the_module_of_the_readme_passes_as_it_stands_and_leaves_nothing(suite: Suite) -> None:
    assert "1 passed" in suite.run(MODULE, *PYTEST)


def test_workers_of_xdist_have_a_hostler_each_so_that_fixed_names_do_not_meet(suite: Suite) -> None:
    assert "4 passed" in suite.run(FOUR, *PYTEST, "-n", "2", f"--basetemp={suite.folder}/t")


def test_what_a_test_makes_is_deleted_after_it_and_what_a_wider_fixture_made_stays(suite: Suite) -> None:
    assert "5 passed" in suite.run(WIDER, *PYTEST)


def test_faults_on_purpose_last_as_long_as_their_block_or_their_test(suite: Suite) -> None:
    assert "4 passed" in suite.run(FAULTS, *PYTEST, "--strict-markers")


def test_a_marker_without_effect_fails_its_test(suite: Suite) -> None:
    text = "import pytest\n@pytest.mark.hostler_fault('ModelError')\ndef test_retries(tmp_path): pass\n"
    with suite.start(text, *PYTEST, f"--basetemp={suite.folder}/t") as process:
        assert "a test with the marker hostler_fault needs the fixture hostler" in process.communicate(timeout=120)[0]
    assert process.returncode == 1


def test_without_pytest_a_context_manager_does_the_same(suite: Suite) -> None:
    assert "OK" in suite.run(WITHOUT_PYTEST, "test_stranger.py")


def test_relative_paths_of_settings_begin_at_the_rootdir_wherever_pytest_is_started(suite: Suite) -> None:
    root = suite.folder / "root"
    root.mkdir()
    (root / "answers.toml").write_text("[[answer]]\nbody = 'canned'\n")
    text = "def test_canned(hostler):\n    assert hostler.endpoint('a', answer='1').invoke('') == b'canned'\n"
    options = (f"--rootdir={root}", "-o", "hostler_settings=canned_answers = answers.toml")
    assert "1 passed" in suite.run(text, *PYTEST, *options)


def test_a_setting_that_is_none_is_an_error() -> None:
    with pytest.raises(NotReady, match="hostler has no such setting: regoin"), running(settings={"regoin": "x"}):
        pass


def test_a_suite_that_does_not_ask_starts_nothing(suite: Suite) -> None:
    text = "import sys\ndef test_nothing():\n    assert 'hostler.testing.hosting' not in sys.modules\n"
    assert "1 passed" in suite.run(text, *PYTEST)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_pytest_that_is_ended_by_a_signal_leaves_no_process_and_no_folder(suite: Suite, number: int) -> None:
    text = (
        "def test_hangs(hostler):\n    hostler.endpoint('a', answer='1')\n    print('here', flush=True)\n    input()\n"
    )
    process = suite.start(text, *PYTEST, "-s")
    with process:
        assert process.stdout is not None
        assert any("here" in line for line in process.stdout)
        assert len(suite.remains()) > 4, "pytest, the host, control, a gateway, a container"
        process.send_signal(number)
    eventually(lambda: not suite.remains(), 60, "nothing is left", lambda: "\n".join(suite.remains()))
