"""A container that is not hostler's: Multi Model Server, through AWS's own toolkit, mapped under [images].

`tests/containers/mms/serve.py` describes its behaviour and its requirements.
"""

from __future__ import annotations

import http.client
import importlib
import json
import sys
from collections.abc import Callable
from pathlib import Path

import psutil
import pytest
import targets
from botocore.exceptions import ClientError
from running import BUCKET, REPOSITORY, Hostler, eventually, hostler_up

from hostler import names

IMAGE = "123456789012.dkr.ecr.us-east-1.amazonaws.com/mms:1.1.11"
SERVE = REPOSITORY / "tests" / "containers" / "mms" / "serve.py"
TARGETS, ROOM = 30, 10


@pytest.fixture(autouse=True)
def _needs(require: Callable[..., None]) -> None:
    require("java", "bwrap")


def test_multi_model_server_serves_30_targets_in_room_for_10(tmp_path: Path) -> None:
    with hostler_up(tmp_path / "up", config=_mapped(tmp_path)) as hostler:
        for number in range(TARGETS):
            _put(hostler, number)
        hostler.put("foreign/broken.tar.gz", targets.archive({"nothing": b"of use"}))
        hostler.create_endpoint("foreign", image=IMAGE, wait=60)

        for number in [*range(TARGETS), *reversed(range(0, TARGETS, 5))]:
            assert _id(hostler, number) == number
        [server] = _servers(hostler)
        assert len(_loaded(server)) == ROOM
        assert hostler.metric("hostler_model_unloads_total") >= TARGETS - ROOM

        # 404: unloaded by somebody else. The next call loads it again.
        assert _id(hostler, 0) == 0
        assert _request(server, "DELETE", f"/models/{_model(0)}")[0] == 200
        assert _id(hostler, 0) == 0
        # 409: loaded by somebody else. It counts as loaded.
        assert _request(server, "DELETE", f"/models/{_model(0)}")[0] == 200
        [folder] = (hostler.data / "containers").iterdir()
        (folder / "models" / "by-hand" / "model").mkdir(parents=True)
        (folder / "models" / "by-hand" / "model" / "id").write_text("1")
        by_hand = {"model_name": _model(1), "url": "/opt/ml/models/by-hand/model"}
        assert _request(server, "POST", "/models", by_hand)[0] == 200
        assert _id(hostler, 1) == 1
        # A load that it refuses is a ModelError, and other targets still answer.
        with pytest.raises(ClientError) as refused:
            hostler.invoke("foreign", "broken.tar.gz")
        assert refused.value.response["Error"]["Code"] == "ModelError"
        assert refused.value.response["OriginalStatusCode"] == 500
        assert _id(hostler, 2) == 2

        _delete(hostler)


def test_two_instances_of_multi_model_server_run_side_by_side(tmp_path: Path) -> None:
    with hostler_up(tmp_path / "up", config=_mapped(tmp_path)) as hostler:
        for number in range(4):
            _put(hostler, number)
        hostler.create_endpoint("foreign", image=IMAGE, wait=60, count=2)
        assert len(_servers(hostler)) == 2
        assert [_id(hostler, number) for number in range(4)] == [0, 1, 2, 3]
        _delete(hostler)


def test_catboost_models_answer_probabilities_by_a_handler_of_ones_own(
    tmp_path: Path, require: Callable[..., None]
) -> None:
    require("catboost")
    rows, labels = [[0.1, 2.0], [0.2, 1.0], [0.8, 3.0], [0.9, 0.0]], [0, 0, 1, 1]
    body = "a,b\n" + "".join(f"{a},{b}\n" for a, b in rows[1:3])
    with hostler_up(tmp_path / "up", config=_mapped(tmp_path)) as hostler:
        expected = {}
        for number in (1, 2):
            model = importlib.import_module("catboost").CatBoostClassifier(
                iterations=3 * number, verbose=0, allow_writing_files=False, thread_count=1
            )
            model.fit(rows, labels).save_model(file := str(tmp_path / "catboost_model.bin"))
            hostler.put(f"foreign/{number}.tar.gz", targets.archive({"catboost_model.bin": Path(file).read_bytes()}))
            expected[number] = dict(enumerate(model.predict_proba(rows[1:3]).flatten().tolist()))
        hostler.create_endpoint("foreign", image=IMAGE, wait=60, Environment={"HANDLER": "catboost_handler"})
        for number, probabilities in expected.items():
            answer = json.loads(hostler.invoke("foreign", f"{number}.tar.gz", body.encode()))
            assert {int(place): value for place, value in answer.items()} == pytest.approx(probabilities)
        _delete(hostler)


def _mapped(folder: Path) -> Path:
    config = folder / "mapped.toml"
    config.write_text(f'[images]\n"{IMAGE}" = ["{sys.executable}", "{SERVE}"]\n')
    return config


def _put(hostler: Hostler, number: int) -> None:
    hostler.put(f"foreign/{number}.tar.gz", targets.archive({"id": str(number).encode()}))


def _id(hostler: Hostler, number: int) -> int:
    return int(json.loads(hostler.invoke("foreign", f"{number}.tar.gz", b"anything"))["id"])


def _model(number: int) -> str:
    return names.model_id(BUCKET, f"foreign/{number}.tar.gz")


def _servers(hostler: Hostler) -> list[psutil.Process]:
    return hostler.named("com.amazonaws.ml.mms.ModelServer")


def _delete(hostler: Hostler) -> None:
    """Delete the endpoint; every process of its containers must end."""
    processes = hostler.named("mms")
    assert len(processes) > 2
    hostler.sm.delete_endpoint(EndpointName="foreign")
    eventually(lambda: not any(p.is_running() for p in processes), 60, "they have ended", lambda: str(processes))


def _request(server: psutil.Process, method: str, path: str, body: dict[str, str] | None = None) -> tuple[int, bytes]:
    """Send a request to Multi Model Server itself, on the port where it listens."""
    [port] = {c.laddr.port for c in server.net_connections("tcp") if c.status == psutil.CONN_LISTEN}
    connection = http.client.HTTPConnection("127.0.0.1", port, timeout=60)
    connection.request(method, path, json.dumps(body) if body else None, {"Content-Type": "application/json"})
    answer = connection.getresponse()
    content = answer.read()
    connection.close()
    return answer.status, content


def _loaded(server: psutil.Process) -> list[str]:
    status, body = _request(server, "GET", "/models")
    assert status == 200
    return [model["modelName"] for model in json.loads(body)["models"]]
