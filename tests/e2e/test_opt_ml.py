"""A script finds its files where a container of AWS has them: /opt/ml/model, and /opt/ml/models for many (§5.3).

Scripts of the public name these paths: from_pretrained('/opt/ml/model'), joblib.load('/opt/ml/model/model.joblib').
"""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest
from botocore.exceptions import ClientError
from running import BUCKET, Hostler, eventually, has_ended
from targets import archive

from hostler.host import namespaces
from hostler.testing.process import HostlerProcess, up

SKLEARN = "683313688378.dkr.ecr.us-east-1.amazonaws.com/sagemaker-scikit-learn:1.2-1-cpu-py3"

HUGGING_FACE = (
    "763104351884.dkr.ecr.us-east-1.amazonaws.com/"
    "huggingface-pytorch-inference:2.3.0-transformers4.48.0-cpu-py311-ubuntu22.04"
)

SINGLE = """
import json, os, subprocess, sys, threading
SEEN = {"import": open("/opt/ml/model/labels.txt").read(), "code": os.listdir("/opt/ml/model/code")}
def model_fn(model_dir):
    SEEN["model_fn"] = open("/opt/ml/model/labels.txt").read()
    SEEN["same"] = os.path.samefile(model_dir, "/opt/ml/model")
    SEEN["real"] = os.path.realpath("/opt/ml/model")
    SEEN["file"] = os.path.realpath(__file__)
    SEEN["opt"] = sorted(os.listdir("/opt"))
    return 1
def predict_fn(data, model):
    SEEN["call"] = open("/opt/ml/model/labels.txt").read()
    SEEN["child"] = subprocess.check_output(["cat", "/opt/ml/model/labels.txt"], text=True)
    SEEN["python"] = subprocess.check_output(
        [sys.executable, "-c", "print(open('/opt/ml/model/labels.txt').read())"], text=True).strip()
    thread = threading.Thread(target=lambda: SEEN.update(thread=open("/opt/ml/model/labels.txt").read()))
    thread.start(); thread.join()
    open("/opt/ml/model/written", "w").write("by the script")
    SEEN["home"] = os.environ["HOME"], os.environ["SAGEMAKER_BASE_DIR"]
    SEEN["user"] = os.getuid()
    return SEEN
def output_fn(prediction, accept):
    return json.dumps(prediction)
"""
MANY = """
import json, os
def model_fn(model_dir):
    return open(os.path.join(model_dir, "name")).read()
def predict_fn(data, model):
    found = sorted(open(f"/opt/ml/models/{each}/model/name").read() for each in os.listdir("/opt/ml/models"))
    try:
        [open(f"/opt/ml/models/{each}/model/name", "w") for each in os.listdir("/opt/ml/models")]
    except OSError as error:
        found.append(error.strerror)
    return found
def output_fn(prediction, accept):
    return json.dumps(prediction)
"""


# What follows runs where the system's limits allow no namespace.
REFUSING = (
    "unshare", "--user", "--map-root-user", "sh", "-c",
    'echo 0 > /proc/sys/user/max_mnt_namespaces; echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"', "sh",
)  # fmt: skip


@pytest.fixture(autouse=True)
def _needs_namespaces() -> None:
    if refused := namespaces.trial().opt_ml:
        pytest.skip(f"nothing can be mounted at /opt/ml here: {refused}")


@pytest.mark.parametrize(("workers", "image"), [("1", SKLEARN), ("2", SKLEARN), ("1", HUGGING_FACE)])
def test_a_script_opens_its_files_below_opt_ml_model_at_import_at_load_and_at_a_call(
    hostler: Hostler, workers: str, image: str
) -> None:
    before = sorted(os.listdir("/opt"))
    seen = _asked(
        hostler,
        f"single-{workers}-{['sk', 'hf'][image == HUGGING_FACE]}",
        SINGLE,
        {"SAGEMAKER_MODEL_SERVER_WORKERS": workers},
        image,
    )
    for when in ("import", "model_fn", "call", "child", "python", "thread"):
        assert seen[when] == "cat", when
    assert seen["code"] == ["inference.py"]
    assert seen["same"]
    assert seen["real"] == "/opt/ml/model"
    assert seen["file"] == "/opt/ml/model/code/inference.py"
    assert seen["opt"] == sorted({*before, "ml"})
    assert seen["home"] == ["/opt/ml", "/opt/ml"]
    assert seen["user"] == os.getuid()
    assert sorted(os.listdir("/opt")) == before, "nothing was made on the machine"
    folders = [*(hostler.data / "containers").glob("*/model/written")]
    assert [path.read_text() for path in folders[:1]] == ["by the script"]


def test_targets_find_each_other_below_opt_ml_models_and_cannot_change_what_containers_share(hostler: Hostler) -> None:
    for name in ("first", "second"):
        hostler.put(f"many/{name}.tar.gz", archive({"code/inference.py": MANY.encode(), "name": name.encode()}))
    hostler.create_endpoint("many", image=SKLEARN)
    assert json.loads(hostler.invoke("many", "first.tar.gz"))[0] == "first"
    assert json.loads(hostler.invoke("many", "second.tar.gz")) == ["first", "second", "Read-only file system"]


def test_a_container_finds_its_files_and_goes_on_when_control_was_killed(hostler: Hostler) -> None:
    _asked(hostler, "adopted", SINGLE)
    [container] = [process for process in hostler.containers if _mounted(process.pid)][:1]
    control = hostler.control
    control.kill()
    eventually(lambda: {*hostler.named("hostler.control.main")} - {control}, 60, "another control")
    eventually(lambda: _answers(hostler), 60, "it answers")
    hostler.wait_in_service("adopted")
    assert json.loads(_invoke(hostler, "adopted"))["call"] == "cat"
    assert not has_ended(container)


def test_where_namespaces_are_refused_scripts_run_as_before_and_start_says_so(tmp_path: Path) -> None:
    command = [*REFUSING, *up(tmp_path / "data")]
    environment = {
        "PATH": os.environ["PATH"],
        "HOME": str(tmp_path),
        "HOSTLER_BUBBLEWRAP": "off",
        "HOSTLER_ENGINE": "process",
    }
    process = HostlerProcess(command, environment, tmp_path, tmp_path / "output")
    try:
        url = process.wait_until_ready(60)
        assert "There is no /opt/ml for scripts and hostler's own servers here: " in process.output()
        started = Hostler(tmp_path, {})
        started.url = url
        script = "import os\ndef model_fn(d): return open(d + '/labels.txt').read() + str(os.path.exists('/opt/ml'))\n"
        script += "def predict_fn(data, model): return model\ndef output_fn(p, accept): return p\n"
        _host(started, "plain", script, {})
        assert _invoke(started, "plain").decode() == f"cat{Path('/opt/ml').exists()}"
        # EnableNetworkIsolation is never ignored.
        reason = _host(started, "isolated", script, {}, EnableNetworkIsolation=True)
        assert "EnableNetworkIsolation" in reason
        assert "namespaces" in reason
    finally:
        assert process.end() == 0


def test_lint_warns_of_a_path_that_a_script_would_not_find_here_and_only_where_that_is_so(tmp_path: Path) -> None:
    script = "def model_fn(d):\n    return open('/opt/ml/model/x').read()\ndef predict_fn(x, m): return m\n"
    (tmp_path / "model.tar.gz").write_bytes(archive({"code/inference.py": script.encode()}))
    lint = [sys.executable, "-m", "hostler.cli", "lint", str(tmp_path / "model.tar.gz")]
    found = [
        subprocess.run([*before, *lint], capture_output=True, text=True, timeout=60, check=False)
        for before in (REFUSING, ())
    ]
    assert [each.returncode for each in found] == [0, 0]
    assert (
        "warning: code/inference.py:2: It names a path in /opt/ml, which is there on AWS and not here"
        in found[0].stdout
    )
    assert found[1].stdout.startswith("Nothing found.")


def _asked(
    hostler: Hostler, name: str, script: str, environment: dict[str, str] | None = None, image: str = SKLEARN
) -> dict[str, Any]:
    assert not _host(hostler, name, script, environment or {}, image)
    answer: dict[str, Any] = json.loads(_invoke(hostler, name))
    return answer


def _invoke(hostler: Hostler, name: str) -> bytes:
    answer = hostler.runtime.invoke_endpoint(EndpointName=name, ContentType="application/json", Body=b"[[1]]")
    content: bytes = answer["Body"].read()
    return content


def _host(
    hostler: Hostler, name: str, script: str, environment: dict[str, str], image: str = SKLEARN, **more: Any
) -> str:
    """Host a script as a single model; return the FailureReason, empty if it is InService."""
    hostler.put(f"{name}.tar.gz", archive({"code/inference.py": script.encode(), "labels.txt": b"cat"}))
    container = {"Image": image, "ModelDataUrl": f"s3://{BUCKET}/{name}.tar.gz", "Environment": environment}
    hostler.deploy(name, container, **more)
    return hostler.settled(name)


def _answers(hostler: Hostler) -> bool:
    try:
        return bool(hostler.sm.list_endpoints()["Endpoints"])
    except ClientError:  # 503 while there is no control
        return False


def _mounted(pid: int) -> bool:
    return " /opt/ml " in Path(f"/proc/{pid}/mountinfo").read_text()
