"""Multi Model Server in an image of a user's own, with more models than its memory has room for."""

from __future__ import annotations

import asyncio
import http.client
import itertools
import json
import random
import time
from pathlib import Path

import pytest
from botocore.exceptions import ClientError
from callers import Caller
from running import BUCKET, Hostler
from users_images import containers, eventually_no_containers, hostler_on_docker, inspect, weights_target

from hostler import names
from hostler.processes.tree import descendants

pytestmark = [pytest.mark.docker, pytest.mark.alone]

PORT = 8080
CALLERS = 16
MEGABYTES = 8  # that a model holds
MODEL = 31 * 2**20  # bytes that its processes hold with it


def test_what_the_server_answers_for_itself_is_understood(tmp_path: Path) -> None:
    """It refuses a load for memory (507), has a model already (409), or has it no longer (404)."""
    models, room = 8, 3
    with hostler_on_docker(tmp_path) as (hostler, registry):
        for number in range(models):
            hostler.put(f"many/{number}.tar.gz", weights_target(number))
        hostler.create_endpoint("many", image=registry.push("mine", "mms", MODELS=str(room)), wait=90)
        for number in [*range(models), *range(0, models, 3)]:
            assert _predict(hostler, "many", number) == number  # for all but the first of these it has no room
        [container] = containers(hostler.data)
        assert len(_loaded(container)) == room
        assert hostler.metric("hostler_model_unloads_total") >= models - room

        assert _predict(hostler, "many", 0) == 0
        assert _ask(container, "DELETE", f"/models/{_model('many', 0)}") == 200  # by somebody else
        assert _predict(hostler, "many", 0) == 0

        assert _ask(container, "DELETE", f"/models/{_model('many', 0)}") == 200
        folder = "/opt/ml/models/by-hand/model"
        _write(container, folder, "weights", "1")
        assert _ask(container, "POST", "/models", {"model_name": _model("many", 1), "url": folder}) in (200, 409)
        assert _predict(hostler, "many", 1) == 1

        hostler.put("many/broken.tar.gz", weights_target())
        with pytest.raises(ClientError) as refused:
            hostler.invoke("many", "broken.tar.gz")
        assert refused.value.response["Error"]["Code"] == "ModelError"
        assert _predict(hostler, "many", 2) == 2
        hostler.sm.delete_endpoint(EndpointName="many")
        eventually_no_containers(hostler)


@pytest.mark.parametrize(("models", "room", "seconds"), [(60, 6, 8), pytest.param(200, 20, 60, marks=pytest.mark.slow)])
def test_many_models_are_answered_correctly_in_memory_for_a_tenth_of_them(
    tmp_path: Path, models: int, room: int, seconds: int
) -> None:
    memory = round((room + 0.5) * MODEL)
    with hostler_on_docker(tmp_path, instance_memory=memory) as (hostler, registry):
        for number in range(models):
            hostler.put(f"zipf/{number}.tar.gz", weights_target(number, megabytes=MEGABYTES))
        hostler.create_endpoint("zipf", image=registry.push("mine", "mms"), wait=90)
        assert _predict(hostler, "zipf", 0) == 0

        calls, failures, peak = asyncio.run(_call_for(hostler.url, containers(hostler.data)[0], models, seconds))

        resident = hostler.metric("hostler_resident_targets")
        loads = hostler.metric("hostler_model_loads_total")
        print(f"{calls} calls, {loads:.0f} loads, {resident:.0f} resident, {peak >> 20} of {memory >> 20} MiB held")
        assert not failures, failures[:5]
        assert abs(resident - room) <= max(3, room // 4)  # a process of Java's and Python's is not always as large
        assert peak <= memory + 2 * MODEL  # how much a model takes is known when it is loaded
        hostler.sm.delete_endpoint(EndpointName="zipf")
        eventually_no_containers(hostler)


async def _call_for(url: str, container: str, models: int, seconds: float) -> tuple[int, list[str], int]:
    """Return the number of calls, a description of each incorrect answer, and the most memory that models held."""
    random_ = random.Random(1)
    weights = list(itertools.accumulate(1 / rank**1.1 for rank in range(1, models + 1)))
    numbers = list(range(models))
    random_.shuffle(numbers)
    calls, peak = 0, 0
    failures: list[str] = []
    end = time.monotonic() + seconds

    async def call_repeatedly() -> None:
        nonlocal calls
        async with Caller(url) as caller:
            while time.monotonic() < end:
                [number] = random_.choices(numbers, cum_weights=weights)
                calls += 1
                answer = await caller.invoke("zipf", f"{number}.tar.gz", b"1")
                if answer.status != 200 or json.loads(answer.body) != [number]:
                    failures.append(f"{number}: {answer.status} {answer.body[:300]!r}")

    async def watch() -> None:
        nonlocal peak
        while time.monotonic() < end:
            peak = max(peak, await asyncio.to_thread(_held, container))
            await asyncio.sleep(0.2)

    await asyncio.gather(watch(), *(call_repeatedly() for _ in range(CALLERS)))
    return calls, failures, peak


def _predict(hostler: Hostler, endpoint: str, number: int) -> float:
    [prediction] = json.loads(hostler.invoke(endpoint, f"{number}.tar.gz", b"1"))
    return float(prediction)


def _model(endpoint: str, number: int) -> str:
    return names.model_id(BUCKET, f"{endpoint}/{number}.tar.gz")


def _held(container: str) -> int:
    """Return the bytes that the processes of the container's models hold, without files."""
    held = 0
    for pid in descendants(inspect(container)["State"]["Pid"]):
        try:
            if b"model_service_worker" in Path(f"/proc/{pid}/cmdline").read_bytes():
                lines = Path(f"/proc/{pid}/status").read_text().splitlines()
                held += sum(int(line.split()[1]) << 10 for line in lines if line.startswith(("RssAnon:", "RssShmem:")))
        except OSError:
            continue  # it has ended
    return held


def _ask(container: str, method: str, path: str, body: dict[str, str] | None = None) -> int:
    return _answer(container, method, path, body)[0]


def _loaded(container: str) -> list[str]:
    return [model["modelName"] for model in json.loads(_answer(container, "GET", "/models")[1])["models"]]


def _answer(container: str, method: str, path: str, body: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Send a request to the server itself."""
    [network] = inspect(container)["NetworkSettings"]["Networks"].values()
    connection = http.client.HTTPConnection(network["IPAddress"], PORT, timeout=60)
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def _write(container: str, folder: str, name: str, text: str) -> None:
    """Write a file that the container sees in this folder."""
    sources = {mount["Destination"]: Path(mount["Source"]) for mount in inspect(container)["Mounts"]}
    destination = max((each for each in sources if folder.startswith(f"{each}/")), key=len)
    path = sources[destination] / folder.removeprefix(f"{destination}/")
    path.mkdir(parents=True)
    (path / name).write_text(text)
