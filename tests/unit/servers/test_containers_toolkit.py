"""Scripts on the scikit-learn image, and what the XGBoost image shares with it. No process is needed to show it."""

from __future__ import annotations

import io
import json
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from hostler.failures import Code
from hostler.servers import environment, error_text
from hostler.servers.frameworks import registry
from hostler.servers.frameworks.predictor import Call, Predictor, Reply, Stream, Unloadable
from hostler.servers.images import table
from hostler.servers.images.profile import Profile
from hostler.servers.scripts import flask_response
from hostler.servers.scripts.containers_encoders import ClientError, UnsupportedFormatError
from hostler.servers.scripts.flask_response import Response

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"
SHOW = """
def model_fn(d): return None
def predict_fn(data, model): return {"dtype": str(data.dtype), "shape": list(data.shape), "data": data.tolist()}
"""
ECHO = """
class Model:
    def predict(self, data, **_): return data
def model_fn(d): return Model()
"""
RETURN = """
from hostler.servers.scripts.flask_response import Response
def model_fn(d): return None
def transform_fn(model, body, content_type, accept): return {}
"""


pytestmark = pytest.mark.usefixtures("as_in_a_process_of_its_own")


def loaded(folder: Path, text: str, image: str = "sagemaker-scikit-learn:1.2-1", multi: bool = False) -> Predictor:
    (folder / "code").mkdir(parents=True, exist_ok=True)
    (folder / "code/inference.py").write_text(text)
    variables = {"SAGEMAKER_BASE_DIR": str(folder), "HOSTLER_IMAGE": image, "SAGEMAKER_MULTI_MODEL": str(multi).lower()}
    return registry.load(folder, "script", environment.read({**variables, "HOSTLER_FRAMEWORK": "sklearn"}))


def reply(predictor: Predictor, body: bytes, content_type: str = JSON, accept: str = "") -> Reply:
    found = predictor.predict([Call(body, content_type, accept)])[0]
    assert isinstance(found, Reply)
    return found


def told(predictor: Predictor, body: bytes, content_type: str = JSON) -> Any:
    return json.loads(reply(predictor, body, content_type).body)


def npy(values: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, values)
    return stream.getvalue()


def status(predictor: Predictor, body: bytes, content_type: str = JSON, accept: str = "") -> int:
    """Return the status of the answer to a call that fails, whoever makes an answer of the error."""
    try:
        answered = predictor.predict([Call(body, content_type, accept)])[0]
    except Exception as error:
        answered = error_text.reply(error, environment.read({}))
    assert isinstance(answered, Reply)
    assert answered.status >= 400
    return answered.status


# --- what the image supplies: sagemaker_sklearn_container/serving.py, sagemaker_containers/_encoders.py -------------


@pytest.mark.parametrize(
    ("body", "content_type", "values"),
    [
        (b"[42, 6, 9]", JSON, [42, 6, 9]),
        (b'["42", "6", "9"]', JSON, [42, 6, 9]),  # the image's own test has it
        (b"[[0.5, null], [1, 2]]", JSON, [[0.5, np.nan], [1, 2]]),
        (b"1,2\n3,4.5", CSV, [[1, 2], [3, 4.5]]),
        (b'"1","2"\n"3","4"\r\n', CSV, [[1, 2], [3, 4]]),
        (b"1,2,3", CSV, [1, 2, 3]),
        (b"42\n6\n9\n", CSV, [42, 6, 9]),
    ],
)
def test_json_and_csv_become_float32_also_from_text_and_in_quotes(
    tmp_path: Path, body: bytes, content_type: str, values: Any
) -> None:
    found = told(loaded(tmp_path, SHOW), body, content_type)
    np.testing.assert_array_equal(np.array(found["data"]), np.array(values))
    assert found["dtype"] == "float32"


def test_an_empty_json_object_stays_one_for_a_predict_fn_that_looks_at_no_input(tmp_path: Path) -> None:
    predictor = loaded(tmp_path, SHOW)
    assert told(predictor, b"{}", JSON) == {"dtype": "object", "shape": [], "data": {}}
    assert status(predictor, b"[{}]", JSON) == 500


def test_npy_keeps_its_type_and_its_shape_and_objects_are_never_unpickled(tmp_path: Path) -> None:
    predictor = loaded(tmp_path, SHOW)
    assert told(predictor, npy(np.arange(3)), NPY) == {"dtype": "int64", "shape": [3], "data": [0, 1, 2]}
    assert told(predictor, npy(np.array(["a"])), NPY)["dtype"] == "<U1"
    assert status(predictor, npy(np.array([{}])), NPY) == 500
    assert status(predictor, npy(np.arange(3))[:-1], NPY) == 500


@pytest.mark.parametrize(
    ("accept", "content_type", "body"),
    [
        ("", JSON, b"[[1.0, 2.0], [3.0, 4.0]]"),
        ("*/*", JSON, b"[[1.0, 2.0], [3.0, 4.0]]"),
        (CSV, "text/csv; charset=utf-8", b"1.0,2.0\n3.0,4.0\n"),
        (NPY, NPY, npy(np.array([[1, 2], [3, 4]], np.float32))),
    ],
)
def test_a_prediction_is_written_as_accept_says(tmp_path: Path, accept: str, content_type: str, body: bytes) -> None:
    found = reply(loaded(tmp_path, ECHO), b"[[1, 2], [3, 4]]", accept=accept)
    assert (found.status, found.content_type, found.body) == (200, content_type, body)


def test_one_dimension_is_a_column_of_csv(tmp_path: Path) -> None:
    assert reply(loaded(tmp_path, ECHO), b"[1, 2]", accept=CSV).body == b"1.0\n2.0\n"


def test_the_environment_says_what_is_answered_without_accept(tmp_path: Path) -> None:
    (tmp_path / "code").mkdir()
    (tmp_path / "code/inference.py").write_text(ECHO)
    variables = {"HOSTLER_IMAGE": "sagemaker-scikit-learn", "SAGEMAKER_DEFAULT_INVOCATIONS_ACCEPT": CSV}
    predictor = registry.load(tmp_path, "script", environment.read({**variables, "HOSTLER_FRAMEWORK": "sklearn"}))
    assert reply(predictor, b"[1]").body == b"1.0\n"


@pytest.mark.parametrize(
    ("body", "content_type", "accept"),
    [
        (b"x", "image/png", ""),
        (b"1,2", "text/csv; charset=utf-8", ""),  # media types are compared whole
        (b"[[1]]", JSON, "image/png"),
        (b"[[1]]", JSON, "application/json, text/csv"),
        (b"{", JSON, ""),
        (b'[{"a": 1}]', JSON, ""),
        (b"[[1], [1, 2]]", JSON, ""),
        (b"a,b", CSV, ""),
        (b"1,2\n3", CSV, ""),
        (b"\xff", JSON, ""),
    ],
)
def test_a_body_or_a_type_that_the_image_does_not_take_is_a_500(
    tmp_path: Path, body: bytes, content_type: str, accept: str
) -> None:
    assert status(loaded(tmp_path, ECHO), body, content_type, accept) == 500


def test_an_error_of_a_script_is_a_500_whatever_status_it_says(tmp_path: Path) -> None:
    text = """
class Refused(Exception):
    status_code = 422
def model_fn(d): return None
def predict_fn(data, model): raise Refused("not this one")
"""
    assert status(loaded(tmp_path, text), b"[1]") == 500


# --- how the script is called: sagemaker_containers/_transformer.py, _worker.py -------------------------------------


@pytest.mark.parametrize(
    ("content_type", "seen"),
    [
        (CSV, [CSV, "str"]),
        ("", [JSON, "str"]),
        ("text/csv; charset=utf-8", ["text/csv; charset=utf-8", "bytes"]),
        ("Multipart/Form-Data; boundary=AbC", ["Multipart/Form-Data; boundary=AbC", "bytes"]),
    ],
)
def test_a_script_sees_the_content_type_as_it_came_and_text_for_exactly_json_and_csv(
    tmp_path: Path, content_type: str, seen: list[str]
) -> None:
    text = """
def model_fn(d): return None
def input_fn(body, content_type): return [content_type, type(body).__name__]
def predict_fn(data, model): return data
"""
    assert told(loaded(tmp_path, text), b"1\xff", content_type) == seen


def test_a_script_sees_accept_as_it_came_and_no_context(tmp_path: Path) -> None:
    text = """
def model_fn(d): return None
def transform_fn(model, body, content_type, accept, context="none is given"):
    return {"accept": accept, "context": context}
"""
    found = reply(loaded(tmp_path, text), b"", accept="text/csv; q=0.5, image/*")
    assert found.body == b'{"accept":"text/csv; q=0.5, image/*","context":"none is given"}\n'


@pytest.mark.parametrize(
    "image", ["sagemaker-scikit-learn:0.23-1-cpu-py3", "sagemaker-scikit-learn:1.0-1", "sagemaker-xgboost:0.90-2"]
)
def test_older_images_know_no_transform_fn(tmp_path: Path, image: str) -> None:
    text = f"{ECHO}def input_fn(body, content_type): return body\ndef transform_fn(m, b, c, a): return 'transformed'\n"
    assert reply(loaded(tmp_path, text, image), b"as it came").body == b'"as it came"'


@pytest.mark.parametrize("image", ["sagemaker-scikit-learn:1.2-1", "sagemaker-xgboost:1.0-1"])
def test_newer_images_take_transform_fn_or_the_others(tmp_path: Path, image: str) -> None:
    text = "def model_fn(d): return None\ndef transform_fn(m, b, c, a): return 'transformed'\n"
    assert reply(loaded(tmp_path, text, image), b"").body == b"transformed"
    (tmp_path / "two").mkdir()
    with pytest.raises(Unloadable) as raised:
        loaded(tmp_path / "two", f"{text}def output_fn(p, a): pass\n", image)
    assert raised.value.code == Code.FUNCTIONS_CLASH


@pytest.mark.parametrize("multi", [False, True])
def test_model_fn_is_required_of_a_script(tmp_path: Path, multi: bool) -> None:
    with pytest.raises(Unloadable, match="no model_fn"):
        loaded(tmp_path, "def predict_fn(data, model): return data\n", multi=multi)


def test_a_model_without_predict_needs_a_predict_fn(tmp_path: Path) -> None:
    with pytest.raises(Unloadable, match="neither predict_fn nor transform_fn"):
        loaded(tmp_path, "def model_fn(d): return 1\n")


def test_a_script_of_one_model_works_outside_the_models_folder_which_is_not_on_the_path(tmp_path: Path) -> None:
    text = """
import os, sys
def model_fn(d): return [os.getcwd() == d, d in sys.path, f"{d}/code" in sys.path]
def predict_fn(data, model): return model
"""
    assert told(loaded(tmp_path, text), b"[1]") == [False, False, True]


# --- what a script may return: Flask's make_response, werkzeug's Response ------------------------------------------


def test_a_response_goes_through_with_body_status_type_and_headers(tmp_path: Path) -> None:
    text = """
from sagemaker_containers.beta.framework import worker
def model_fn(d): return None
def input_fn(body, content_type): return body
def predict_fn(data, model): return data
def output_fn(prediction, accept):
    headers = {"X-Amzn-SageMaker-Custom-Attributes": "trace", "Content-Length": "99"}
    return worker.Response(prediction, status=201, headers=headers, mimetype="text/plain")
"""
    found = reply(loaded(tmp_path, text), b"said")
    assert found[:3] == (201, b"said", "text/plain; charset=utf-8")
    assert found.headers == (("X-Amzn-SageMaker-Custom-Attributes", "trace"),)


class Werkzeugs:
    """As much of an object of werkzeug's as is used."""

    status_code = 422
    content_type = "text/plain; charset=utf-8"
    headers = {"Content-Type": content_type, "X-Why": "because"}  # noqa: RUF012

    def get_data(self, as_text: bool = False) -> bytes:
        return b"no"


def test_a_response_of_another_class_goes_through_by_its_members() -> None:
    assert flask_response.answer(Werkzeugs()) == Reply(422, b"no", Werkzeugs.content_type, (("X-Why", "because"),))


@pytest.mark.parametrize(
    ("value", "answer"),
    [
        ("text", Reply(200, b"text", "text/html; charset=utf-8")),
        (b"bytes", Reply(200, b"bytes", "text/html; charset=utf-8")),
        ({"b": 1, "a": [2]}, Reply(200, b'{"a":[2],"b":1}\n', JSON)),
        (Response("x"), Reply(200, b"x", "text/html; charset=utf-8")),
        (Response(b"{}", mimetype=JSON), Reply(200, b"{}", JSON)),
        (Response(["a", b"b"], 202, content_type="x/y"), Reply(202, b"ab", "x/y")),
        (Response(None, "404 NOT FOUND", mimetype="image/svg+xml"), Reply(404, b"", "image/svg+xml; charset=utf-8")),
        (Response("x", headers=[("content-type", "a/b"), ("X-A", "1")]), Reply(200, b"x", "a/b", (("X-A", "1"),))),
    ],
)
def test_a_value_is_answered_as_flask_answers_it(value: Any, answer: Reply) -> None:
    assert flask_response.answer(value) == answer


@pytest.mark.parametrize("value", [None, 1, [1], np.zeros(1), 1.5])
def test_a_value_that_flask_has_no_answer_for_is_an_error(value: Any) -> None:
    with pytest.raises(TypeError, match="which is no answer"):
        flask_response.answer(value)


@pytest.mark.parametrize("value", [Response([5]), Response("x", 100), Response("x", 600)])
def test_a_response_that_cannot_be_sent_is_an_error(value: Response) -> None:
    with pytest.raises((TypeError, ValueError), match=r"a piece of a Response|none of 200 to 599"):
        flask_response.answer(value)


def test_a_tuple_is_a_body_and_its_media_type(tmp_path: Path) -> None:
    text = "def model_fn(d): return 0\ndef transform_fn(m, body, c, accept): return body.upper(), 'text/plain'\n"
    found = reply(loaded(tmp_path, text), b"said")
    assert (found.body, found.content_type) == (b"SAID", "text/plain; charset=utf-8")


def test_an_iterator_also_a_responses_is_sent_piece_by_piece() -> None:
    for value in (iter(["a", "b"]), Response(iter(["a", "b"]))):
        found = flask_response.answer(value)
        assert isinstance(found, Stream)
        assert [piece if isinstance(piece, str) else piece.decode() for piece in found.pieces] == ["a", "b"]
        assert found.content_type == "text/html; charset=utf-8"


def test_a_response_has_flasks_members() -> None:
    phrases = [Response(status=status).status for status in (413, 414, 416, 499)]
    assert phrases == [
        "413 REQUEST ENTITY TOO LARGE",
        "414 REQUEST URI TOO LONG",
        "416 REQUESTED RANGE NOT SATISFIABLE",
        "499 UNKNOWN",
    ]
    response = Response("täg", 422, mimetype="text/plain")
    assert (response.status, response.mimetype, response.content_type) == (
        "422 UNPROCESSABLE ENTITY", "text/plain", "text/plain; charset=utf-8",
    )  # fmt: skip
    assert (response.data, response.get_data(as_text=True)) == ("täg".encode(), "täg")
    response.data = "other"
    response.headers["X-A"] = "1"
    assert flask_response.answer(response) == Reply(422, b"other", "text/plain; charset=utf-8", (("X-A", "1"),))
    assert Response(status=599).status == "599 UNKNOWN"
    response.status, response.mimetype = "202 ACCEPTED", "text/csv"
    assert (response.status_code, response.content_type) == (202, "text/csv; charset=utf-8")
    response.status, response.content_type = 418, "a/b"
    assert (response.status_code, response.mimetype) == (418, "a/b")


# --- many models: sagemaker_sklearn_container/handler_service.py, sagemaker_inference ------------------------------


@pytest.mark.parametrize(
    ("body", "content_type", "dtype", "shape"),
    [
        (b"[1, 2, 3]", JSON, "float32", [1, 3]),
        (b'["1", "2", "3"]', JSON, "float32", [1, 3]),
        (b"[[1, 2], [3, 4]]", JSON, "float32", [2, 2]),
        (b"1,2,3", CSV, "float32", [1, 3]),
        (b"42\n6\n9", CSV, "float32", [1, 3]),  # a column is taken for a row, as the image's own test has it
        (npy(np.arange(3.0)), NPY, "float64", [1, 3]),
    ],
)
def test_behind_multi_model_one_row_is_a_row_of_a_table(
    tmp_path: Path, body: bytes, content_type: str, dtype: str, shape: list[int]
) -> None:
    found = told(loaded(tmp_path, SHOW, multi=True), body, content_type)
    assert (found["dtype"], found["shape"]) == (dtype, shape)


@pytest.mark.parametrize("body", [b"1,2.5", b'"1","2"', b"a,1"])
def test_behind_multi_model_csv_is_read_by_numpy_whose_records_and_texts_are_no_floats(
    tmp_path: Path, body: bytes
) -> None:
    assert status(loaded(tmp_path, ECHO, multi=True), body, CSV) == 500


@pytest.mark.parametrize("content_type", ["application/x-npz", "text/csv; charset=utf-8", "image/png"])
def test_behind_multi_model_other_types_are_a_500(tmp_path: Path, content_type: str) -> None:
    assert status(loaded(tmp_path, ECHO, multi=True), b"1,2", content_type) == 500


def test_behind_multi_model_a_prediction_is_written_as_accept_says(tmp_path: Path) -> None:
    predictor = loaded(tmp_path, ECHO, multi=True)
    assert reply(predictor, b"[[1, 2]]")[:3] == (200, b"[[1.0, 2.0]]", JSON)
    assert reply(predictor, b"[[1, 2]]", accept=CSV)[:3] == (200, b"1.0,2.0\n", CSV)
    assert status(predictor, b"[[1, 2]]", accept="image/png") == 500


def test_behind_multi_model_a_function_may_take_a_context(tmp_path: Path) -> None:
    text = """
def model_fn(d, context): return context.system_properties["model_dir"] == d
def predict_fn(data, model): return [model]
"""
    assert told(loaded(tmp_path, text, multi=True), b"[1]") == [True]


@pytest.mark.parametrize(
    ("tag", "wanted"), [("0.20.0-cpu-py3", None), ("0.23-1-cpu-py3", "/opt/ml/model"), ("1.2-1", "/opt/ml/model")]
)
def test_a_script_has_the_variables_that_the_image_sets(tag: str, wanted: str | None) -> None:
    profile = table.find("sagemaker-scikit-learn", tag)
    assert isinstance(profile, Profile)
    assert profile.variables.get("SM_MODEL_DIR") == wanted
    assert profile.variables["SAGEMAKER_SERVING_MODULE"] == "sagemaker_sklearn_container.serving:main"


def test_the_encoders_errors_say_which_type_they_do_not_know() -> None:
    assert "image/png" in str(UnsupportedFormatError("image/png"))
    assert issubclass(ClientError, Exception)
