"""Endpoints that answer without a model: any image, no artifact; the API, its states and errors are the real ones."""

from __future__ import annotations

import contextlib
import subprocess
import sys
import urllib.request
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from running import ROLE, Hostler, eventually, hostler_up

ANSWERS = """
[[answer]]
endpoint = "prices*"
target = "*_TX.tar.gz"
body = "[1.5]"
headers = {X-Amzn-SageMaker-Custom-Attributes = "canned"}
[[answer]]
endpoint = "prices*"
content_type = "text/csv"
file = "answer"
type = "text/csv"
[[answer]]
endpoint = "bad"
status = 503
body = "overloaded"
"""
LMI = "763104351884.dkr.ecr.us-east-1.amazonaws.com/djl-inference:0.33.0-lmi15.0.0-cu128"


def test_canned_answers_take_the_place_of_all_models(tmp_path: Path) -> None:
    (tmp_path / "answers.toml").write_text(ANSWERS)
    (tmp_path / "answer").write_bytes(b"7\n")
    with hostler_up(tmp_path / "up", canned_answers=tmp_path / "answers.toml", strict_images=True) as hostler:
        environment = {"SAGEMAKER_PROGRAM": "mine.py", "SAGEMAKER_SUBMIT_DIRECTORY": "s3://none/code.tar.gz"}
        for name, more in (
            ("prices-1", {"ModelDataUrl": "s3://none/model.tar.gz", "Environment": environment}),
            ("prices-2", {"ModelDataUrl": "s3://none/", "Mode": "MultiModel"}),
            ("bad", {}),
        ):
            hostler.deploy(name, {"Image": LMI, **more})
            assert hostler.settled(name) == ""
        invoke = hostler.runtime.invoke_endpoint

        answer = invoke(EndpointName="prices-1", ContentType="text/csv", Body=b"1")
        assert (answer["Body"].read(), answer["ContentType"]) == (b"7\n", "text/csv")
        answer = invoke(EndpointName="prices-2", TargetModel="Houston_TX.tar.gz", Body=b"1")
        assert (answer["Body"].read(), answer["CustomAttributes"]) == (b"[1.5]", "canned")
        assert hostler.invoke("prices-2", "b/c.tar.gz") == b"7\n"
        stream = hostler.runtime.invoke_endpoint_with_response_stream(
            EndpointName="prices-1", ContentType="text/csv", Body=b"1"
        )
        assert [part["PayloadPart"]["Bytes"] for part in stream["Body"]] == [b"7\n"]
        with pytest.raises(hostler.runtime.exceptions.ModelError) as unknown:
            invoke(EndpointName="prices-1", ContentType="application/json", Body=b"1")
        assert unknown.value.response["OriginalStatusCode"] == 404
        assert "There is no canned answer" in unknown.value.response["OriginalMessage"]
        with pytest.raises(hostler.runtime.exceptions.ModelError) as bad:
            invoke(EndpointName="bad", Body=b"1")
        assert bad.value.response["OriginalStatusCode"] == 503
        assert bad.value.response["OriginalMessage"] == "overloaded"

        for call, code in (
            (lambda: invoke(EndpointName="none", Body=b"1"), "ValidationError"),
            (lambda: invoke(EndpointName="prices-2", Body=b"1"), "ValidationError"),  # no TargetModel
            (
                lambda: hostler.sm.create_model(ModelName="x", ExecutionRoleArn="arn:aws:iam::1:none/none"),
                "ValidationException",
            ),
            (lambda: hostler.deploy("bad", {"Image": LMI}), "ValidationException"),  # it exists
        ):
            with pytest.raises(ClientError) as refused:
                call()
            assert refused.value.response["Error"]["Code"] == code

        # A control that is started anew finds its containers again; an edited file counts for new ones.
        hostler.control.kill()
        eventually(lambda: _ready(hostler), 60, "control is ready again")
        (tmp_path / "answers.toml").write_text('[[answer]]\nbody = "new"')
        hostler.deploy("later", {"Image": LMI})
        assert hostler.settled("later") == ""
        assert invoke(EndpointName="later", Body=b"1")["Body"].read() == b"new"
        assert invoke(EndpointName="prices-1", ContentType="text/csv", Body=b"1")["Body"].read() == b"7\n"
        assert hostler.invoke("prices-2", "Dallas_TX.tar.gz") == b"[1.5]"
        (tmp_path / "answers.toml").write_text("[[answer]]\nbodi = 1")
        hostler.deploy("wrong", {"Image": LMI})
        assert "unknown field `bodi`" in hostler.settled("wrong")
        assert ROLE in str(hostler.sm.describe_model(ModelName="later"))


def _ready(hostler: Hostler) -> bool:
    with contextlib.suppress(OSError), urllib.request.urlopen(f"{hostler.url}/_hostler/ready", timeout=5) as answer:
        return bool(answer.status == 200)
    return False


def test_a_file_with_a_mistake_stops_hostler_before_it_starts(tmp_path: Path) -> None:
    (tmp_path / "answers.toml").write_text("[[answer]]\nstatus = 1")
    environment = {"HOSTLER_CANNED_ANSWERS": str(tmp_path / "answers.toml"), "HOME": str(tmp_path)}
    command = [sys.executable, "-m", "hostler.cli", "up", "--temporary", "--port", "0"]
    done = subprocess.run(command, env=environment, capture_output=True, text=True, timeout=60, check=False)
    assert done.returncode == 1
    assert done.stderr.count("\n") == 1
    assert "canned_answers" in done.stderr
    assert "status" in done.stderr
