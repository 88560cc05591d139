"""The image hostler-server by itself, as SageMaker runs it and as hostler does: `docker run IMAGE serve`."""

from __future__ import annotations

import json
import re
import subprocess
import time
from collections.abc import Iterator
from pathlib import Path

import pytest
from containers_of_ours import booster, script
from server_in_image import ContainerInImage

import docker_rig
from our_images import our_image

pytestmark = pytest.mark.docker

HARDENED = ("--read-only", "--cap-drop=ALL", "--security-opt=no-new-privileges", "--user=10001:10001")


def run(*words: str) -> subprocess.CompletedProcess[str]:
    command = ["docker", "--host", docker_rig.address(), "run", "--rm", *words]
    return subprocess.run(command, capture_output=True, text=True, timeout=120, check=False)


@pytest.fixture
def start(tmp_path: Path) -> Iterator[object]:
    started: list[ContainerInImage] = []

    def start(*options: str, **environment: str) -> ContainerInImage:
        started.append(ContainerInImage(tmp_path, environment, options=options))
        return started[-1]

    yield start
    for container in started:
        container.end()


def test_the_image_says_what_sagemaker_asks_of_it() -> None:
    [image] = json.loads(docker_rig.docker("image", "inspect", our_image("hostler-server")))
    config = image["Config"]
    assert config["Labels"] == {
        "com.amazonaws.sagemaker.capabilities.multi-models": "true",
        "com.amazonaws.sagemaker.capabilities.accept-bind-to-port": "true",
    }
    assert (config["Cmd"], [*config["ExposedPorts"]], config["User"]) == (["serve"], ["8080/tcp"], "")


@pytest.mark.parametrize(
    ("words", "line"),
    [
        (("train",), "the only argument is `serve`, not `train`"),
        (("serve", "now"), "the only argument is `serve`, not `serve now`"),
    ],
)
def test_another_argument_is_refused_in_one_line(words: tuple[str, ...], line: str) -> None:
    done = run("--network=none", our_image("hostler-server"), *words)
    assert (done.returncode, done.stdout, done.stderr) == (2, "", line + "\n")


def test_a_port_that_is_none_is_refused_in_one_line() -> None:
    for port, reason in (
        ("99999", "the server cannot listen on port 99999: "),
        ("x", "SAGEMAKER_BIND_TO_PORT is not a number: x"),
    ):
        done = run("--network=none", f"--env=SAGEMAKER_BIND_TO_PORT={port}", our_image("hostler-server"))
        assert (done.returncode, done.stdout, done.stderr.count("\n")) == (1, "", 1), done
        assert done.stderr.startswith(reason)


def test_a_framework_that_cannot_be_imported_ends_a_server_of_it_in_one_line_and_no_server_of_any_models(
    start, tmp_path: Path
) -> None:
    broken = tmp_path / "packages"
    (broken / "xgboost").mkdir(parents=True)
    reason = "libgomp.so.1: cannot open shared object file"
    (broken / "xgboost" / "__init__.py").write_text(f"raise OSError({reason!r})")
    options = (f"--volume={broken}:/broken", "--env=PYTHONPATH=/broken")
    done = run("--network=none", *options, "--env=HOSTLER_FRAMEWORK=xgboost", our_image("hostler-server"))
    assert (done.returncode, done.stdout, done.stderr) == (1, "", reason + "\n")
    server = start(*options, SAGEMAKER_MULTI_MODEL="true").wait()
    script(server.model("code"), "def model_fn(d): return 1\ndef predict_fn(data, model): return model")
    server.loaded("code")
    assert server.invoke("code", b"[1]", "application/json").json == 1


def test_with_a_read_only_root_no_capabilities_and_another_user_it_serves_models_and_scripts(
    start, tmp_path: Path
) -> None:
    tmp_path.chmod(0o777)
    server = start(*HARDENED, SAGEMAKER_MULTI_MODEL="true").wait()
    trained = booster(server.model("trees"), 7.0)
    server.loaded("trees")
    assert server.invoke("trees", b"1,2,3").status == 200
    script(
        server.model("code"),
        """
        import os, tempfile
        def model_fn(d): return os.getuid()
        def predict_fn(data, model):
            with tempfile.TemporaryFile() as file: file.write(b"x")
            return model
        """,
    )
    server.loaded("code")
    assert server.invoke("code", b"[1]", "application/json").json == 10001
    assert trained
    assert server.end() == 0


def test_it_ends_at_once_on_sigterm_even_while_it_imports_and_leaves_no_zombie(start) -> None:
    server = start(HOSTLER_FRAMEWORK="xgboost", SAGEMAKER_MULTI_MODEL="true")
    assert server.end() == 0


def test_orphans_of_a_script_are_reaped_by_process_1(start) -> None:
    server = start(SAGEMAKER_MULTI_MODEL="true").wait()
    script(
        server.model("forks"),
        """
        import os, subprocess
        def model_fn(d): return 0
        def predict_fn(data, model):
            for _ in range(20):
                if not os.fork():
                    if not os.fork(): os._exit(0)
                    os._exit(0)
                os.wait()
            return 1
        """,
    )
    server.loaded("forks")
    assert server.invoke("forks", b"[1]", "application/json").json == 1
    assert server.ask("DELETE", "/models/forks").status == 200
    end = time.monotonic() + 120
    while len(processes := docker_rig.docker("top", server.process.id, "-eo", "pid,stat").splitlines()[1:]) > 2:
        assert time.monotonic() < end, processes
        time.sleep(0.1)
    assert not [line for line in processes if "Z" in line.split()[1]]


def test_it_has_a_worker_for_each_processor_of_its_limit(start) -> None:
    scripts = {"SAGEMAKER_MULTI_MODEL": "true", "HOSTLER_FRAMEWORK": "script"}  # half a processor imports no framework
    server = start("--cpus=0.5", **scripts, SAGEMAKER_MODEL_SERVER_WORKERS="").wait()
    assert server.ask("GET", "/execution-parameters").json["MaxConcurrentTransforms"] == 1


def test_a_load_that_the_kernel_ends_for_its_memory_is_507_and_no_other_model_ends(start) -> None:
    server = start(
        "--memory=300m", "--memory-swap=300m", SAGEMAKER_MULTI_MODEL="true", HOSTLER_FRAMEWORK="script"
    ).wait()
    script(server.model("small"), "def model_fn(d): return 1\ndef predict_fn(data, model): return model")
    server.loaded("small")
    script(
        server.model("large"), f"def model_fn(d): return b'x' * {500 * 2**20}\ndef predict_fn(data, model): return 1"
    )
    answer = server.load("large")
    assert (answer.status, "no memory for the model" in answer.json["message"]) == (507, True)
    assert server.invoke("small", b"[1]", "application/json").json == 1


def test_a_load_beyond_the_containers_memory_is_507_and_after_an_unload_there_is_room(start) -> None:
    server = start(
        "--memory=400m", "--memory-swap=400m", SAGEMAKER_MULTI_MODEL="true", HOSTLER_FRAMEWORK="script"
    ).wait()
    text = f"""
        def model_fn(d):
            model = bytearray({60 * 2**20})
            model[::4096] = b"x" * len(model[::4096])
            return model
        def predict_fn(data, model): return len(model)
    """
    names = [f"m{number}" for number in range(12)]
    loaded = []
    for name in names:
        script(server.model(name), text)
        (server.folder / "models" / name / "model" / "weights").write_bytes(b"x" * (60 * 2**20))
        answer = server.load(name)
        if answer.status != 200:
            break
        loaded.append(name)
    assert answer.status == 507
    assert re.search(r"no memory for the model: its files have 60 MiB, of 400 MiB \d+ are left", answer.json["message"])
    assert 2 <= len(loaded) < 7
    assert server.ask("DELETE", f"/models/{loaded[0]}").status == 200
    end = time.monotonic() + 120
    while server.load(name).status != 200:  # what a process held is free when it has ended
        assert time.monotonic() < end
        time.sleep(0.1)
    assert server.invoke(name, b"[1]", "application/json").json == 60 * 2**20
