"""Bodies and predictions of the Hugging Face images, as decoder_encoder.py of their toolkit treats them."""

from __future__ import annotations

import base64
import datetime
import io
import json
from typing import Any

import numpy as np
import pytest

from hostler.servers.frameworks.predictor import Rejected
from hostler.servers.scripts.containers_encoders import ClientError
from hostler.servers.scripts.huggingface_encoders import decode, encode

JSON, CSV, NPY = "application/json", "text/csv", "application/x-npy"


def npy(array: Any) -> bytes:
    stream = io.BytesIO()
    np.save(stream, array)
    return stream.getvalue()


def picture(form: str = "PNG") -> bytes:
    image = pytest.importorskip("PIL.Image")
    stream = io.BytesIO()
    image.new("RGB", (2, 3), (255, 0, 0)).save(stream, format=form)
    return stream.getvalue()


@pytest.mark.parametrize(
    ("body", "content_type", "wanted"),
    [
        ('["a", "b"]', JSON, ["a", "b"]),
        ("[1, 2]", JSON, [1, 2]),
        ('{"inputs": "a", "parameters": {"top_k": 1}}', JSON, {"inputs": "a", "parameters": {"top_k": 1}}),
        ('"a"', JSON, "a"),
        ("inputs\nhello\nworld\n", CSV, {"inputs": ["hello", "world"]}),
        ("inputs,more\nhello,1\n", CSV, {"inputs": ["hello"]}),
        ('inputs\n"a, b"\n', CSV, {"inputs": ["a, b"]}),
        ("question,context\nwho,me\n", CSV, {"inputs": [{"question": "who", "context": "me"}]}),
        ("my context\nme\n", CSV, {"inputs": [{"my context": "me"}]}),
        ("Inputs\nhello\n", CSV, {"inputs": [{"Inputs": "hello"}]}),
        (b"RIFF", "audio/wave", {"inputs": b"RIFF"}),
        (b"RIFF", "audio/x-audio", {"inputs": b"RIFF"}),
        (b"RIFF", "audio/wav", {"inputs": b"RIFF"}),
    ],
)
def test_a_body_becomes_a_pipelines_inputs(body: str | bytes, content_type: str, wanted: object) -> None:
    assert decode(body, content_type) == wanted


def test_npy_becomes_an_array_of_its_own_type() -> None:
    array = decode(npy(np.array([[1, 2]], dtype=np.int16)), NPY)
    assert array.dtype == np.int16
    assert array.tolist() == [[1, 2]]
    assert decode(npy(np.array(["hello"])), NPY).tolist() == ["hello"]


def test_npy_of_objects_is_never_unpickled() -> None:
    stream = io.BytesIO()
    np.save(stream, np.array([{}], dtype=object), allow_pickle=True)
    with pytest.raises(ClientError):
        decode(stream.getvalue(), NPY)


def test_a_picture_becomes_one_of_pillows_in_rgb() -> None:
    for form, content_type in (("PNG", "image/png"), ("JPEG", "image/jpeg"), ("GIF", "image/x-image")):
        image = decode(picture(form), content_type)["inputs"]
        assert (image.size, image.mode) == ((2, 3), "RGB")


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        ("1,2\n3,4\n", CSV, "a first line of column names"),
        ("", CSV, "a first line of column names"),
        ("inputs\n", CSV, "no line after its column names"),
        ("{}", "application/json; charset=utf-8", "Content type application/json; charset=utf-8 has no default"),
        (b"x", "application/octet-stream", "has no default input_fn"),
        (b"x", "application/x-npz", "has no default input_fn"),
        (b"x", "image/svg+xml", "has no default input_fn"),
        (b"x", None, "Content type None"),
    ],
)
def test_a_body_that_the_toolkit_does_not_decode_is_rejected(
    body: str | bytes, content_type: str | None, reason: str
) -> None:
    with pytest.raises(Rejected, match=reason) as caught:
        decode(body, content_type)
    assert caught.value.status == 400


@pytest.mark.parametrize("content_type", ["image/png", "audio/wave"])
def test_images_before_transformers_4_17_take_no_pictures_and_no_audio(content_type: str) -> None:
    with pytest.raises(Rejected, match="has no default input_fn"):
        decode(b"x", content_type, pictures=False)


@pytest.mark.parametrize(
    ("prediction", "wanted"),
    [
        ([{"label": "é", "score": 0.5}], '[{"label":"é","score":0.5}]'),
        ({"score": np.float32(0.5), "index": np.int64(1)}, '{"score":0.5,"index":1}'),
        (np.array([[1, 2]]), "[[1,2]]"),
        ({"at": datetime.datetime(2020, 1, 2)}, '{"at":"2020-01-02 00:00:00"}'),
        ("text", '"text"'),
    ],
)
def test_a_prediction_becomes_json_without_spaces(prediction: object, wanted: str) -> None:
    assert encode(prediction, JSON) == wanted


def test_a_picture_becomes_its_bytes_and_in_json_base64_of_a_png() -> None:
    image = decode(picture(), "image/png")["inputs"]
    body = encode(image, "image/jpeg")
    assert isinstance(body, bytes)
    assert body.startswith(b"\xff\xd8")
    assert encode(image, "image/x-image")[:4] == b"\x89PNG"
    assert base64.b64decode(json.loads(encode([image], JSON))[0]).startswith(b"\x89PNG")


def test_records_become_csv_with_a_line_of_column_names() -> None:
    assert encode([{"label": "A", "score": 0.5}], CSV) == "label,score\r\nA,0.5\r\n"


def test_a_prediction_becomes_npy() -> None:
    body = encode([[1.0, 2.0]], NPY)
    assert isinstance(body, bytes)
    assert np.load(io.BytesIO(body)).tolist() == [[1.0, 2.0]]
    body = encode([{"label": "A"}], NPY)
    assert isinstance(body, bytes)
    assert np.load(io.BytesIO(body), allow_pickle=True).tolist() == [{"label": "A"}]


@pytest.mark.parametrize(
    ("prediction", "accept", "error"),
    [
        (float("nan"), JSON, ValueError),
        ({1}, JSON, TypeError),
        (datetime.date(2020, 1, 2), JSON, TypeError),
        ({"a": 1}, CSV, AttributeError),
        ([1], "application/jsonlines", Rejected),
        ([1], "application/json, text/csv", Rejected),
    ],
)
def test_a_prediction_that_has_no_such_form_is_an_error(
    prediction: object, accept: str, error: type[Exception]
) -> None:
    with pytest.raises(error):
        encode(prediction, accept)
