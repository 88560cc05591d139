"""hostler's own servers in Docker: processes of models are called at their ports, not through their server."""

from __future__ import annotations

import contextlib
import signal
import threading
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import psutil
import pytest
import targets
from botocore.exceptions import ClientError
from hop_endpoints import deploy
from running import ANY_IMAGE, BUCKET, Hostler, eventually, hostler_up
from users_images import containers, inspect

import docker_rig
from our_images import our_image

pytestmark = [pytest.mark.docker, pytest.mark.slow]

TIME = 6.0  # seconds: invoke_timeout
CALLS = 40
WORKERS = {"SAGEMAKER_MODEL_SERVER_WORKERS": "2"}
SCRIPT = """
import os, time

def model_fn(model_dir):
    return None

def transform_fn(model, data, content_type, accept):
    if data == "hangs":
        time.sleep(1e6)
    return f"{data} {os.getpid()}", "text/csv"
"""


@pytest.fixture(scope="module")
def hostler(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Hostler]:
    """Endpoints of scripts: `many`, multi-model; `shared`, the same with two workers; `one`, a single model."""
    folder = tmp_path_factory.mktemp("ports")
    settings: dict[str, Any] = {
        "engine": "docker",
        "docker_host": docker_rig.address(),
        "server_image": our_image("hostler-server"),
        "startup_timeout": 90,
        "invoke_timeout": TIME,
    }
    data = folder / "up" / "data"
    try:
        with hostler_up(folder / "up", **settings) as hostler:
            for endpoint, environment in (("many", {}), ("shared", WORKERS)):
                for name in ("a", "b"):
                    hostler.put(f"{endpoint}/{name}.tar.gz", targets.script_target(SCRIPT))
                hostler.create_endpoint(endpoint, Environment=environment, wait=120)
            url = f"s3://{BUCKET}/many/a.tar.gz"
            deploy(hostler, "one", [{"Image": ANY_IMAGE, "ModelDataUrl": url, "Environment": WORKERS}])
            yield hostler
        assert not containers(data)
    finally:
        if left := containers(data):
            docker_rig.docker("rm", "--force", *left)


def call(hostler: Hostler, endpoint: str, body: str, target: str = "") -> int:
    """Return the process that answered."""
    more = {"TargetModel": target} if target else {}
    answer = hostler.runtime.invoke_endpoint(
        EndpointName=endpoint, Body=body.encode(), ContentType="text/csv", Accept="text/csv", **more
    )
    echoed, pid = answer["Body"].read().decode().split()
    assert echoed == body
    return int(pid)


@contextlib.contextmanager
def servers_stopped(hostler: Hostler) -> Iterator[None]:
    """Stop the servers that answer pings and loads; their models' processes run on."""
    inits = [psutil.Process(inspect(name)["State"]["Pid"]) for name in containers(hostler.data)]
    servers = [server for init in inits for server in init.children()]
    assert len(servers) == 3
    for server in servers:
        server.send_signal(signal.SIGSTOP)
    try:
        yield
    finally:
        for server in servers:
            server.send_signal(signal.SIGCONT)


def test_calls_reach_processes_while_their_servers_stand_still(hostler: Hostler) -> None:
    callees = [("many", "a.tar.gz"), ("many", "b.tar.gz"), ("shared", "a.tar.gz"), ("one", "")]
    for endpoint, target in callees:
        call(hostler, endpoint, "first", target)
    pings = hostler.metric("hostler_pings_total")
    rounds = 2 * len(containers(hostler.data))  # a ping names the ports of a single model
    eventually(lambda: hostler.metric("hostler_pings_total") >= pings + rounds, 120, "each was pinged")
    with servers_stopped(hostler):
        pids = {
            (endpoint, target): {call(hostler, endpoint, f"call-{number}", target) for number in range(CALLS)}
            for endpoint, target in callees
        }
    assert {callee: len(found) for callee, found in pids.items()} == {
        ("many", "a.tar.gz"): 1, ("many", "b.tar.gz"): 1, ("shared", "a.tar.gz"): 2, ("one", ""): 2,
    }  # fmt: skip


@pytest.mark.parametrize("endpoint", ["many", "shared"])
def test_a_call_that_never_returns_ends_alone_and_what_waits_behind_it_is_answered(
    hostler: Hostler, endpoint: str
) -> None:
    before = call(hostler, endpoint, "first", "b.tar.gz")
    hanging = threading.Event()

    def hang() -> str:
        hanging.set()
        with pytest.raises(ClientError) as failed:
            call(hostler, endpoint, "hangs", "b.tar.gz")
        return str(failed.value.response["Error"]["Code"])

    with ThreadPoolExecutor(11) as threads:
        hangs = threads.submit(hang)
        assert hanging.wait(60)
        time.sleep(TIME - 1)  # their time is up so much later
        behind = [threads.submit(call, hostler, endpoint, f"behind-{number}", "b.tar.gz") for number in range(10)]
        assert hangs.result() == "ModelError"
        pids = {each.result() for each in behind}
    if endpoint == "many":
        assert before not in pids, "the process that hung has ended"
    assert call(hostler, endpoint, "after", "b.tar.gz")
    assert call(hostler, endpoint, "after", "a.tar.gz")
