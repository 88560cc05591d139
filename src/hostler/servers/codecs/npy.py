"""NPY: an array from a file of plain numbers. Nothing is ever unpickled."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import Any

from hostler.servers.frameworks.predictor import Rejected

_SHORT_HEADER = 256  # bytes of an NPY body's header that is worth remembering


def array(body: bytes) -> Any:
    """The array of an NPY file of plain numbers, never larger than the file. Raises Rejected."""
    import numpy as np

    end = 10 + int.from_bytes(body[8:10], "little")  # of the header, in version 1.0, which nearly all are
    header = _short_npy_header if body[6:8] == b"\x01\x00" and end <= _SHORT_HEADER else _npy_header
    shape, fortran, dtype, start = header(body[:end] if header is _short_npy_header else body)
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != len(body) - start:
        raise Rejected(400, "The NPY body is not as long as its header says.")
    return np.frombuffer(body, dtype, offset=start).reshape(shape, order="F" if fortran else "C")


def _npy_header(body: bytes) -> tuple[tuple[int, ...], bool, Any, int]:
    """Shape, whether the columns come first, type, and where the numbers begin. Raises Rejected."""
    import numpy as np

    stream = io.BytesIO(body)
    try:
        version = np.lib.format.read_magic(stream)
        if version not in ((1, 0), (2, 0)):
            raise Rejected(400, "The NPY body has a version other than 1.0 and 2.0.")
        read = np.lib.format.read_array_header_1_0 if version == (1, 0) else np.lib.format.read_array_header_2_0
        shape, fortran, dtype = read(stream)
    except Rejected:
        raise
    except Exception as error:  # whatever the header's parser stumbles over, it is the header's fault
        raise Rejected(400, f"The body is not NPY: {type(error).__name__}") from None
    if dtype.hasobject or dtype.kind not in "biuf":
        raise Rejected(400, "The NPY body holds something else than numbers.")
    return shape, fortran, dtype, stream.tell()


# A header is a Python literal, which takes ten times as long to read as a row of numbers; callers send the same ones.
_short_npy_header = lru_cache(maxsize=256)(_npy_header)
