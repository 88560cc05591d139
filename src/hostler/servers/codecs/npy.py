"""NPY: an array from a file of plain numbers. Nothing is ever unpickled."""

from __future__ import annotations

import io
import math
from functools import lru_cache
from typing import TYPE_CHECKING

from hostler.servers.frameworks.predictor import Rejected

if TYPE_CHECKING:
    import numpy as np

_LONGEST_CACHED = 256  # bytes; longer headers are not cached


def array(body: bytes, kinds: str = "biuf") -> np.ndarray:
    """Return the array of an NPY file; it is never larger than the file. Raises Rejected (400).

    `kinds`: numpy's kinds of cells that it may have, by default plain numbers.
    """
    import numpy as np

    end = 10 + int.from_bytes(body[8:10], "little")  # of the header of version 1.0, the usual one
    header = _cached_header if body[6:8] == b"\x01\x00" and end <= _LONGEST_CACHED else _parsed_header
    shape, fortran, dtype, start = header(body[:end] if header is _cached_header else body)
    if dtype.hasobject or dtype.kind not in kinds:
        raise Rejected(400, "The NPY body holds something else than numbers.")
    size = math.prod(shape) * dtype.itemsize
    if min(shape, default=0) < 0 or size != len(body) - start:
        raise Rejected(400, "The NPY body is not as long as its header says.")
    numbers: np.ndarray = np.frombuffer(body, dtype, offset=start)
    return numbers.reshape(shape, order="F" if fortran else "C")


def _parsed_header(body: bytes) -> tuple[tuple[int, ...], bool, np.dtype, int]:
    """Return the shape, whether it is in Fortran order, the dtype and the numbers' offset. Raises Rejected (400)."""
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
    except Exception as error:  # any exception of the parser's is the header's fault
        raise Rejected(400, f"The body is not NPY: {type(error).__name__}") from None
    return shape, fortran, dtype, stream.tell()


# A header is a Python literal: parsing it takes ten times as long as a row of numbers, and callers repeat it.
_cached_header = lru_cache(maxsize=256)(_parsed_header)
