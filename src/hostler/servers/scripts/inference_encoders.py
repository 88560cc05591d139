"""Bodies to arrays and predictions to bodies, as sagemaker_inference's decoder and encoder do, and its errors.

Source: aws/sagemaker-inference-toolkit, decoder.py, encoder.py, errors.py. Media types are compared exactly.
"""

from __future__ import annotations

import io
import json
import zipfile
from typing import TYPE_CHECKING, Any

from hostler.servers.codecs import media
from hostler.servers.scripts.containers_encoders import array_to_json, array_to_npy, npy_to_numpy

if TYPE_CHECKING:
    import numpy as np

SUPPORTED_CONTENT_TYPES = {media.JSON, media.CSV, media.NPY}  # of answers
_NPZ = "application/x-npz"
_NPZ_LIMIT = 2**29  # bytes, unpacked


class UnsupportedFormatError(Exception):
    """A media type that the decoder or the encoder does not know."""

    def __init__(self, content_type: str) -> None:
        super().__init__(
            f"Content type {content_type} is not supported by this framework. A script's input_fn may read it, and its"
            " output_fn may write it."
        )


class BaseInferenceToolkitError(Exception):
    """An error with the status of its answer."""

    def __init__(self, status_code: int, message: str, phrase: str) -> None:
        self.status_code = status_code
        self.message = message
        self.phrase = phrase
        super().__init__(status_code, message, phrase)


class GenericInferenceToolkitError(BaseInferenceToolkitError):
    def __init__(self, status_code: int, message: str | None = None, phrase: str | None = None) -> None:
        message = message or "Invalid Request"
        super().__init__(status_code, message, phrase or message)


def json_to_numpy(text: str | bytes, dtype: Any = None) -> np.ndarray:
    """Return a JSON value as an array; ValueError if its lists' lengths differ."""
    import numpy as np

    array: np.ndarray = np.array(json.loads(text), dtype=dtype)
    return array


def csv_to_numpy(text: str, dtype: Any = None) -> np.ndarray:
    """Return CSV as numpy reads it: by its columns' types. Columns of several types are one array of records."""
    import numpy as np

    table: np.ndarray = np.genfromtxt(io.StringIO(text), dtype=dtype, delimiter=",", encoding=None)
    return table


def npz_to_sparse(body: bytes) -> Any:
    """Return the sparse matrix of scipy's NPZ. Raises ValueError: for arrays of objects, for a body that unpacks to
    too much, and for an index out of range, which libraries would follow outside their memory.
    """
    import scipy.sparse

    try:
        with zipfile.ZipFile(io.BytesIO(body)) as archive:
            unpacked = sum(member.file_size for member in archive.infolist())
        if unpacked > _NPZ_LIMIT:
            raise ValueError(f"it unpacks to more than {_NPZ_LIMIT // 2**20} MB")
        matrix = scipy.sparse.load_npz(io.BytesIO(body))
        if hasattr(matrix, "check_format"):
            matrix.check_format(full_check=True)
    except MemoryError:
        raise
    except Exception as error:  # any exception of the reader's is the body's fault
        raise ValueError(f"The body is no NPZ of a sparse matrix: {str(error) or type(error).__name__}") from None
    return matrix


def array_to_csv(values: Any) -> str:
    """Return lines of values, a line for each of one dimension. Raises ValueError for three dimensions."""
    import numpy as np

    stream = io.StringIO()
    np.savetxt(stream, values, delimiter=",", fmt="%s")
    return stream.getvalue()


def decode(body: Any, content_type: str) -> Any:
    """Return a body's array, or sparse matrix. Raises UnsupportedFormatError, ClientError, ValueError."""
    decoders: dict[str, Any] = {
        media.JSON: json_to_numpy,
        media.CSV: csv_to_numpy,
        media.NPY: npy_to_numpy,
        _NPZ: npz_to_sparse,
    }
    if content_type not in decoders:
        raise UnsupportedFormatError(content_type)
    return decoders[content_type](body)


def encode(values: object, content_type: str) -> str | bytes:
    """Return the body of an array or of plain values. Raises UnsupportedFormatError, TypeError, ValueError."""
    encoders: dict[str, Any] = {media.JSON: array_to_json, media.CSV: array_to_csv, media.NPY: array_to_npy}
    if content_type not in encoders:
        raise UnsupportedFormatError(content_type)
    encoded: str | bytes = encoders[content_type](values)
    return encoded


def encode_accepted(values: object, accept: str) -> tuple[str | bytes, str]:
    """Return the body and its media type: the first of Accept's that there is. Raises as `encode` does."""
    for media_type in accept.replace(" ", "").split(","):
        if media_type in SUPPORTED_CONTENT_TYPES:
            return encode(values, media_type), media_type
    raise UnsupportedFormatError(accept)
