"""Programs that never heard of hostler, from their first line to their last, with the variables of `hostler env` alone.

They do what notebooks do: role, bucket, upload, deploy, predict, logs, metrics, delete. Where the machine allows it,
they and hostler run in a network of their own (network_edge.py), where each packet that leaves is counted.
"""

from __future__ import annotations

import importlib.metadata
import importlib.util
import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from network_edge import INSIDE, NODE_MODULES, RESOLVER
from running import REPOSITORY
from shell import single

from hostler.host import namespaces

HERE = Path(__file__).parent
ACCOUNT = "123456789012"
ROLE = f"arn:aws:iam::{ACCOUNT}:role/hostler"
BUCKET = f"sagemaker-us-east-1-{ACCOUNT}"
SDK = f"sdk_v{importlib.metadata.version('sagemaker').partition('.')[0]}.py"  # the one that is installed
S3FS = importlib.util.find_spec("s3fs") is not None
_TUN = Path("/dev/net/tun")


def no_edge() -> str:
    """Return why packets cannot be counted on this machine; empty if they can be."""
    if not os.access(_TUN, os.R_OK | os.W_OK):
        return f"{_TUN} cannot be opened"
    refused = namespaces.trial().isolation
    return f"this machine allows no network namespaces: {refused}" if refused else ""


@pytest.fixture(scope="module")
def ended(tmp_path_factory: pytest.TempPathFactory) -> dict[str, Any]:
    """What network_edge.py found: the programs that can run here, by name, and the packets if they can be counted."""
    folder = tmp_path_factory.mktemp("programs")
    optional = {"aws.mjs": NODE_MODULES.is_dir(), "pandas_s3.py": S3FS}
    programs = [SDK, "cli.sh", *(program for program, runs in optional.items() if runs)]
    command = [sys.executable, str(HERE / "network_edge.py"), str(folder), *programs]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(REPOSITORY / "src"), str(HERE)])}
    if not no_edge():
        resolver = folder / "resolv.conf"
        resolver.write_text(f"nameserver {RESOLVER}\noptions attempts:1 timeout:1\n")
        enter = ["unshare", "--net", "--mount", *([] if os.geteuid() == 0 else ["--user", "--map-root-user"])]
        bind = 'mount --bind "$0" "$(readlink -f /etc/resolv.conf)" && exec "$@"'
        command = [*enter, "sh", "-c", bind, str(resolver), *command]
        environment[INSIDE] = "1"
    run = subprocess.run(command, capture_output=True, text=True, timeout=600, env=environment, check=False)
    assert run.returncode == 0, run.stdout[-6000:] + run.stderr[-6000:]
    found: dict[str, Any] = json.loads(run.stdout.splitlines()[-1])
    return found


def output(ended: dict[str, Any], program: str) -> list[str]:
    """Return the lines that a program printed; it must have ended well."""
    assert ended[program]["code"] == 0, ended[program]["errors"] + ended[program]["output"][-4000:]
    lines: list[str] = ended[program]["output"].splitlines()
    return lines


@pytest.mark.skipif(SDK != "sdk_v2.py", reason="the SageMaker SDK 2 is not installed here")
def test_a_notebook_on_sdk_v2(ended: dict[str, Any]) -> None:
    answers, prices = json.loads(output(ended, "sdk_v2.py")[-1]), ended["prices"]
    assert [answers[name] for name in ("role", "bucket", "account", "region")] == [ROLE, BUCKET, ACCOUNT, "us-east-1"]
    assert single(answers["xgboost"][0][0]) == prices["Houston_TX"]
    assert answers["sklearn"] == pytest.approx([9.0, 19.0])
    assert answers["listed"] == ["Chicago_IL.tar.gz", "Houston_TX.tar.gz"]
    assert [single(answer[0]) for answer in answers["many"]] == [prices["Houston_TX"], prices["Chicago_IL"]]
    assert "loading the booster" in answers["logged"]
    assert answers["invocations"] == 3
    assert answers["left"] == []


@pytest.mark.skipif(SDK != "sdk_v3.py", reason="the SageMaker SDK 3 is in an environment of its own: make versions")
def test_a_notebook_on_sdk_v3(ended: dict[str, Any]) -> None:
    answers, prices = json.loads(output(ended, "sdk_v3.py")[-1]), ended["prices"]
    assert [answers[name] for name in ("role", "bucket", "account", "region")] == [ROLE, BUCKET, ACCOUNT, "us-east-1"]
    assert single(answers["core"]) == prices["Houston_TX"]
    assert answers["listed"] == ["v3-core"]
    for built in ("v3-xgboost", "v3-sklearn"):
        predicted, expected = answers[built]
        assert predicted == pytest.approx(expected)
    assert answers["logged"]
    assert answers["invocations"] == 3
    assert answers["left"] == []


def test_the_aws_cli_from_first_to_last(ended: dict[str, Any]) -> None:
    answers = dict(line.split(" ", 1) for line in output(ended, "cli.sh"))
    assert answers["caller"].startswith(f"arn:aws:sts::{ACCOUNT}:assumed-role/hostler/")
    assert answers["listed"].split() == ["Chicago_IL.tar.gz", "Houston_TX.tar.gz"]
    assert {city: single(answers[city]) for city in ended["prices"]} == ended["prices"]
    assert answers["logged"].isdigit()
    assert float(answers["invocations"]) == 2
    assert answers["left"] == "0"


@pytest.mark.require("javascript")
@pytest.mark.parametrize("program", ["aws.mjs", "aws.mjs, plain"])
def test_the_javascript_sdk_from_first_to_last(ended: dict[str, Any], program: str) -> None:
    answers = json.loads(output(ended, program)[-1])
    assert answers["account"] == ACCOUNT
    assert {city: single(answers[city]) for city in ended["prices"]} == ended["prices"]
    assert answers["refused"] == ["ValidationError", 400]
    assert answers["streamed"] == "part 0;part 1;part 2;"
    assert "loading nothing" in answers["logged"]
    assert answers["invocations"] >= 3  # with the refused one; the second program finds the first one's, too
    assert answers["left"] == 0


@pytest.mark.skipif(not S3FS, reason="s3fs is not installed here: make versions")
def test_pandas_and_s3fs(ended: dict[str, Any]) -> None:
    answers = json.loads(output(ended, "pandas_s3.py")[-1])
    assert answers == {"equal": True, "listed": ["pandas-data/houses/train.csv"], "first": "feet,price", "left": 0}


def test_no_packet_leaves_the_machine_and_those_that_do_are_counted(ended: dict[str, Any]) -> None:
    if reason := no_edge():
        pytest.skip(reason)
    assert ended["left"] == []
    assert {"DNS sts.us-east-1.amazonaws.com", "TCP 203.0.113.7"} <= {*ended["deliberately"]}
