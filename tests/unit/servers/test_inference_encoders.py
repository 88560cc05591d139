"""Bodies and predictions, as sagemaker_inference's decoder.py and encoder.py do: beside the library itself."""

from __future__ import annotations

import io
import zipfile

import numpy as np
import pytest
import scipy.sparse

from hostler.servers.scripts.containers_encoders import ClientError
from hostler.servers.scripts.inference_encoders import UnsupportedFormatError, decode, encode, encode_accepted

NPZ = "application/x-npz"


@pytest.mark.parametrize(
    ("text", "kind", "dtype", "shape"),
    [
        ("1,2,3", "text/csv", "int64", (3,)),
        ("1.5,2.5", "text/csv", "float64", (2,)),
        ("1,2\n3,4\n", "text/csv", "int64", (2, 2)),
        ("1\n2\n", "text/csv", "int64", (2,)),
        ("1,2\n# none\n3,4", "text/csv", "int64", (2, 2)),
        ("[[1, 2]]", "application/json", "int64", (1, 2)),
        ("[[1, 2.5]]", "application/json", "float64", (1, 2)),
        ("[]", "application/json", "float64", (0,)),
        ("[NaN]", "application/json", "float64", (1,)),
    ],
)
def test_a_body_is_the_array_that_numpy_makes_of_it(text: str, kind: str, dtype: str, shape: tuple[int, ...]) -> None:
    array = decode(text, kind)
    assert isinstance(array, np.ndarray)
    assert (str(array.dtype), array.shape) == (dtype, shape)


@pytest.mark.require("sagemaker_inference", "newest_numpy")
@pytest.mark.parametrize("text", ["1,2.5", "1.5,,3", "a,b", "1,2\n3,4", "1\n2", '"a",1', "1;2", "1,2\n"])
def test_csv_is_the_array_that_the_toolkit_itself_makes(text: str) -> None:
    from sagemaker_inference import decoder

    array, wanted = decode(text, "text/csv"), decoder.decode(text, "text/csv")
    assert isinstance(array, np.ndarray)
    assert (array.dtype, array.shape, array.tolist()) == (wanted.dtype, wanted.shape, wanted.tolist())


@pytest.mark.require("sagemaker_inference")
@pytest.mark.parametrize("prediction", [[1, 2.5], [[1, 2], [3, 4]], ["a", "b"], np.float32(1.5), 5, {"a": 1}])
@pytest.mark.parametrize("kind", ["text/csv", "application/json", "application/x-npy"])
def test_a_prediction_is_the_body_that_the_toolkit_itself_makes(prediction: object, kind: str) -> None:
    from sagemaker_inference import encoder

    try:
        wanted = encoder.encode(prediction, kind)
    except ValueError as error:
        with pytest.raises(ValueError, match=str(error)):
            encode(prediction, kind)
        return
    assert encode(prediction, kind) == wanted


def test_a_sparse_matrix_is_read_and_its_indices_are_checked() -> None:
    matrix = scipy.sparse.csr_matrix(np.eye(3, dtype=np.float32))
    stream = io.BytesIO()
    scipy.sparse.save_npz(stream, matrix)
    read = decode(stream.getvalue(), NPZ)
    assert (read != matrix).nnz == 0  # type: ignore[attr-defined]
    matrix.indices[0] = 7
    stream = io.BytesIO()
    scipy.sparse.save_npz(stream, matrix)
    with pytest.raises(ValueError, match="no NPZ of a sparse matrix"):
        decode(stream.getvalue(), NPZ)


def test_a_body_that_unpacks_to_too_much_is_refused() -> None:
    stream = io.BytesIO()
    with zipfile.ZipFile(stream, "w") as archive:
        archive.writestr("data.npy", b"")
        archive.filelist[0].file_size = 2**30
    with pytest.raises(ValueError, match="unpacks to more than 512 MB"):
        decode(stream.getvalue(), NPZ)


@pytest.mark.parametrize(
    ("body", "kind", "error"),
    [
        ("{", "application/json", ValueError),
        ("[[1], [2, 3]]", "application/json", ValueError),
        ("1,2\n3", "text/csv", ValueError),
        (b"x", "application/x-npy", ClientError),
        (b"x", NPZ, ValueError),
        (b"x", "image/png", UnsupportedFormatError),
        (b"1,2", "text/csv; charset=utf-8", UnsupportedFormatError),
        (b"{}", "Application/JSON", UnsupportedFormatError),
        (b"{}", None, UnsupportedFormatError),
    ],
)
def test_a_body_that_is_none_raises(body: str | bytes, kind: str, error: type[Exception]) -> None:
    with pytest.raises(error):
        decode(body, kind)


@pytest.mark.parametrize(
    ("prediction", "accept", "body", "kind"),
    [
        (np.array([1.5, 2]), "application/json", b"[1.5, 2.0]", "application/json"),
        ({"a": np.float32(1)}, "application/json", b'{"a": 1.0}', "application/json"),
        (np.array([[1, 2], [3, 4]]), "text/csv", b"1,2\n3,4\n", "text/csv"),
        ([1.5, 2.0], "text/csv", b"1.5\n2.0\n", "text/csv"),
        ([1], "image/png, text/csv,application/json", b"1\n", "text/csv"),
    ],
)
def test_a_prediction_is_encoded_as_the_first_type_of_accept_that_there_is(
    prediction: object, accept: str, body: bytes, kind: str
) -> None:
    found, media_type = encode_accepted(prediction, accept)
    assert (found if isinstance(found, bytes) else found.encode(), media_type) == (body, kind)


def test_npy_is_written_and_read() -> None:
    body, kind = encode_accepted([[1.5, 2.0]], "application/x-npy")
    assert isinstance(body, bytes)
    assert kind == "application/x-npy"
    assert np.load(io.BytesIO(body)).tolist() == [[1.5, 2.0]]


def test_npy_of_objects_is_pickled_for_a_caller_who_unpickles_it() -> None:
    body = encode(np.array(["cat", "dog"], dtype=object), "application/x-npy")
    assert isinstance(body, bytes)
    assert np.load(io.BytesIO(body), allow_pickle=True).tolist() == ["cat", "dog"]


@pytest.mark.parametrize("accept", ["image/png", "text/csv;q=0.5", "text/*", "application/json; charset=utf-8"])
def test_an_accept_of_no_type_that_there_is_is_refused(accept: str) -> None:
    with pytest.raises(UnsupportedFormatError):
        encode_accepted([1], accept)
