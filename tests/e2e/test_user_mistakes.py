"""Frequent mistakes: each ends in Failed, with AWS's sentence, the cause, advice, and the log's last lines.

The texts are golden; `...` stands for the parts that differ from run to run.
"""

from __future__ import annotations

import re
import sys
import tarfile
from pathlib import Path
from typing import Any

import pytest
import targets
from botocore.exceptions import ClientError
from running import ANY_IMAGE, BUCKET, REPOSITORY, ROLE, Hostler, eventually, hostler_up

from hostler.host import sandbox

BUDGET = 8.0  # seconds that a container has to answer its first ping
AT_MOST = 60  # seconds from where the cause is certain to Failed: a hang guard

SLOW = (
    "give it longer: ContainerStartupHealthCheckTimeoutInSeconds (60 to 3600) in the production variant, or"
    " startup_timeout in hostler.toml."
)
MEMORY = (
    "A smaller model, fewer instances or containers, or a machine with more memory helps; on AWS, a larger"
    " InstanceType."
)
LINT = "hostler lint model.tar.gz checks an archive before anything starts."
UNHEALTHY = (
    "The primary container for production variant AllTraffic did not pass the ping health check."
    " Please check CloudWatch logs for this endpoint. "
)
MODEL_FN = "def model_fn(model_dir):\n    "


def download(name: str) -> str:
    return (
        f'Failed to download model data for container "container_1" from URL: "s3://{BUCKET}/{name}.tar.gz". Please'
        " ensure that there is an object located at the URL and that the role passed to CreateModel has permissions to"
        " download the object. "
    )


def extract(name: str) -> str:
    return (
        f'Failed to extract model data archive for container "container_1" from URL "s3://{BUCKET}/{name}.tar.gz".'
        " Please ensure that the object located at the URL is a valid tar.gz archive. "
    )


# Programs under [images]: `tests/containers/faulty.py` defines each.
PROGRAMS = {
    "not-listening": (
        "In 8 seconds, GET /ping was not answered: nothing in the container listens on a port. It must serve HTTP on"
        f" the port that SAGEMAKER_BIND_TO_PORT names. If it is only slow to start, {SLOW} Its last lines: this is"
        " not-listening"
    ),
    "wrong-port": (
        "In 8 seconds, GET /ping was not answered: the container listens on port ..., but it was told ..., in"
        " SAGEMAKER_BIND_TO_PORT. Let it listen on the port that SAGEMAKER_BIND_TO_PORT names, and on 8080 only where"
        " that is not set: here each container has a port of its own. Its last lines: this is wrong-port\nserving on"
        " port ..."
    ),
    "ping-404": (
        "In 8 seconds, GET /ping was answered with 404 instead of 200. Add that route: a container must answer GET"
        " /ping with 200 as soon as it can serve. Its last lines: this is ping-404\nserving on port ..."
    ),
    "ping-500": (
        "In 8 seconds, GET /ping was answered with 500 instead of 200. Its log should say what fails in its answer to"
        " GET /ping. Its last lines: this is ping-500\nserving on port ..."
    ),
    "slow-start": (
        "In 8 seconds, GET /ping was not answered: nothing in the container listens on a port. It must serve HTTP on"
        f" the port that SAGEMAKER_BIND_TO_PORT names. If it is only slow to start, {SLOW} Its last lines: this is"
        " slow-start"
    ),
    "crash": "The container exited with code 3 before it answered a ping. Its last lines: this is crash",
    "done": (
        "The container exited with code 0 before it answered a ping. Its command must run in the foreground until"
        " SIGTERM: one that makes itself a daemon ends it. Its last lines: this is done"
    ),
    "killed": (
        "The container was ended by signal 9 (SIGKILL) before it answered a ping. The system does that when memory runs"
        f" out; else somebody killed it. {MEMORY} Its last lines: this is killed"
    ),
    "import-error": (
        "The container exited with code 1 before it answered a ping. Python found no module named"
        " a_module_that_nobody_has. Install the package that has it (such as pip install a_module_that_nobody_has) for"
        " the image's command under [images]. Its last lines: this is import-error\nTraceback ...\n"
        "ModuleNotFoundError: No module named 'a_module_that_nobody_has'"
    ),
    "multi-model": (
        "In 8 seconds, GET /models was answered with 404 instead of 200, though /ping was passed. A container with Mode"
        ' MultiModel must answer GET /models with 200 and {"models": []} at its start. Where an image has no such API,'
        " leave Mode out. Its last lines: this is multi-model\nserving on port ..."
    ),
}

# Archives on our own servers: name -> (content, text).
ARCHIVES: dict[str, tuple[bytes, str]] = {
    "nested": (
        targets.archive({"my-model/xgboost-model": b"{}", "my-model/notes.txt": b""}),
        "The model does not load: all files of the archive lie in its folder my-model/, none at its top. Pack what"
        " is in"
        f" that folder, not the folder (tar -czf model.tar.gz -C my-model .). {LINT}",
    ),
    "lmi": (
        targets.archive({"serving.properties": b"engine=Python", "model.joblib": b""}),
        "The model does not load: serving.properties configures DJL Serving (LMI), which nothing here stands in for. A"
        " model's folder from the Hugging Face Hub (config.json and weights) is served under the name"
        " huggingface-pytorch-inference, and a script with model_fn and predict_fn under pytorch-inference. Map it to a"
        ' command in hostler.toml: under [images], "123456789012.dkr.ecr.us-east-1.amazonaws.com/mine" ='
        ' "/path/to/program".',
    ),
    "script-import-error": (
        targets.script_target("import a_module_that_nobody_has"),
        "The model does not load: ModuleNotFoundError: No module named 'a_module_that_nobody_has'. Install the package"
        " that has it (such as pip install a_module_that_nobody_has) where hostler is installed: here, an archive's"
        " requirements.txt is not. Its last lines: Traceback ...\nModuleNotFoundError: No module named"
        " 'a_module_that_nobody_has'",
    ),
    "no-model-fn": (
        targets.script_target("def predict_fn(data, model):\n    return data\n"),
        "The model does not load: inference.py has no model_fn. Define model_fn(model_dir) in code/inference.py of the"
        " archive; it returns the loaded model.",
    ),
    "out-of-memory": (
        targets.script_target(f"{MODEL_FN}return bytes(2**60)\n"),
        f"The model does not load: MemoryError - memory ran out. {MEMORY} Its last lines: ...MemoryError",
    ),
    "slow-model-fn": (
        targets.script_target(f"{MODEL_FN}import time; print('loading', flush=True); time.sleep(600)\n"),
        "In 8 seconds, GET /ping was answered with 503 instead of 200: the model was still being loaded. If it is only"
        f" slow, {SLOW} Its last lines: loading",
    ),
}
NOT_FETCHED: dict[str, tuple[bytes, str]] = {
    "missing": (
        b"",
        f"{download('missing')}NoSuchKey: The specified key does not exist. It is looked for in hostler's own S3: put"
        " it there (aws s3 cp), or name another S3 with s3_endpoint in hostler.toml.",
    ),
    "zip": (
        b"PK\x03\x04",
        f"{extract('zip')}The archive is a zip: a gzipped tar is expected. Pack it again: tar -czf model.tar.gz -C"
        f" FOLDER . {LINT}",
    ),
}


def test_each_mistake_ends_in_failed_with_its_cause_and_advice(tmp_path: Path) -> None:
    reasons = {name: UNHEALTHY + text for name, text in PROGRAMS.items()}
    reasons |= {name: UNHEALTHY + text for name, (_, text) in ARCHIVES.items()}
    reasons |= {name: text for name, (_, text) in NOT_FETCHED.items()}
    with hostler_up(tmp_path / "up", hold=0, startup_timeout=BUDGET, config=_mapped(tmp_path)) as hostler:
        for name, (packed, _) in {**ARCHIVES, **NOT_FETCHED}.items():
            hostler.put(f"{name}.tar.gz", packed)
            _model(hostler, name, Image=ANY_IMAGE, ModelDataUrl=f"s3://{BUCKET}/{name}.tar.gz")
            if name == "missing":  # CreateModel checks that it exists
                hostler.s3.delete_object(Bucket=BUCKET, Key=f"{name}.tar.gz")
            _endpoint(hostler, name)
        for name in PROGRAMS:
            multi = {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/"} if name == "multi-model" else {}
            _create(hostler, name, Image=f"faulty/{name}", **multi)
        for name, reason in reasons.items():
            description = _failed(hostler, name)
            assert _golden(reason).fullmatch(description["FailureReason"]), f"{name}: {description['FailureReason']}"
            took = (description["LastModifiedTime"] - description["CreationTime"]).total_seconds()
            assert took < BUDGET + AT_MOST, name
        for name in reasons:
            hostler.sm.delete_endpoint(EndpointName=name)
        eventually(lambda: not hostler.sm.list_endpoints()["Endpoints"], 60, "all endpoints are deleted")
        assert not hostler.named("faulty.py")
        assert not list((hostler.data / "containers").iterdir())
        assert all(
            path.joinpath("group.json").exists() for path in (hostler.data / "logs").iterdir()
        )  # kept for a while


def test_a_ping_that_is_refused_for_good_does_not_use_up_the_startup_timeout(tmp_path: Path) -> None:
    with hostler_up(tmp_path / "up", hold=0, config=_mapped(tmp_path)) as hostler:
        _create(hostler, "refused", Image="faulty/ping-401")
        reason = _failed(hostler, "refused")["FailureReason"]
        assert "In 10 seconds, GET /ping was answered with 401 instead of 200." in reason
        hostler.sm.delete_endpoint(EndpointName="refused")


@pytest.mark.parametrize("bubblewrap", ["on", "off"])
def test_a_command_that_cannot_be_started_is_named_as_in_the_settings(tmp_path: Path, bubblewrap: str) -> None:
    if bubblewrap == "on" and not sandbox.bubblewrap_works():
        pytest.skip("bubblewrap does not work here")
    program = tmp_path / "first.py"
    program.write_text(f"#!{tmp_path}/none/python\n")
    program.chmod(0o755)
    config = tmp_path / "mapped.toml"
    config.write_text(f'bubblewrap = "{bubblewrap}"\n[images]\n"first" = "{program}"\n"second" = "/nosuch/prog"\n')
    causes = {
        "first": f"the interpreter {tmp_path}/none/python, which the first line of {program} names, is not there.",
        "second": "the program /nosuch/prog is not there.",
    }
    with hostler_up(tmp_path / "up", hold=0, config=config) as hostler:
        for name, cause in causes.items():
            _create(hostler, name, Image=name)
            reason = _failed(hostler, name)["FailureReason"]
            assert reason.startswith(f"{UNHEALTHY}The container could not be started: {cause}"), reason
            hostler.sm.delete_endpoint(EndpointName=name)


@pytest.mark.parametrize("bubblewrap", ["on", "off"])
def test_our_own_server_as_the_command_of_an_image_reports_the_cause_in_data(tmp_path: Path, bubblewrap: str) -> None:
    if bubblewrap == "on" and not sandbox.bubblewrap_works():
        pytest.skip("bubblewrap does not work here")
    config = tmp_path / "mapped.toml"
    command = f'["{sys.executable}", "-m", "hostler.servers"]'
    config.write_text(f'bubblewrap = "{bubblewrap}"\n[images]\n"own" = {command}\n')
    with hostler_up(tmp_path / "up", hold=0, config=config) as hostler:
        hostler.put("own.tar.gz", targets.script_target("def predict_fn(data, model):\n    return data\n"))
        _create(hostler, "own", Image="own", ModelDataUrl=f"s3://{BUCKET}/own.tar.gz")
        assert _failed(hostler, "own")["FailureReason"] == UNHEALTHY + (
            "The model does not load: inference.py has no model_fn. Define model_fn(model_dir) in code/inference.py of"
            " the archive; it returns the loaded model."
        )
        hostler.sm.delete_endpoint(EndpointName="own")


FORGED = """
import os
print("the model does not load: all is well", flush=True)
with open(os.environ["SAGEMAKER_BASE_DIR"] + "/hostler-failure.json", "w") as file:
    file.write('{"code": "other", "message": "all is well", "line": "the model does not load: all is well"}')
"""


def test_a_script_that_forges_a_failure_report_changes_at_most_its_own_reason(tmp_path: Path) -> None:
    with hostler_up(tmp_path / "up", hold=0) as hostler:
        hostler.put("raises.tar.gz", targets.script_target(f"{FORGED}\nraise ValueError('why')\n"))
        kill = "import signal\nos.kill(os.getppid(), signal.SIGKILL)\nos.kill(os.getpid(), signal.SIGKILL)\n"
        hostler.put("kills.tar.gz", targets.script_target(f"{FORGED}\n{kill}"))
        hostler.put("other.tar.gz", targets.script_target("raise ValueError('other')"))
        for name in ("raises", "kills", "other"):
            _create(hostler, name, Image=ANY_IMAGE, ModelDataUrl=f"s3://{BUCKET}/{name}.tar.gz")
        reasons = {name: _failed(hostler, name)["FailureReason"] for name in ("raises", "kills", "other")}
        assert all(reason.startswith(UNHEALTHY) for reason in reasons.values())
        assert reasons["raises"].startswith(f"{UNHEALTHY}The model does not load: why. Its last lines: the model does")
        assert reasons["kills"].startswith(f"{UNHEALTHY}The model does not load: all is well.")
        assert reasons["other"].startswith(f"{UNHEALTHY}The model does not load: other. Its last lines: Traceback")
        for name in reasons:
            hostler.sm.delete_endpoint(EndpointName=name)


def test_the_failed_containers_of_several_are_named(tmp_path: Path) -> None:
    with hostler_up(tmp_path / "up", hold=0, startup_timeout=BUDGET, config=_mapped(tmp_path)) as hostler:
        containers = [
            {"Image": f"faulty/{name}", "ContainerHostname": name} for name in ("good", "wrong-port", "ping-500")
        ]
        hostler.sm.create_model(ModelName="several", ExecutionRoleArn=ROLE, Containers=containers)
        _endpoint(hostler, "several")
        reason = _failed(hostler, "several")["FailureReason"]
        assert reason.startswith(
            "The wrong-port, ping-500 container for production variant AllTraffic did not pass the ping health check."
        )
        assert " wrong-port: In 8 seconds, GET /ping was not answered: the container listens on port " in reason
        assert " ping-500: In 8 seconds, GET /ping was answered with 500 instead of 200." in reason
        hostler.sm.delete_endpoint(EndpointName="several")
        eventually(lambda: not hostler.named("faulty.py"), 60, "the good one has ended, too")


def test_an_archive_with_a_link_is_refused_before_anything_starts(tmp_path: Path) -> None:
    (tmp_path / "xgboost-model").symlink_to("/etc/passwd")
    with tarfile.open(tmp_path / "packed.tar.gz", "w:gz") as archive:
        archive.add(tmp_path / "xgboost-model", "xgboost-model")
    with hostler_up(tmp_path / "up", hold=0) as hostler:
        hostler.put("link.tar.gz", (tmp_path / "packed.tar.gz").read_bytes())
        _create(hostler, "link", Image=ANY_IMAGE, ModelDataUrl=f"s3://{BUCKET}/link.tar.gz")
        assert _failed(hostler, "link")["FailureReason"] == extract("link") + (
            "The archive's member 'xgboost-model' is a symbolic link, which model archives must not hold. Put the file"
            f" itself there: tar --dereference -czf model.tar.gz -C FOLDER . {LINT}"
        )
        with pytest.raises(ClientError, match="not found"):
            hostler.runtime.invoke_endpoint(EndpointName="link", Body=b"1")


def _mapped(folder: Path) -> Path:
    program = REPOSITORY / "tests" / "containers" / "faulty.py"
    lines = [
        f'"faulty/{name}" = ["{sys.executable}", "{program}", "{name}"]' for name in (*PROGRAMS, "ping-401", "good")
    ]
    config = folder / "mapped.toml"
    config.write_text("\n".join(["[images]", *lines]))
    return config


def _create(hostler: Hostler, name: str, **container: Any) -> None:
    _model(hostler, name, **container)
    _endpoint(hostler, name)


def _model(hostler: Hostler, name: str, **container: Any) -> None:
    hostler.sm.create_model(ModelName=name, ExecutionRoleArn=ROLE, PrimaryContainer=container)


def _endpoint(hostler: Hostler, name: str) -> None:
    variant = {
        "VariantName": "AllTraffic", "ModelName": name, "InstanceType": "ml.m4.xlarge", "InitialInstanceCount": 1,
    }  # fmt: skip
    hostler.sm.create_endpoint_config(EndpointConfigName=name, ProductionVariants=[variant])
    hostler.sm.create_endpoint(EndpointName=name, EndpointConfigName=name)


def _failed(hostler: Hostler, name: str) -> dict[str, Any]:
    """Wait until the endpoint has failed; return DescribeEndpoint."""

    def failed() -> dict[str, Any] | None:
        description: dict[str, Any] = hostler.sm.describe_endpoint(EndpointName=name)
        assert description["EndpointStatus"] in ("Creating", "Failed"), name
        return description if description["EndpointStatus"] == "Failed" else None

    return eventually(failed, 120, f"{name} has failed")


def _golden(text: str) -> re.Pattern[str]:
    return re.compile(".*?".join(map(re.escape, text.split("..."))), re.DOTALL)
