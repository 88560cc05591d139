"""The multi-model half of the container contract (§5.8), asked of our own server as a process."""

from __future__ import annotations

import contextlib
import json
import os
import pickle
import time
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
from containers_of_ours import Container, ask, booster, estimator, running, said_by, script, status_of


@pytest.fixture(scope="module")
def server(stage: None, tmp_path_factory: pytest.TempPathFactory) -> Iterator[Container]:
    with running(tmp_path_factory.mktemp("ml"), SAGEMAKER_MULTI_MODEL="true") as container:
        yield container.wait()


def test_a_server_without_models_is_healthy_and_lists_none(server: Container) -> None:
    assert server.ask("GET", "/ping").status == 200
    assert server.ask("GET", "/models").json == {"models": []}


def test_a_target_is_loaded_invoked_listed_and_unloaded(server: Container) -> None:
    trained = booster(server.model("life"), 50.0)
    told = server.loaded("life")
    assert told["memory"] >= (server.folder / "models/life/model/xgboost-model").stat().st_size
    assert not server.own(told)
    answer = server.invoke("life", b"1,2,nan")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.json == said_by(trained, [[1, 2, float("nan")]])
    entry = {"modelName": "life", "modelUrl": server.url(server.folder / "models/life/model"), "memory": told["memory"]}
    assert server.ask("GET", "/models/life").json == entry
    assert entry in server.ask("GET", "/models").json["models"]
    again = server.load("life")
    assert again.status == 409
    assert again.json["message"] == "Model life is already registered."
    gone = server.ask("DELETE", "/models/life")
    assert (gone.status, gone.json) == (200, {"status": 'Model "life" unregistered'})
    assert server.ask("DELETE", "/models/life").status == 404
    assert server.ask("GET", "/models/life").status == 404
    after = server.invoke("life", b"1,2,3")
    assert (after.status, after.json["message"]) == (404, "Model not found: life")


def test_a_url_as_the_contract_writes_it_is_found_below_the_base(server: Container) -> None:
    booster(server.model("contract"))
    assert server.load("contract", Path("/opt/ml/models/contract/model")).status == 200
    assert server.ask("GET", "/models/contract").json["modelUrl"] == "/opt/ml/models/contract/model"
    server.ask("DELETE", "/models/contract")


@pytest.mark.parametrize(
    ("url", "status"),
    [
        ("../models/x", 404),
        ("models/x", 404),
        ("/opt/ml/models/nothing/model", 404),
        ("/opt/ml/../../etc", 404),
        ("/etc", 400),
        ("/opt/ml", 400),
        ("/opt/ml/models/out", 400),
        ("/opt/ml/log", 404),
        ("/opt/ml/a\0b", 404),
        ("", 404),
    ],
)
def test_a_url_that_is_no_folder_below_the_base_is_refused(server: Container, url: str, status: int) -> None:
    (server.folder / "models").mkdir(exist_ok=True)
    if not (server.folder / "models/out").is_symlink():
        (server.folder / "models/out").symlink_to("/etc")
    answer = server.register("refused", url)
    assert answer.status == status
    assert str(server.folder) not in answer.text


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{",
        b"[]",
        b"{}",
        b'{"model_name": 1, "url": "/opt/ml/x"}',
        b'{"model_name": "a/b", "url": "/opt/ml/x"}',
        b'{"model_name": "", "url": "/opt/ml/x"}',
        b'{"model_name": "' + b"n" * 300 + b'", "url": "/opt/ml/x"}',
        b'{"model_name": ' + b"[" * 100_000,
        b"\xff\xfe",
    ],
)
def test_a_malformed_load_is_a_bad_request(server: Container, body: bytes) -> None:
    assert server.ask("POST", "/models", body).status == 400


def test_the_list_is_paged_by_name_and_every_model_comes_once(server: Container) -> None:
    names = [f"page{number:02}" for number in range(7)]
    for name in names:
        estimator(server.model(name))
        server.loaded(name)
    found: list[str] = []
    path = "/models?limit=3"
    while True:
        page = server.ask("GET", path).json
        assert len(page["models"]) <= 3
        found += [entry["modelName"] for entry in page["models"]]
        if "nextPageToken" not in page:
            break
        path = f"/models?limit=3&next_page_token={page['nextPageToken']}"
    assert found == names
    for limit in ("0", "-1", "x", "9" * 40, "%C2%B2"):
        assert server.ask("GET", f"/models?limit={limit}").status == 400
    assert len(server.ask("GET", "/models?limit=5000").json["models"]) == 7
    for name in names:
        server.ask("DELETE", f"/models/{name}")


def test_unknown_paths_are_404_and_wrong_methods_405(server: Container) -> None:
    assert server.ask("GET", "/nothing").status == 404
    assert server.ask("POST", "/invocations", b"1").status == 404
    assert server.ask("PUT", "/models").status == 405
    assert server.ask("GET", "/models/x/invoke").status == 404
    assert server.ask("GET", "/execution-parameters").json["MaxPayloadInMB"] == 6
    assert server.invoke("%2e%2e%2fetc", b"1").status == 404


def test_two_loads_of_one_target_at_once_are_one_load(server: Container) -> None:
    folder = server.model("twice")
    script(
        folder,
        """
        import os, time
        def model_fn(folder):
            os.mkdir(os.path.join(folder, "loading"))  # fails the second time
            time.sleep(0.3)
        def predict_fn(data, model): return 1
        """,
    )
    first = server.connect()
    second = server.connect()
    body = b'{"model_name": "twice", "url": "/opt/ml/models/twice/model"}'
    first.request("POST", "/models", body)
    second.request("POST", "/models", body)
    statuses = [status_of(connection) for connection in (first, second)]
    assert sorted(statuses) == [200, 409]
    server.ask("DELETE", "/models/twice")


@pytest.mark.parametrize("name", ["model.joblib", "model.pkl", "anything.joblib"])
def test_an_sklearn_artifact_is_recognized_by_its_file(server: Container, name: str) -> None:
    fitted = estimator(server.model("sk"), name)
    server.loaded("sk")
    answer = server.invoke("sk", b"[[1.0, 2.0], [3.0, 4.0]]", "application/json")
    assert (answer.status, answer.content_type) == (200, "application/json")
    assert answer.json == fitted.predict([[1.0, 2.0], [3.0, 4.0]]).tolist()
    assert server.invoke("sk", b"1,2,3").status == 400
    assert server.invoke("sk", b"x,y").status == 400
    assert server.invoke("sk", b"1,2", "image/png").status == 415
    assert server.invoke("sk", b"1,2", accept="image/png").status == 406
    assert server.invoke("sk", b"1,2", accept="text/csv").text.endswith("\n")
    server.ask("DELETE", "/models/sk")


def test_an_artifact_that_does_not_load_says_why_and_no_folder_of_this_machine(server: Container) -> None:
    server.model("bad").joinpath("xgboost-model").write_bytes(b"no model at all")
    answer = server.load("bad")
    assert answer.status == 500
    assert "xgboost-model does not load" in answer.json["message"]
    server.model("bad").joinpath("xgboost-model").write_bytes(b'{"learner": {}}')
    assert server.load("bad").status == 500
    server.model("bad").joinpath("model.pkl").write_bytes(b"\x80\x04.")
    assert server.load("bad").status == 500
    server.model("bad").joinpath("model.pkl").write_bytes(pickle.dumps([1, 2]))
    assert "has no predict" in server.load("bad").json["message"]
    folder = server.model("bad")
    (folder / "one.txt").write_text("1")
    (folder / "two.txt").write_text("2")
    answer = server.load("bad")
    assert answer.status == 500
    assert "code/inference.py" in answer.text
    assert "one.txt, two.txt" in answer.text
    server.model("bad")
    assert "no files" in server.load("bad").text
    assert str(server.folder) not in answer.text
    assert server.ask("GET", "/models").json == {"models": []}


def test_truncated_and_flipped_models_are_refused_and_the_server_lives(server: Container) -> None:
    booster(server.model("whole"))
    whole = (server.folder / "models/whole/model/xgboost-model").read_bytes()
    for cut in range(1, len(whole), max(1, len(whole) // 20)):
        server.model("cut").joinpath("xgboost-model").write_bytes(whole[:cut])
        assert server.load("cut").status == 500
    assert server.ask("GET", "/ping").status == 200


def test_a_pickled_booster_loads_too(server: Container) -> None:
    trained = booster(server.model("pickled"), 7.0)
    folder = server.model("pickled")
    (folder / "xgboost-model").write_bytes(pickle.dumps(trained))
    server.loaded("pickled")
    assert server.invoke("pickled", b"1,2,3").json == said_by(trained, [[1, 2, 3]])
    server.ask("DELETE", "/models/pickled")


def test_xgboost_answers_as_awss_container_does(server: Container) -> None:
    trained = booster(server.model("xgb"), 3.0)
    server.loaded("xgb")
    rows = [[1.0, 2.0, 3.0], [4.0, 5.0, 6.0], [-1.0, 0.0, float("nan")]]
    wanted = said_by(trained, rows)
    csv = server.invoke("xgb", b"1,2,3\n4,5,6\n-1,0,\n", accept="text/csv")
    assert csv.text == ",".join(map(str, wanted))
    assert server.invoke("xgb", b"1,2,3").json == wanted[:1]
    assert server.invoke("xgb", b"1,2,3", accept="application/json").json == wanted[:1]
    libsvm = server.invoke("xgb", b"0:1 1:2 2:3\n9 0:-1 1:0\n", "text/x-libsvm")
    assert libsvm.json == [wanted[0], wanted[2]]
    assert server.ask("POST", "/models/xgb/invoke", b"0:1 1:2 2:3").json == wanted[:1]  # no Content-Type
    assert server.invoke("xgb", b"").status == 204
    assert server.invoke("xgb", b"1,2,3", "text/csv; charset=utf-8").status == 200
    assert server.invoke("xgb", b"1,2,3", "application/x-image").status == 415
    assert server.invoke("xgb", b"[1,2,3]", "application/json").status == 415
    assert server.invoke("xgb", b"1,2,3", accept="image/png").status == 415
    assert server.invoke("xgb", b"1,2,3,4").status == 400
    assert server.invoke("xgb", b"a,b,c").status == 400
    assert server.invoke("xgb", b"1" * 7_000_000).status == 413
    server.ask("DELETE", "/models/xgb")


def test_many_calls_at_once_each_get_their_own_answer(server: Container) -> None:
    trained = {name: booster(server.model(name), base) for name, base in (("cheap", 10.0), ("dear", 900.0))}
    for name in trained:
        server.loaded(name)
    connections = [server.connect() for _ in range(60)]
    for number, connection in enumerate(connections):
        name = "cheap" if number % 2 else "dear"
        body = f"{number},1,2".encode() if number % 7 else b"1,2,3,4"
        connection.request("POST", f"/models/{name}/invoke", body, {"Content-Type": "text/csv"})
    for number, connection in enumerate(connections):
        name = "cheap" if number % 2 else "dear"
        response = connection.getresponse()
        if number % 7:
            assert json.loads(response.read()) == said_by(trained[name], [[number, 1, 2]])
        else:
            assert response.status == 400
        connection.close()
    for name in trained:
        server.ask("DELETE", f"/models/{name}")


def test_memory_returns_when_targets_are_unloaded(server: Container) -> None:
    for number in range(3):
        booster(server.model(f"m{number}"), float(number), trees=100)

    def rounds(count: int) -> int:
        for number in range(count):
            name = f"m{number % 3}"
            assert server.load(name).status == 200
            assert server.invoke(name, b"1,2,3").status == 200
            assert server.ask("DELETE", f"/models/{name}").status == 200
        with open(f"/proc/{server.process.pid}/statm") as file:
            return int(file.read().split()[1]) * os.sysconf("SC_PAGE_SIZE")

    before = rounds(60)
    assert rounds(300) < before * 1.05


def test_soon_after_targets_have_left_their_memory_is_the_systems_again(server: Container) -> None:
    folder = server.model("many")
    booster(folder, trees=300)
    names = [f"many{number}" for number in range(40)]

    def private() -> int:
        with open(f"/proc/{server.process.pid}/smaps_rollup") as file:
            return next(int(line.split()[1]) * 1024 for line in file if line.startswith("Private_Dirty"))

    told = [server.load(name, folder).json["memory"] for name in names]
    most = private()
    for name in names:
        assert server.ask("DELETE", f"/models/{name}").status == 200
    end = time.monotonic() + 120
    while private() > most - 0.75 * sum(told):
        assert time.monotonic() < end, (most, sum(told), private())
        time.sleep(0.05)


def test_calls_loads_and_long_calls_at_once_do_not_mix_their_rows(server: Container) -> None:
    trained = booster(server.model("busy"), 40.0)
    booster(server.model("comes"), 90.0)
    server.loaded("busy")
    wanted = said_by(trained, [[number, 1, 2] for number in range(50)])
    long = b"1,2,3".ljust(100_000, b"0")  # one row in a long body: another thread answers it
    with ThreadPoolExecutor(6) as threads:

        def call() -> list[float]:
            with contextlib.closing(server.connect()) as connection:
                bodies = [f"{number},1,2".encode() for number in range(50)]
                replies = [
                    ask(connection, "POST", "/models/busy/invoke", body, content_type="text/csv") for body in bodies
                ]
                return [json.loads(reply.body)[0] for reply in replies]

        def reload() -> None:
            for _ in range(20):
                server.loaded("comes")
                server.invoke("busy", long)
                server.ask("DELETE", "/models/comes")

        reloading = threads.submit(reload)
        calls = [threads.submit(call) for _ in range(30)]
        assert all(one.result() == wanted for one in calls)
        reloading.result()
    server.ask("DELETE", "/models/busy")
