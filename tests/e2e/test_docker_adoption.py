"""The hostler after a killed one takes over containers of every kind: of pipelines, without a network, of targets.

The dockerd is the test's own.
"""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
import targets
from dockerds import Dockerd
from hop_endpoints import create_endpoint, create_model, deploy, hops, mapped_config, trace, variant
from running import BUCKET, ROLE, Hostler, eventually

pytestmark = [pytest.mark.docker, pytest.mark.slow]

TARGETS = 3


def answers(hostler: Hostler) -> dict[str, list[str]]:
    """Return the processes that answer a call of each endpoint and target, in order."""
    found = {}
    for name in ("pipeline", "isolated"):
        answer = hostler.runtime.invoke_endpoint(EndpointName=name, Body=b"a body", ContentType="text/csv")
        found[name] = [hop["process"] for hop in trace(answer["Body"].read())[1]]
    for number in range(TARGETS):
        [hop] = trace(hostler.invoke("many", f"{number}.tar.gz"))[1]
        assert hop["model"] == str(number)
        found[f"many/{number}"] = [hop["process"]]
    return found


def serves(hostler: Hostler) -> bool:
    try:
        return bool(answers(hostler))
    except hostler.runtime.exceptions.ClientError:
        return False


def create(hostler: Hostler, image: str) -> None:
    def define(name: str) -> dict[str, Any]:
        return {"Image": image, "ContainerHostname": name, "Environment": {"NAME": name}}

    create_model(hostler, "pipeline", [define("first"), *hops("process"), define("last")])
    create_endpoint(hostler, "pipeline", variant("pipeline"))
    hostler.sm.create_model(
        ModelName="isolated", ExecutionRoleArn=ROLE, PrimaryContainer=define("alone"), EnableNetworkIsolation=True
    )
    create_endpoint(hostler, "isolated", variant("isolated"))
    for number in range(TARGETS):
        hostler.put(f"many/{number}.tar.gz", targets.archive({"name": str(number).encode()}))
    many = {"Mode": "MultiModel", "ModelDataUrl": f"s3://{BUCKET}/many/"}
    deploy(hostler, "many", [define("many") | many])


def test_containers_of_every_kind_are_taken_over_and_none_is_started_or_loaded_again(
    own: Dockerd, tmp_path: Path
) -> None:
    settings = {**own.settings, "config": mapped_config(tmp_path, "process")}
    killed, hostler = Hostler(tmp_path / "up", settings), Hostler(tmp_path / "up", settings)
    try:
        killed.start()
        create(killed, own.image("hop"))
        before, started = answers(killed), own.running()
        killed.host.kill()
        killed._popen.wait(30)
        eventually(lambda: not killed.remains(), 60, "its processes have ended", lambda: str(killed.remains()))

        hostler.start()
        eventually(lambda: serves(hostler), 60, "all endpoints serve")

        after = answers(hostler)
        # The process in the middle of the pipeline ended with its host, and is replaced between the two that live.
        assert after["pipeline"][1] != before["pipeline"][1]
        before["pipeline"][1] = after["pipeline"][1]
        assert after == before
        assert own.running() == started
        assert hostler.metric("hostler_model_loads_total") == 0
        assert hostler.metric("hostler_downloads_total") == 0
        hostler.stop()
        own.assert_nothing_is_left()
    except BaseException:
        print(hostler.tail())
        raise
    finally:
        for each in (killed, hostler):
            if hasattr(each, "_popen"):
                each.destroy()
